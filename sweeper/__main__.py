"""``python -m sweeper`` is the command line."""

from sweeper.cli import main

main()
