"""Which process an owner of a lease is, and whether it has certainly ended."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """One controller: a process, and a mark that tells its controllers apart.

    ``boot`` is the kernel's name for its current run, ``namespace`` the process ids' namespace, and ``started`` when
    the process began, in ticks since the boot. All three are empty where the kernel does not tell (no /proc).
    """

    host: str
    pid: int
    boot: str
    namespace: str
    started: str
    mark: str

    def __str__(self) -> str:
        """As a lease has it: host and process id first, for people."""
        rest = "/".join((self.boot, self.namespace, self.started, self.mark))
        return f"{self.host}:{self.pid} {rest}"

    @staticmethod
    def of(text: str) -> Owner | None:
        """The owner that a lease names (None: it is not written like one)."""
        name, _, rest = text.partition(" ")
        host, _, pid = name.rpartition(":")
        parts = rest.split("/")
        return Owner(host, int(pid), *parts) if pid.isdecimal() and len(parts) == len(_REST) else None


_REST = ("boot", "namespace", "started", "mark")


def new_owner() -> str:
    """This process as a new owner of leases, another one at every call."""
    boot = namespace = started = ""
    if _is_our_own_proc():
        boot = _read(PROC / "sys/kernel/random/boot_id")
        namespace = _link(PROC / "self/ns/pid")
        started = _started(os.getpid())
    host = "".join(socket.gethostname().split())
    return str(Owner(host, os.getpid(), boot, namespace, started, uuid.uuid4().hex[:8]))


def shown(owner: str) -> str:
    """An owner for people: host and process id."""
    return owner.partition(" ")[0]


def has_ended(owner: str) -> bool:
    """Whether the owner's process is certainly over (a zombie is).

    That can be told only of a process of the same boot of the same machine in the same namespace: a process id, and
    with copied machines even a host's name, says nothing elsewhere.
    """
    known, here = Owner.of(owner), Owner.of(new_owner())
    assert here is not None
    if known is None or not (known.boot and known.namespace and known.started):
        return False
    if (known.host, known.boot, known.namespace) != (here.host, here.boot, here.namespace):
        return False
    try:
        os.kill(known.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # another user's
    started = _started(known.pid)
    return bool(started) and started != known.started


def _is_our_own_proc() -> bool:
    """Whether /proc shows the processes by the ids that this process knows them by."""
    return _link(PROC / "self") == str(os.getpid())


def _started(pid: int) -> str:
    """When a process began (``ended`` for a zombie, empty when it cannot be read)."""
    fields = _read(PROC / str(pid) / "stat").rpartition(")")[2].split()  # from the third field, the state, on
    if len(fields) < 20:
        return ""
    return "ended" if fields[0] in "ZX" else fields[19]


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _link(file: Path) -> str:
    try:
        return os.readlink(file)
    except OSError:
        return ""
