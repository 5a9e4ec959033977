"""A sweep's events as server-sent events: the lines of its log, from any line on, while they are written."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.concurrency import run_in_threadpool

POLL_SECONDS = 0.25
KEEP_ALIVE_SECONDS = 10.0
AT_ONCE = 1 << 18  # bytes read at once
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def follow(file: Path, after: int, over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The lines after line ``after`` (from 1), and those still to come until ``over()``. ``id:`` is the line's number.

    A line that is only half written waits for its rest.
    """
    number, position, said, rest = 0, 0, time.monotonic(), b""
    yield b"retry: 1000\n\n"
    while True:
        ending = await run_in_threadpool(over)
        while chunk := await run_in_threadpool(_read, file, position):
            position += len(chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            first, number = number + 1, number + len(lines)
            if text := b"".join(_event(n, line) for n, line in enumerate(lines, first) if n > after):
                said = time.monotonic()
                yield text
        if ending:
            return
        if time.monotonic() - said >= KEEP_ALIVE_SECONDS:
            said = time.monotonic()
            yield b": keep-alive\n\n"
        await asyncio.sleep(POLL_SECONDS)


def _read(file: Path, position: int) -> bytes:
    try:
        with file.open("rb") as opened:
            opened.seek(position)
            return opened.read(AT_ONCE)
    except OSError:
        return b""  # no event yet


def _event(number: int, line: bytes) -> bytes:
    try:
        fields = json.loads(line)
        action = str(fields["action"])
    except (ValueError, KeyError, TypeError):
        return b""  # cut off by a full disk or a kill
    if fields.pop("file", None) is not None:  # of this server
        line = json.dumps(fields).encode()
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, action.encode(), line.strip())
