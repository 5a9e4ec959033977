"""The files of a sweep's trials: what each has printed, and the artifacts that it keeps."""

from __future__ import annotations

import shutil
from pathlib import Path

LOG = "log.txt"
ARTIFACTS = "artifacts"


class TrialFiles:
    """One folder for each trial that printed or kept something, below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, number: int) -> Path:
        """The folder of one trial, which may not exist."""
        return self._folder / str(number)

    def append(self, number: int, printed: bytes) -> None:
        """A trial has printed more."""
        self._made(number)
        with (self.of(number) / LOG).open("ab") as stream:
            stream.write(printed)

    def printed(self, number: int, begin: int = 0) -> bytes:
        """What a trial has printed, from byte ``begin`` on."""
        try:
            with (self.of(number) / LOG).open("rb") as stream:
                stream.seek(begin)
                return stream.read()
        except FileNotFoundError:
            return b""

    def keep(self, number: int, name: str, content: bytes) -> None:
        """A trial keeps a file; a second one of its name takes its place."""
        folder = self._made(number) / ARTIFACTS
        folder.mkdir(exist_ok=True)
        (folder / Path(name).name).write_bytes(content)

    def artifacts(self, number: int) -> Path | None:
        """The folder with what a trial keeps; None: nothing."""
        folder = self.of(number) / ARTIFACTS
        return folder if folder.is_dir() else None

    def drop(self, number: int) -> None:
        """The trial begins anew."""
        shutil.rmtree(self.of(number), ignore_errors=True)

    def _made(self, number: int) -> Path:
        self.of(number).mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.of(number)
