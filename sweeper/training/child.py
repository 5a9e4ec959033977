"""A process that works for another one: started, spoken to, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
ORPHAN_SECONDS = 1.0  # between two looks whether the parent still lives


class Child:
    """One process, in which ``main(fd)`` of a module runs, ``fd`` being the socket over which it is spoken to.

    ``cpus`` bounds the threads of its libraries; without ``gpus`` it sees none. What it prints before it is told where
    to goes to a file in ``folder``.
    """

    def __init__(self, module: str, folder: Path, cpus: float, gpus: float) -> None:
        mine, theirs = socket.socketpair()
        threads = dict.fromkeys(THREADS, str(max(1, int(cpus))))
        env = {**os.environ, **threads, "PYTHONUNBUFFERED": "1"}
        env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        if gpus == 0:
            env["CUDA_VISIBLE_DEVICES"] = ""
        self._beginnings = folder / f"process-{theirs.fileno()}-{os.getpid()}.log"
        with theirs, self._beginnings.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"from {module} import main; main({theirs.fileno()})"],
                env=env,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the sweep; and what it starts itself ends with it
            )
        self.connection: Connection[Any, Any] = Connection(mine.detach())

    def send(self, word: Any) -> None:
        """Say something; a process that has just died is found by the next ``said``."""
        with contextlib.suppress(OSError):
            self.connection.send(word)

    def said(self) -> Any:
        """What it says next, waiting for it; None: the process is gone."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def how_it_died(self) -> str:
        """How a process ended that is gone, in words."""
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.end()
            return "its process closed its connection"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            of_memory = " (the system does this when memory runs out)" if name == "SIGKILL" else ""
            return f"its process was killed by {name}{of_memory}"
        beginning = self._beginnings.read_bytes()[-300:].decode("utf-8", "replace").strip().splitlines()
        return f"its process ended with exit code {code}{': ' + beginning[-1] if beginning else ''}"

    def end(self) -> None:
        """Kill the process and what it has started."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self.connection.close()


def end_with_parent() -> None:
    """From now on this process, a child, ends when the one that started it is gone."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(ORPHAN_SECONDS)
    os._exit(1)
