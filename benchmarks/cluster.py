"""Three users with six sweeps on a real Ray cluster whose nodes come and go: shares, what is lost, driver, readers.

Every node of the cluster is a raylet of its own on this machine, with one worker. Each few seconds one of them is
killed, as a machine that loses its power, and another one joins. At the end the sweeps are shortened to what has begun.

``python -m benchmarks --only cluster --nodes 16 --seconds 180 --every 6``
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks import process
from benchmarks.crowd import USERS
from benchmarks.results import Table, number

SPEC: dict[str, Any] = {
    "dataset": {"name": "digits"},
    "space": {"learning_rate": {"float": [1e-4, 1e-1], "log": True}, "hidden_layers": [64, 64]},
    "training": {"epochs": 20},
    "search": {"trials": 20_000, "sampler": "tpe", "window": 32},
}
STORE_BYTES = 80_000_000  # of a node's object store, the least that Ray takes
READS = ("/sweeps?limit=20", "/sweeps/{}", "/sweeps/{}/trials?limit=100", "/sweeps/{}/best", "/info")
READERS, PAUSE = 10, 0.5  # clients, and seconds between two reads of one
PATIENCE = 900.0
TICKS = os.sysconf("SC_CLK_TCK")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What can be said on the command line."""
    parser.add_argument("--nodes", type=int, default=16, help="cluster: nodes of one worker each")
    parser.add_argument("--every", type=float, default=6.0, help="cluster: seconds between two nodes that go")


class Nodes:
    """A Ray cluster on this machine: a head without cores, and nodes that come and go."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address
        self._nodes = [self._add() for _ in range(count)]
        self.gone = 0

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def disturb(self, seconds: float, every: float) -> None:
        """For so long, a node goes now and then and another one comes; Ray adds nodes in the main thread only."""
        draw, end = random.Random(0), time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(every)
            self._cluster.remove_node(self._nodes.pop(draw.randrange(len(self._nodes))), allow_graceful=False)
            self.gone += 1
            self._nodes.append(self._add())

    def close(self) -> None:
        """End them all."""
        self._cluster.shutdown()


class Service:
    """``sweeper serve`` on a folder of its own, with the workers of a cluster, and its users' clients."""

    def __init__(self, home: Path, address: str) -> None:
        self.home = home
        self._environment = process.environment(
            {**process.ONE_THREAD, "SWEEPER_HOME": str(home), "RAY_ADDRESS": address}
        )
        self._tokens = {user: self._run("token", "create", user, "--json")["token"] for user in USERS}
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "sweeper", "serve", "--port", str(port)]
        self.log = (home / "service.log").open("wb")
        self.process = subprocess.Popen(command, env=self._environment, stdout=self.log, stderr=self.log)

    def _run(self, *words: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "sweeper", *words]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def call(self, user: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """What the service answers to a user."""
        import httpx

        headers = {"Authorization": f"Bearer {self._tokens[user]}"}
        answer = httpx.request(method, f"{self.url}/api/v1{path}", headers=headers, timeout=60, **options)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def workers(self) -> int:
        """How many workers it has; 0 while it comes up."""
        import httpx

        try:
            return int(httpx.get(f"{self.url}/readyz", timeout=60).json().get("workers", 0))
        except (httpx.TransportError, ValueError):
            return 0

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far of the process that runs the sweeps and of the one that answers."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        by_nice = sorted((int(pid) for pid in found), key=lambda pid: -os.getpriority(os.PRIO_PROCESS, pid))
        return dict(zip(("driver", "answers"), map(_cpu_of, by_nice), strict=True))

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.process.kill()
        self.log.close()


class Readers:
    """Clients that read all the time, and how long each answer took."""

    def __init__(self, service: Service, sweeps: Mapping[str, str]) -> None:
        self.seconds: list[float] = []
        self.wrong: Counter[str] = Counter()
        self._service, self._sweeps = service, sweeps
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(READERS)]
        for thread in self._threads:
            thread.start()

    def _read(self, seed: int) -> None:
        import httpx

        draw = random.Random(seed)
        while not self._over.wait(draw.uniform(0, 2 * PAUSE)):
            sweep, user = draw.choice(list(self._sweeps.items()))
            began = time.perf_counter()
            try:
                self._service.call(user, "GET", draw.choice(READS).format(sweep))
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                self.wrong[type(error).__name__] += 1
            self.seconds.append(time.perf_counter() - began)

    def close(self) -> None:
        """No more reads."""
        self._over.set()
        for thread in self._threads:
            thread.join()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One run; with ``--quick`` on two nodes for some seconds."""
    nodes, seconds, every = (2, 20.0, 8.0) if options.quick else (options.nodes, options.seconds, options.every)
    temporary = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
    with temporary as folder, _running(Path(folder), nodes) as (cluster, service):
        return _measured(cluster, service, nodes, seconds, every)


@contextlib.contextmanager
def _running(home: Path, nodes: int) -> Iterator[tuple[Nodes, Service]]:
    os.environ.update(process.QUIET)
    cluster = Nodes(nodes)
    try:
        service = Service(home, cluster.address)
        try:
            yield cluster, service
        finally:
            service.close()
    finally:
        cluster.close()


def _measured(cluster: Nodes, service: Service, nodes: int, seconds: float, every: float) -> dict[str, Any]:
    _until(lambda: service.workers() == nodes)
    print(f"{nodes} workers have joined", flush=True)
    sweeps: dict[str, str] = {}
    for user, count in USERS.items():
        for index in range(count):
            sweeps[service.call(user, "POST", "/sweeps", json=SPEC | {"name": f"{user}-{index}"})["sweep"]] = user
    _until(lambda: len(_held(service.home, 0.0, time.time())) == len(sweeps))  # each has had a worker
    began, used, clock = time.time(), service.cpu(), time.monotonic()
    readers = Readers(service, sweeps)
    cluster.disturb(seconds, every)
    ended, spent, wall = time.time(), service.cpu(), time.monotonic() - clock
    print(f"{cluster.gone} nodes went in {wall:.0f} s, {service.workers()} workers are there", flush=True)
    readers.close()
    held = _held(service.home, began, ended)
    for sweep, user in sweeps.items():
        service.call(user, "PATCH", f"/sweeps/{sweep}", json={"requested": 1})  # all that have begun
    _until(lambda: all(_state(service, user, sweep) == "complete" for sweep, user in sweeps.items()))
    cuts = quantiles(readers.seconds, n=100)
    return {
        "nodes": nodes,
        "seconds": wall,
        "gone": cluster.gone,
        "load": os.getloadavg()[0],
        "cores": {name: (spent[name] - used[name]) / wall for name in spent},
        "busy": sum(held.values()) / (nodes * wall),
        "shares": _shares(held, sweeps),
        "reads": {"count": len(readers.seconds), "wrong": dict(readers.wrong)}
        | {name: 1000 * cuts[at] for name, at in (("p50", 49), ("p99", 98))},
        "kept": _kept(service.home, sweeps),
    }


def _state(service: Service, user: str, sweep: str) -> str:
    return str(service.call(user, "GET", f"/sweeps/{sweep}")["state"])


def _held(home: Path, began: float, ended: float) -> dict[str, float]:
    """Seconds of workers that each sweep had between two moments: its trials' attempts, side by side counted once."""
    with contextlib.closing(sqlite3.connect(f"file:{home / 'ledger.db'}?mode=ro", uri=True)) as ledger:
        rows = ledger.execute("select sweep, worker, started_at, ended_at from attempts order by started_at").fetchall()
    found: dict[str, float] = defaultdict(float)
    until: dict[tuple[str, str], float] = {}
    for sweep, worker, start, end in rows:
        first = max(start, until.get((sweep, worker), began), began)
        last = min(ended, end or ended)
        if last > first:
            found[sweep] += last - first
            until[sweep, worker] = last
    return dict(found)


