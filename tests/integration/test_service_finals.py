"""Finals on the service are stopped, paused and resumed through the sweep that they belong to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.served import SMALL, Served, serving, until

SEEDS = 40
SPEC: dict[str, Any] = SMALL | {
    "training": {"epochs": 3000},
    "search": {"trials": 2, "sampler": "random"},
    "finals": {"top": 2, "seeds": SEEDS},
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("finals") / "home") as served:
        yield served


def in_finals(served: Served, name: str) -> str:
    """A sweep of bob's whose finals are being trained."""
    sweep = served.submit("bob", SPEC | {"name": name})
    until(lambda: (show(served, sweep)["finals"] or {}).get("counts", {}).get("running"), 120)
    return sweep


def show(served: Served, sweep: str) -> dict[str, Any]:
    return dict(served.client("bob").get(f"/sweeps/{sweep}").json())


def released(served: Served, sweep: str) -> dict[str, Any]:
    until(lambda: not served.busy(sweep), 120)
    return show(served, sweep)


def check_concluded(served: Served, sweep: str) -> None:
    until(lambda: served.ledger.sweep(sweep).summary.get("finals") and not served.busy(sweep), 240)
    found = show(served, sweep)
    assert (found["state"], found["reason"], found["finals"]) == ("complete", "every trial has ended", None)
    assert [len(standing["values"]) for standing in found["summary"]["finals"]["standings"]] == [SEEDS, SEEDS]
    [finals] = served.ledger.finals(parent=sweep)
    assert (finals.state, finals.counts["complete"]) == ("complete", 2 * SEEDS)


def test_stopped_finals_stay_stopped_until_the_sweep_is_resumed(served: Served) -> None:
    client, sweep = served.client("bob"), in_finals(served, "stopped")
    assert client.delete(f"/sweeps/{sweep}").status_code == 409
    stopped = client.post(f"/sweeps/{sweep}/stop").json()
    assert (stopped["state"], stopped["finals"]["state"]) == ("complete", "stopped")
    assert stopped["reason"] == "every trial has ended; finals stopped by bob"
    counts = stopped["finals"]["counts"]
    assert counts["complete"] + counts["stopped"] == 2 * SEEDS
    assert counts["stopped"] > 0
    released(served, sweep)
    served.stop()
    served.start()  # the next service does not run them either
    until(lambda: served.service.status().workers, 60)
    ended = served.submit("bob", SMALL | {"name": "after"})
    served.wait(ended, "complete")
    assert show(served, sweep)["finals"]["state"] == "stopped"
    client = served.client("bob")
    assert client.post(f"/sweeps/{sweep}/resume").json()["finals"]["state"] == "running"
    check_concluded(served, sweep)


def test_paused_finals_go_on_where_they_were(served: Served) -> None:
    client, sweep = served.client("bob"), in_finals(served, "paused")
    paused = client.post(f"/sweeps/{sweep}/pause").json()
    assert (paused["state"], paused["finals"]["state"]) == ("complete", "paused")
    assert paused["finals"]["counts"]["running"] == 0
    with client.stream("GET", f"/sweeps/{sweep}/events") as stream:
        assert "finals.trial.started" in stream.read().decode(), "the stream ends while they are paused"
    assert client.post(f"/sweeps/{sweep}/resume").status_code == 202
    with client.stream("GET", f"/sweeps/{sweep}/events", timeout=240) as stream:
        stream.read()
    check_concluded(served, sweep)


def test_the_command_line_stops_and_resumes_finals_and_a_sweep_without_them_can_be_deleted(
    served: Served, tmp_path: Path
) -> None:
    from tests.faults import Site

    site = Site(tmp_path / "client", {"SWEEPER_SERVER": served.url, "SWEEPER_TOKEN": served.tokens["bob"]})
    sweep = in_finals(served, "by-hand")
    said = site.run("stop", sweep)
    assert "finals stopped by bob" in said.stdout, said.stderr
    resumed = site.start("resume", sweep, "--json")
    until(lambda: show(served, sweep)["finals"]["counts"]["running"], 120)
    assert site.answer("pause", sweep)["state"] == "complete"
    out, err = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, err
    assert json.loads(out)["state"] == "complete"
    assert site.run("delete", sweep, "--yes").returncode == 0
    assert served.ledger.finals(parent=sweep) == []
    site.close()
