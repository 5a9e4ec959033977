"""Whether Ray can be used: one worker is started as a sweep does, in a process that can be killed."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

from sweeper.errors import SweeperError
from sweeper.scheduling.events import WorkerJoined, WorkerLost

CONNECT_SECONDS = 5.0
WORKER_SECONDS = 30.0  # how long a worker may take to come up: it imports torch
PROBE_SECONDS = 75.0  # the whole: Ray itself waits for minutes for a head that does not answer
_PROGRAM = "import sys; from sweeper.training.ray_probe import report; report(sys.argv[1] or None)"


@dataclass(frozen=True)
class RayProbe:
    """What Ray offers. ``worker`` is the kind of device of the worker that came up; empty: ``trouble`` says why."""

    nodes: int
    cpus: int
    gpus: int
    worker: str
    trouble: str


def probe_ray(address: str | None) -> RayProbe:
    """What Ray at ``address`` offers; None starts one on this machine and ends it again.

    Raises:
        SweeperError: Ray cannot be reached or started.
    """
    if address is not None:
        _knock(address)
    try:
        command = [sys.executable, "-c", _PROGRAM, address or ""]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SweeperError(f"Ray did not answer within {PROBE_SECONDS:.0f} s") from error
    lines = done.stdout.strip().splitlines()
    answer = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    if done.returncode != 0 or not answer:
        said = answer.get("error") or (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SweeperError(said[:500])
    return RayProbe(**answer)


def report(address: str | None) -> None:
    """Print what Ray offers, or why it cannot be used, as one JSON object."""
    try:
        print(json.dumps(asdict(_bring_up(address))))
    except SweeperError as error:
        print(json.dumps({"error": str(error)}))
        sys.exit(1)


def _bring_up(address: str | None) -> RayProbe:
    from sweeper.training.pool import PoolEvent
    from sweeper.training.ray_pool import RayPool

    posts: SimpleQueue[PoolEvent] = SimpleQueue()
    pool = RayPool(posts.put, address, workers=1)
    pool.connect()
    try:
        worker, trouble = "", "no worker started: all are busy, or no node has cores or GPUs"
        if address is None or not pool.is_full():  # a Ray that was just started has not counted its cores yet
            pool.start()
            with contextlib.suppress(Empty):
                match posts.get(timeout=WORKER_SECONDS):
                    case WorkerJoined(name):
                        worker, trouble = pool.device(name).kind, ""
                    case WorkerLost(_, reason):
                        trouble = f"the worker ended: {reason}"
        resources = [node["Resources"] for node in pool.nodes()]
        cpus, gpus = (int(sum(of_node.get(kind, 0) for of_node in resources)) for kind in ("CPU", "GPU"))
        return RayProbe(len(resources), cpus, gpus, worker, trouble)
    finally:
        pool.close()


def _knock(address: str) -> None:
    """Whether anything listens at HOST:PORT; other addresses, such as ``auto``, are for Ray to find out."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SweeperError(f"{address!r} is no address ({error})") from error
    if host is None or port is None:
        return
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        raise SweeperError(f"nothing answers at {address} ({error.strerror or error})") from error
