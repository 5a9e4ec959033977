"""Data files as they are, or unpacked on the way: gzip, bzip2, xz, and a zip archive of one file."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

from sweeper.errors import SpecError
from sweeper.text import listed, shown

BLOCK = 1 << 24
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, RuntimeError)


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked as the end of its name says.

    Raises:
        SpecError: they cannot be unpacked.
        OSError: the file cannot be read.
    """
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(_opened(path, stack))
        except _BROKEN as error:
            reason = shown(error, 120) or type(error).__name__
            raise SpecError(f"it cannot be unpacked ({reason})", file=str(path), remedy="Pack it anew") from error


def _opened(path: Path, stack: contextlib.ExitStack) -> IO[bytes]:
    match path.suffix.lower():
        case ".gz":
            return cast("IO[bytes]", gzip.open(path, "rb"))
        case ".bz2":
            return bz2.open(path, "rb")
        case ".xz":
            return lzma.open(path, "rb")
        case ".zip":
            archive = stack.enter_context(zipfile.ZipFile(path))
            names = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            if len(names) != 1:
                problem = f"it holds {listed(names, 5)}" if names else "it is empty"
                raise SpecError(problem, file=str(path), remedy="A zip archive must hold the data file alone")
            return archive.open(names[0])
        case _:
            return path.open("rb")


def unpacked_size(path: Path) -> int:
    """The number of bytes once they are unpacked.

    Raises:
        SpecError: they cannot be unpacked.
    """
    stat = path.stat()
    return _size(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _size(path: Path, stored: int, changed: int) -> int:
    if path.suffix.lower() not in (".gz", ".bz2", ".xz", ".zip"):
        return stored
    with unpacked(path) as file:
        return sum(len(block) for block in iter(lambda: file.read(BLOCK), b""))
