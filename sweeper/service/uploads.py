"""Datasets of users: streamed to disk, named by their content, seen by their owner only."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from sweeper.errors import SpecError
from sweeper.service.problems import QuotaExceeded, TooLarge
from sweeper.service.submission import UPLOAD_NAME
from sweeper.spec.dataset import DATA_SUFFIXES, SUFFIXES_IN_WORDS

_SCRATCH = ".upload-"
_arriving = threading.Lock()


def folder_of(home: Path, user: str) -> Path:
    """Where a user's files lie. Users' names have no slash and start with no dot: see ``auth.create_token``."""
    return home / "uploads" / user


def uploads_of(folder: Path) -> list[dict[str, Any]]:
    """A user's files, the newest first."""
    files = [(file, file.stat()) for file in folder.glob("*") if UPLOAD_NAME.fullmatch(file.name)]
    files.sort(key=lambda pair: (-pair[1].st_mtime, pair[0].name))
    return [{"upload": file.name, "bytes": stat.st_size, "uploaded_at": stat.st_mtime} for file, stat in files]


def clear_scratch(home: Path) -> None:
    """Remove what uploads left that were under way when an earlier server was killed."""
    for scratch in (home / "uploads").glob(f"*/{_SCRATCH}*"):
        scratch.unlink(missing_ok=True)


def _check_room(folder: Path, size: int, quota: int) -> None:
    used = sum(file["bytes"] for file in uploads_of(folder))
    if used + size > quota:
        raise QuotaExceeded(
            f"your uploads have {used:,} bytes, with this file {used + size:,} or more; the quota is {quota:,} bytes",
            key="body",
            remedy="Delete a file that no sweep needs: GET /api/v1/datasets lists them, DELETE /api/v1/datasets/NAME",
        )


async def store(folder: Path, filename: str, body: AsyncIterator[bytes], limit: int, quota: int) -> dict[str, Any]:
    """Write a body to disk while it comes, and name it by its SHA-256.

    Raises:
        SpecError: the file's name is not that of a data file, or it is empty.
        TooLarge: it is larger than ``limit`` bytes.
        QuotaExceeded: with it the user's files would have more than ``quota`` bytes.
    """
    suffix = next((end for end in DATA_SUFFIXES if filename.lower().endswith(end)), None)
    if suffix is None:
        problem = f"{filename[-80:]!r} is not a data file"
        raise SpecError(problem, key="filename", remedy=f"Its name must end in {SUFFIXES_IN_WORDS}")
    await run_in_threadpool(lambda: folder.mkdir(parents=True, exist_ok=True, mode=0o700))
    digest, size = hashlib.sha256(), 0
    room = quota - sum(file["bytes"] for file in await run_in_threadpool(uploads_of, folder))
    handle, scratch = tempfile.mkstemp(dir=folder, prefix=_SCRATCH)
    try:
        with os.fdopen(handle, "wb") as file:
            async for chunk in body:
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"the file has more than {limit:,} bytes", key="body", remedy="Send a smaller file")
                if size > room:
                    await run_in_threadpool(_check_room, folder, size, quota)
                digest.update(chunk)
                await run_in_threadpool(file.write, chunk)
            if size == 0:
                raise SpecError("the file is empty", key="body", remedy="Send the file as the request's body")
            await run_in_threadpool(file.flush)
            await run_in_threadpool(os.fsync, file.fileno())
        name = f"{digest.hexdigest()}{suffix}"
        with _arriving:  # of files that arrive at once, each counts the ones before it
            if not (folder / name).exists():
                _check_room(folder, size, quota)
            os.replace(scratch, folder / name)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return {"upload": name, "bytes": size, "sha256": digest.hexdigest()}
