"""``python -m sweeper`` is the command line."""

from sweeper.cli.app import main

main()
