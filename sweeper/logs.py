"""The log of events: one structured line per event in a file per sweep, and messages to stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Emit = Callable[[str, Mapping[str, Any]], None]  # takes one event: what happened, and its fields


class EventLog:
    """Appends ``{"at", "action", ...}`` as one JSON line per event to ``<home>/sweeps/<sweep>/events.jsonl``.

    A full disk never stops a sweep: a line that cannot be written is left out.
    """

    def __init__(self, home: Path, sweep: str) -> None:
        self.folder = home / "sweeps" / sweep
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = (self.folder / "events.jsonl").open("a", encoding="utf-8")

    def __call__(self, action: str, fields: Mapping[str, Any]) -> None:
        """Write one line."""
        line = json.dumps({"at": round(time.time(), 3), "action": action, **fields}, default=str)
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except (OSError, ValueError):
            return

    def close(self) -> None:
        """Close the file."""
        try:
            self._file.close()
        except OSError:
            return


def log_to_stderr() -> None:
    """Our own messages, and the warnings of everybody else: for a process that nobody looks at."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("sweeper").setLevel(logging.INFO)
