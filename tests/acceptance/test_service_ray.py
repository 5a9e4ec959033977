"""A service on a Ray cluster whose nodes come and go: a node joins, drains and dies, and the head is restarted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.test_service_killed import OFTEN, Service, events
from tests.faults import ENVIRONMENT, SWEEP, TRIALS, Site, check_promise
from tests.ports import own_port

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}


class Cluster:
    """Ray nodes on this machine, each a ``ray start --block`` whose processes can be killed without touching others."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: Ray's sockets are in it
        self.port = own_port()
        self.address = f"127.0.0.1:{self.port}"
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats"]
        command += ["--object-store-memory=80000000", "--num-cpus=1", "--node-ip-address=127.0.0.1", *options]
        with (self.folder / "ray.log").open("ab") as log:
            environment = {**os.environ, **ENVIRONMENT, **TOKEN}
            node = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self.nodes.append(node)
        return node

    def head(self) -> subprocess.Popen[bytes]:
        return self.start(f"--port={self.port}", "--head", "--include-dashboard=false", f"--temp-dir={self.folder}")

    def join(self) -> subprocess.Popen[bytes]:
        return self.start(f"--address={self.address}")

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """The node with all of its processes, and no other."""
        for number in family(node.pid):
            try:
                os.kill(number, signal.SIGKILL)
            except ProcessLookupError:
                continue
        node.wait()

    def close(self) -> None:
        for node in self.nodes:
            self.kill(node)


def family(ancestor: int) -> list[int]:
    """A process and all that descend from it."""
    lines = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout.splitlines()
    children: dict[int, list[int]] = {}
    for line in lines[1:]:
        number, parent = map(int, line.split())
        children.setdefault(parent, []).append(number)
    found, todo = [], [ancestor]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.close()


class RayService(Service):
    """``sweeper serve`` with the workers of a cluster."""

    def start(self) -> subprocess.Popen[str]:
        self.process = self.site.start("serve", "--port", str(self.port))
        return self.process

    def workers(self) -> int:
        try:
            return int(httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=10).json()["workers"])
        except httpx.TransportError:
            return 0


def test_nodes_join_drain_and_die_and_the_head_is_restarted_under_a_service(
    site: Site, cluster: Cluster, undisturbed: dict[int, Any]
) -> None:
    site.env = {**TOKEN, "RAY_ADDRESS": cluster.address}
    site.patches = (*OFTEN, "sweeper.running.fitting.MAX_ROWS_CPU = 2")
    service = RayService(site)  # before there is any Ray: it waits
    head = cluster.head()
    service.until(lambda: service.workers() == 1, 180)
    joined = cluster.join()
    service.until(lambda: service.workers() == 2, 120)
    sweep = service.submit("bob", SWEEP | {"name": "of-bob"})

    def used() -> set[str]:
        return {e["worker"] for e in events(site, sweep) if e["action"] == "trial.started"}

    service.until(lambda: len(used()) == 2)
    drain(cluster)
    service.until(lambda: service.workers() == 1, 90)
    cluster.kill(joined)
    service.until(lambda: service.finished(sweep))
    check_promise(site, sweep, TRIALS, undisturbed)
    assert {t.lost for t in service.ledger.trials(sweep)} == {0}, "a drained worker costs no attempt"

    again = service.submit("bob", SWEEP | {"name": "of-bob-again"})
    service.until(lambda: service.ledger.sweep(again).counts["running"] > 0)
    cluster.kill(head)
    time.sleep(5)
    cluster.head()
    service.until(lambda: service.finished(again), 400)
    check_promise(site, again, TRIALS, undisturbed)


def drain(cluster: Cluster) -> None:
    """Tell the cluster that the node which is not its head will leave, as a spot machine's notice does."""
    program = (
        "import sys; from ray._raylet import GcsClient; client = GcsClient(address=sys.argv[1]); "
        "[node] = [n.hex() for n, info in client.get_all_node_info().items() if not info.is_head_node]; "
        "print(client.drain_node(node, 2, 'the test wants it', 0))"  # 2: DRAIN_NODE_REASON_PREEMPTION
    )
    command = [sys.executable, "-c", program, cluster.address]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **TOKEN}, timeout=60, check=False)
    assert done.stdout.startswith("(True"), done.stdout + done.stderr[-1000:]
