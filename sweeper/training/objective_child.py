"""A worker's side of the process that runs the trials of an objective: started, spoken to, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweeper.training.objective_words import Answer, Run, Said

_PROGRAM = "import sys; from sweeper.training.objective_process import main; main(int(sys.argv[1]))"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class Child:
    """One process. ``cpus`` bounds the threads of its libraries; without ``gpus`` it sees none."""

    def __init__(self, folder: Path, cpus: float, gpus: float) -> None:
        mine, theirs = socket.socketpair()
        threads = dict.fromkeys(THREADS, str(max(1, int(cpus))))
        env = {**os.environ, **threads, "PYTHONUNBUFFERED": "1"}
        env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        if gpus == 0:
            env["CUDA_VISIBLE_DEVICES"] = ""
        self._beginnings = folder / f"process-{theirs.fileno()}-{os.getpid()}.log"
        with theirs, self._beginnings.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(theirs.fileno())],
                env=env,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the sweep; and what it starts itself ends with it
            )
        self.connection: Connection[Any, Any] = Connection(mine.detach())

    def send(self, word: Run | Answer) -> None:
        """Say something; a process that has just died is found by the next ``said``."""
        with contextlib.suppress(OSError):
            self.connection.send(word)

    def said(self) -> Said | None:
        """What it says next, waiting for it; None: the process is gone."""
        try:
            word: Said = self.connection.recv()
        except (EOFError, OSError):
            return None
        return word

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
