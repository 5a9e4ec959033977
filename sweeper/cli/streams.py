"""The process's three streams: one that is closed, full or of few letters ends no verb with a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO


def prepare() -> None:
    """Replace closed streams by ones that swallow or give nothing, and escape letters that the terminal lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the process's life
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def tell(text: str, stream: TextIO | None = None) -> None:
    """Print one message (default: on stderr); a reader that is gone or a full disk must not stop the program."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=stream or sys.stderr, flush=True)


def let_go() -> None:
    """Write what stdout still holds nowhere: nobody reads it any more, and Python would complain at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def as_text(argument: str) -> str:
    """An argument of the command line as text: UTF-8, whatever letters the system says it has."""
    return os.fsencode(argument).decode("utf-8", "backslashreplace")