def _shares(held: Mapping[str, float], sweeps: Mapping[str, str]) -> dict[str, float]:
    """Of each user relative to a third, of each sweep relative to a fair part of its user's."""
    whole = sum(held.values())
    of_user = {user: sum(held.get(s, 0.0) for s, owner in sweeps.items() if owner == user) for user in USERS}
    found = {user: n / (whole / len(USERS)) for user, n in of_user.items()}
    return found | {s: held.get(s, 0.0) / (of_user[user] / USERS[user]) for s, user in sweeps.items()}


def _kept(home: Path, sweeps: Mapping[str, str]) -> dict[str, int]:
    """Trials by what became of them, and how many ended more than once."""
    with contextlib.closing(sqlite3.connect(f"file:{home / 'ledger.db'}?mode=ro", uri=True)) as ledger:
        requested = dict(ledger.execute("select sweep, requested from sweeps").fetchall())
        rows = ledger.execute("select sweep, number, state, attempt from trials").fetchall()
    ended: Counter[tuple[str, int]] = Counter()
    for sweep in sweeps:
        for line in (home / "sweeps" / sweep / "events.jsonl").read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["action"] == "trial.ended":
                ended[sweep, event["trial"]] += 1
    mine = [row for row in rows if row[0] in sweeps]
    return {
        "requested": sum(requested[sweep] for sweep in sweeps),
        "complete": sum(state == "complete" for _, _, state, _ in mine),
        "other": sum(state != "complete" for _, _, state, _ in mine),
        "begun_again": sum(attempt > 1 for *_, attempt in mine),
        "ended_twice": sum(n > 1 for n in ended.values()),
        "never_ended": len({(sweep, n) for sweep, n, _, _ in mine} - set(ended)),
    }


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _until(true: Callable[[], bool]) -> None:
    """Wait until it is.

    Raises:
        TimeoutError: it takes too long.
    """
    limit = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > limit:
            raise TimeoutError("the cluster did not get so far")
        time.sleep(0.5)


def tables(found: Mapping[str, Any]) -> list[Table]:
    """What was measured, one thing per row."""
    users = [share for name, share in found["shares"].items() if name in USERS]
    sweeps = [share for name, share in found["shares"].items() if name not in USERS]
    kept, reads = found["kept"], found["reads"]
    rows = (
        ("nodes lost in so many seconds", f"{found['gone']} in {found['seconds']:.0f}"),
        ("share of a user, of a fair one", f"{min(users):.3f} to {max(users):.3f}"),
        ("share of a sweep, of a fair one of its user's", f"{min(sweeps):.3f} to {max(sweeps):.3f}"),
        ("trials complete, of those asked for", f"{kept['complete']:,} of {kept['requested']:,}"),
        ("begun again on another worker", f"{kept['begun_again']:,}"),
        ("ended twice, or never", f"{kept['ended_twice']}, {kept['never_ended']}"),
        ("workers that hold trials", f"{found['busy']:.0%}"),
        ("cores of the driver, of the HTTP server", ", ".join(number(n) for n in found["cores"].values())),
        ("reads: median, 99th percentile in ms", f"{number(reads['p50'])}, {number(reads['p99'])}"),
        ("reads, failed", f"{reads['count']:,}, {sum(reads['wrong'].values())}"),
        ("load at the end", f"{found['load']:.1f}"),
    )
    title = f"{found['nodes']} nodes of one worker that come and go: 3 users, 6 sweeps"
    return [Table(title, ("what", "measured"), rows, "All of it shares the cores of one machine.")]
