"""Nodes that join a Ray cluster: their processes are prepared, and the first leg on them ends soon."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
import yaml

from sweeper.data.source import Source
from sweeper.models import TrainConfig, TrialConfig
from sweeper.scheduling.events import Shape, WorkerJoined, WorkerLost
from sweeper.training import ray_pool, ray_probe
from sweeper.training.legs import LegOrder, RowStart, TrialStart
from sweeper.training.pool import LegReturned, PoolEvent
from sweeper.training.ray_pool import RayPool
from tests.acceptance.test_ray_faults import children, command_line
from tests.faults import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(300)]
COMPOSE = Path(__file__).parents[2] / "docker-compose.yml"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without cores; nodes that are added have the environment of the compose file's workers."""
    service = yaml.safe_load(COMPOSE.read_text())["services"]["ray-worker"]
    for name, value in service["environment"].items():
        if name.startswith(("RAY_enable", "RAY_preload")):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def one_leg(sweep: str) -> LegOrder:
    return LegOrder(
        leg=1, sweep=sweep, cohort=1, train=TrainConfig(epochs=1),
        admit=(TrialStart(0, 1, Shape((16,), 16, 1), TrialConfig(hidden_layers=(16,)), (RowStart(0),)),),
        drop=(), epochs=1, width=1, seconds=60.0,
        metric="val_loss", minimize=True,
    )  # fmt: skip


def moment_of_joining(nodes: int, found: list[float]) -> threading.Thread:
    """A thread that notes when Ray first counts so many living nodes."""
    import ray

    def look() -> None:
        wait_until(lambda: sum(node["Alive"] for node in ray.nodes()) == nodes, 120)
        found.append(time.monotonic())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


def test_a_node_that_joins_has_finished_a_leg_soon(cluster: Any, capsys: pytest.CaptureFixture[str]) -> None:
    posts: SimpleQueue[PoolEvent] = SimpleQueue()
    pool = RayPool(posts.put, cluster.address)
    pool.start()
    try:
        x, y = np.zeros((40, 4), np.float32), np.arange(40) % 3
        pool.load("s", Source(({"x_train": x, "y_train": y, "x_val": x, "y_val": y},)))
        alive: list[float] = []
        watch = moment_of_joining(2, alive)
        node = cluster.add_node(num_cpus=1)
        joined = posts.get(timeout=120)
        seen = time.monotonic()
        assert isinstance(joined, WorkerJoined), joined
        assert joined.worker.startswith(node.node_id[:6])
        pool.run(joined.worker, one_leg("s"))
        ended = posts.get(timeout=120)
        assert isinstance(ended, LegReturned), ended
        assert len(ended.result.trials[0].metrics["val_loss"]) == 1
        watch.join()
        with capsys.disabled():
            told = f"its worker joined after {seen - alive[0]:.1f} s, its first leg ended"
            print(f"\nmeasured: a node alive in Ray: {told} after {time.monotonic() - alive[0]:.1f} s")
    finally:
        pool.close()


def test_a_worker_that_hangs_before_it_has_joined_is_asked_for_again(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = str(tmp_path / "tried")

    class HangsOnce(ray_pool._Actor):
        def __init__(self, device: str, cores: int = 1) -> None:
            if not os.path.exists(tried):
                open(tried, "w").close()
                time.sleep(3600)
            super().__init__(device, cores)

    monkeypatch.setattr(ray_pool, "_Actor", HangsOnce)
    monkeypatch.setattr(ray_pool, "JOIN_SECONDS", 15.0)
    posts: SimpleQueue[PoolEvent] = SimpleQueue()
    pool = RayPool(posts.put, cluster.address)
    pool.start()
    try:
        cluster.add_node(num_cpus=1)
        lost = posts.get(timeout=120)
        assert isinstance(lost, WorkerLost), lost
        assert lost.reason == "it did not come up within 15 s"
        joined = posts.get(timeout=120)
        assert isinstance(joined, WorkerJoined)
        assert joined.worker == lost.worker
    finally:
        pool.close()


def test_a_node_as_in_the_compose_file_has_torch_in_its_processes_before_it_is_asked_for_work(cluster: Any) -> None:
    import ray

    ray.init(address=cluster.address, log_to_driver=False)
    try:
        before = set(children(os.getpid()))
        cluster.add_node(num_cpus=1)

        def prepared() -> list[int]:
            new = set(children(os.getpid())) - before
            return [pid for pid in new if command_line(pid).startswith("ray::IDLE") and maps_torch(pid)]

        wait_until(lambda: bool(prepared()), 120)

        waiting = prepared()
        process = ray.remote(lambda: os.getpid()).options(num_cpus=1)  # noqa: PLW0108 - Ray takes no built-in function
        assert ray.get(process.remote(), timeout=120) in waiting
    finally:
        ray.shutdown()


HOLDER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
class Held:
    def ready(self): return True
held = ray.remote(num_cpus=1)(Held).remote()
print(ray.get(held.ready.remote()), flush=True)
sys.stdin.read()
"""


def test_a_free_place_is_tried_and_a_full_cluster_is_told_at_once(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_probe, "WORKER_SECONDS", 3600.0)  # whoever waits for a place runs into the test's timeout
    cluster.add_node(num_cpus=1)
    assert ray_probe._bring_up(cluster.address) == ray_probe.RayProbe(2, 1, 0, "cpu", "")
    command = [sys.executable, "-c", HOLDER, cluster.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert "all are busy" in ray_probe._bring_up(cluster.address).trouble


def maps_torch(pid: int) -> bool:
    try:
        return "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return False
