"""One structured line per event in a log file per sweep."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
