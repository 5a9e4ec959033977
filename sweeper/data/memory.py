"""How much memory this machine can still give, with the refusal of data that needs more."""

from __future__ import annotations

import os
from pathlib import Path

from sweeper.errors import SpecError

USABLE = 0.8  # share of the free memory that loading a dataset may take at its peak

# A container's limit, its use, and in its statistics the page cache that the kernel drops when memory is wanted.
_CGROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_bytes() -> int:
    """Memory a new allocation can use without swapping: what the kernel calls available, or less in a container."""
    return min([_available(), *(room for group in _CGROUPS if (room := _room(*group)) is not None)])


def check_fits(needed: int, what: str, remedy: str, file: str | None = None) -> None:
    """Refuse what needs more than ``USABLE`` of the free memory.

    Raises:
        SpecError: with both numbers.
    """
    free = free_bytes()
    if needed > USABLE * free:
        numbers = f"about {gigabytes(needed)}, {gigabytes(free)} are free and {USABLE:.0%} of that is the limit"
        raise SpecError(f"{what} needs {numbers}", file=file, remedy=remedy)


def gigabytes(count: float) -> str:
    """A number of bytes for people: ``85 MB``, ``0.3 GB``, ``1,200 GB``."""
    if count < 1e8:
        return f"{count / 1e6:.0f} MB"
    return f"{count / 1e9:.1f} GB" if count < 1e10 else f"{count / 1e9:,.0f} GB"


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux: half of what is built in
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _room(folder: Path, limit: str, used: str, droppable: str) -> int | None:
    """What a control group has left, or None where there is no limit."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
        cache = next((int(line.split()[1]) for line in lines if line.split()[0] == droppable), 0)
        top, now = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
        return max(0, top - now + cache)
    except (OSError, ValueError):
        return None
