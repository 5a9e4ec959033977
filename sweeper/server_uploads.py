"""Datasets of users: streamed to disk, named by their content, seen by their owner only."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from sweeper.errors import SpecError
from sweeper.server_problems import TooLarge
from sweeper.spec_models import DATA_SUFFIXES


def folder_of(home: Path, user: str) -> Path:
    """Where a user's files lie. Users' names have no slash and start with no dot: see ``auth.create_token``."""
    return home / "uploads" / user


async def store(folder: Path, filename: str, body: AsyncIterator[bytes], limit: int) -> dict[str, Any]:
    """Write a body to disk while it comes, and name it by its SHA-256.

    Raises:
        SpecError: the file's name is not that of a data file, or it is empty.
        TooLarge: it is larger than ``limit`` bytes.
    """
    suffix = next((end for end in DATA_SUFFIXES if filename.lower().endswith(end)), None)
    if suffix is None:
        problem = f"{filename[-80:]!r} is not a data file"
        raise SpecError(problem, key="filename", remedy=f"Its name must end in {', '.join(DATA_SUFFIXES)}")
    await run_in_threadpool(lambda: folder.mkdir(parents=True, exist_ok=True, mode=0o700))
    digest, size = hashlib.sha256(), 0
    handle, scratch = tempfile.mkstemp(dir=folder, prefix=".upload-")
    try:
        with os.fdopen(handle, "wb") as file:
            async for chunk in body:
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"the file has more than {limit:,} bytes", key="body", remedy="Send a smaller file")
                digest.update(chunk)
                await run_in_threadpool(file.write, chunk)
            if size == 0:
                raise SpecError("the file is empty", key="body", remedy="Send the file as the request's body")
            await run_in_threadpool(file.flush)
            await run_in_threadpool(os.fsync, file.fileno())
        name = f"{digest.hexdigest()}{suffix}"
        os.replace(scratch, folder / name)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return {"upload": name, "bytes": size, "sha256": digest.hexdigest()}
