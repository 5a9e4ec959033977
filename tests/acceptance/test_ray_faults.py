"""Real faults of Ray: workers killed and hung, a node lost, the driver killed. Results are those of a run without."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import TRIALS, Site, check_promise, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


def children(pid: int) -> list[int]:
    """The living processes below one, at any depth."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found, todo = [], [pid]
    while todo:
        below = parents.get(todo.pop(), [])
        found += below
        todo += below
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def actors(pid: int) -> list[int]:
    """The processes of our workers below a driver (Ray renames a process after its actor)."""
    return [child for child in children(pid) if command_line(child).startswith("ray::_Actor")]


def events(site: Site, action: str) -> list[dict[str, Any]]:
    lines = [line for path in site.home.glob("sweeps/*/events.jsonl") for line in path.read_text().splitlines()]
    return [event for event in map(json.loads, lines) if event["action"] == action]


def test_killed_and_hung_workers_are_replaced(spec: str, site: Site, undisturbed: dict[int, Any]) -> None:
    site.patches = ("sweeper.running.clock.HANG_SECONDS = 4.0", "sweeper.running.run.LEG_SECONDS = 0.05")
    process = site.start("run", spec, "--workers", "2")
    wait_until(lambda: len({event["worker"] for event in events(site, "trial.started")}) == 2, 240)
    killed, hung = actors(process.pid)
    os.kill(killed, signal.SIGKILL)
    os.kill(hung, signal.SIGSTOP)
    assert process.wait(timeout=240) == 0, process.communicate()[1][-3000:]
    reasons = sorted(event["reason"][:9] for event in events(site, "worker.lost"))
    assert reasons == ["its proce", "no report"]
    assert not Path(f"/proc/{hung}").exists()
    check_promise(site, "faulty", TRIALS, undisturbed)


def test_a_killed_driver_leaves_no_process_behind_and_the_sweep_goes_on(
    spec: str, site: Site, undisturbed: dict[int, Any]
) -> None:
    process = site.start("run", spec, "--workers", "2")
    site.wait_for_trials("faulty", 3, process)
    below = children(process.pid)
    lines = "\n".join(command_line(pid) for pid in below)
    assert "raylet" in lines
    assert not [name for name in ("monitor.py", "dashboard.py", "log_monitor.py") if f"/{name}" in lines], lines
    site.kill(process)
    process.wait()
    # the agents of a raylet that is gone notice it by themselves, a minute later
    names = ("raylet", "gcs_server", "ray::_Actor")
    wait_until(lambda: not [pid for pid in below if any(name in command_line(pid) for name in names)], 60)
    site.answer("resume", "faulty", "--workers", "2")
    check_promise(site, "faulty", TRIALS, undisturbed)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A Ray cluster of a head without cores; nodes are added to it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()


def test_a_lost_node_gives_its_trials_back_and_a_new_one_is_used(
    spec: str, site: Site, undisturbed: dict[int, Any], cluster: Any
) -> None:
    lost = cluster.add_node(num_cpus=1)
    site.env, site.patches = {"RAY_ADDRESS": cluster.address}, ("sweeper.running.run.LEG_SECONDS = 0.05",)
    process = site.start("run", spec)
    site.wait_for_trials("faulty", 2, process)
    cluster.remove_node(lost, allow_graceful=False)
    cluster.add_node(num_cpus=1)
    assert process.wait(timeout=240) == 0, process.communicate()[1][-3000:]
    joined = [event["worker"] for event in events(site, "worker.joined")]
    assert len(set(joined)) == 2
    # told again when a replacement was tried before Ray knew that the node is gone
    assert {event["worker"] for event in events(site, "worker.lost")} == {joined[0]}
    check_promise(site, "faulty", TRIALS, undisturbed)
