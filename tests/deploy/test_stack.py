"""The stack from outside: sweeps through the server, faults of its containers, what it refuses, and what it keeps."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from sklearn.datasets import load_digits

from tests.deploy.stack import NEXT_IMAGE, Stack, torch_build
from tests.faults import SWEEP, Site, check_promise, outcomes, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1800)]
TRIALS = 24
OURS = ("migrate", "mlflow", "ray-head", "ray-worker", "sweeper")
SHAPE: dict[str, Any] = {
    "space": SWEEP["space"] | {"hidden_layers": {"choice": [[512, 256]]}},
    "training": {"epochs": 60, "clip_norm": None},
    "search": {"trials": TRIALS, "seed": 5},
}
TINY: dict[str, Any] = {"dataset": {"name": "iris"}, "training": {"epochs": 3}, "search": {"trials": 4}}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits as a CSV file on the user's machine."""
    digits = load_digits(as_frame=True).frame
    path = tmp_path_factory.mktemp("data") / "digits.csv"
    digits.to_csv(path, index=False)
    return path


def sweep_file(table: Path, name: str, **changes: Any) -> str:
    """A sweep file on that table."""
    spec = SHAPE | {"name": name, "dataset": {"path": str(table), "target": "target"}} | changes
    path = table.parent / f"{name}.json"
    path.write_text(json.dumps(spec))
    return str(path)


@pytest.fixture(scope="module")
def undisturbed(stack: Stack, table: Path) -> dict[int, Any]:
    """The results of a sweep that nothing happens to, submitted with a token and watched by `sweeper run`."""
    ann = stack.site("ann")
    began = time.monotonic()
    summary = ann.answer("run", sweep_file(table, "undisturbed"))
    stack.facts.append(f"undisturbed sweep of {TRIALS} trials: {time.monotonic() - began:.0f} s for `sweeper run`")
    assert (summary["state"], summary["requested"]) == ("complete", TRIALS)
    assert summary["failed"] > 0, "some trials have to diverge"
    return outcomes(ann.trials("undisturbed"))


def test_every_part_of_the_stack_is_well(stack: Stack) -> None:
    checks = json.loads(stack.inside("sweeper", "sweeper", "doctor", "--json"))["checks"]
    bad = [check for check in checks if check["state"] != "ok"]
    # the service itself holds every place on the workers
    assert [check["name"] for check in bad] in ([], ["ray"]), bad
    assert all("all are busy" in check["found"] for check in bad), bad


def test_the_first_trial_ends(stack: Stack) -> None:
    ann = stack.site("ann")
    began = time.monotonic()
    ann.answer("run", "--dataset", "digits", "--trials", "4", "--name", "first", "--detach")
    stack.wait_for_trials("ann", "first", 1)
    stack.facts.append(f"first trial of a sweep ended {time.monotonic() - began:.1f} s after `sweeper run` was typed")


def test_a_sweep_from_outside_is_in_mlflow_as_it_is_in_the_ledger(stack: Stack, undisturbed: dict[int, Any]) -> None:
    check_promise(stack.site("ann"), "undisturbed", TRIALS, undisturbed)


def test_an_undisturbed_sweep_has_the_same_numbers_without_the_stack(
    table: Path, tmp_path: Path, undisturbed: dict[int, Any]
) -> None:
    """The image holds the same libraries, so a laptop and the cluster agree."""
    if torch_build() != "cpu":
        pytest.skip("the stack has no GPUs, this machine has: their numbers differ")
    site = Site(tmp_path / "home")
    site.answer("run", sweep_file(table, "here", search=SHAPE["search"] | {"trials": 4}), "--workers", "inline")
    here = outcomes(site.trials("here"))
    assert {number: outcome[1] for number, outcome in here.items()} == {n: undisturbed[n][1] for n in here}


@pytest.mark.parametrize("service", ["ray-worker", "sweeper", "postgres", "ray-head"])
def test_a_killed_container_costs_no_trial_and_changes_no_number(
    service: str, stack: Stack, table: Path, undisturbed: dict[int, Any]
) -> None:
    ann, name = stack.site("ann"), f"kill-{service}"
    client = ann.start("run", sweep_file(table, name), "--json")
    seen = stack.wait_for_trials("ann", name, 1)
    container, killed = stack.kill(service), time.monotonic()
    assert seen["state"] == "running", "the sweep was over before the fault"
    _, err = client.communicate(timeout=600)
    assert client.returncode == 0, err[-3000:]
    ended = time.monotonic() - killed
    trials = check_promise(ann, name, TRIALS, undisturbed)
    assert stack.restarts(container) == 1
    wait_until(lambda: stack.ready() == 2, 240)
    again = sum(trial["attempts"] > 1 for trial in trials)
    facts = f"the client ended {ended:.0f} s later, {again} trials had been given back"
    stack.facts.append(f"{service} killed after {seen['complete'] + seen['failed']} trials: {facts}")


def test_a_worker_that_joins_is_used_and_one_that_leaves_is_not_missed(
    stack: Stack, table: Path, undisturbed: dict[int, Any]
) -> None:
    ann = stack.site("ann")
    client = ann.start("run", sweep_file(table, "scaled"), "--json")
    stack.wait_for_trials("ann", "scaled", 1)
    scale = ("up", "--detach", "--no-deps", "--no-recreate", "--no-build", "--scale")
    began = time.monotonic()
    stack.compose(*scale, "ray-worker=3", "ray-worker")
    wait_until(lambda: stack.ready() == 3, 240)
    joined = time.monotonic() - began
    workers: set[str] = set()
    with stack.http("ann") as http:
        for _ in range(600):
            running = http.get("/sweeps/scaled/trials", params={"state": "running"}).json()["trials"]
            for trial in running:
                history = http.get(f"/sweeps/scaled/trials/{trial['number']}").json()["history"]
                workers.add(history[-1]["worker"])
            if len(workers) == 3 or stack.sweep("ann", "scaled")["state"] != "running":
                break
            time.sleep(0.2)
    used = time.monotonic() - began
    assert len(workers) == 3, f"only {workers} had trials"
    began = time.monotonic()
    stack.compose(*scale, "ray-worker=2", "ray-worker")
    drained = time.monotonic() - began
    out, err = client.communicate(timeout=600)
    assert client.returncode == 0, err[-3000:]
    check_promise(ann, "scaled", TRIALS, undisturbed)
    gone = [event["reason"] for event in stack.events(json.loads(out)["sweep"]) if event["action"] == "worker.lost"]
    assert gone == ["its node is leaving"], "it finishes its leg and gives the rest back"
    stack.facts.append(f"--scale ray-worker=3: joined after {joined:.0f} s, seen with a trial after {used:.0f} s")
    stack.facts.append(f"--scale ray-worker=2 during the sweep: drained and gone after {drained:.0f} s")


def test_an_upgrade_during_a_sweep_costs_no_trial_and_changes_no_number(
    stack: Stack, table: Path, undisturbed: dict[int, Any]
) -> None:
    ann = stack.site("ann")
    client = ann.start("run", sweep_file(table, "upgraded"), "--json")
    stack.wait_for_trials("ann", "upgraded", 1)
    postgres = stack.containers("postgres")
    stack.upgrade()
    assert {stack.image(one) for name in OURS for one in stack.containers(name)} == {NEXT_IMAGE}
    assert stack.containers("postgres") == postgres, "a database that has not changed is left alone"
    _, err = client.communicate(timeout=600)
    assert client.returncode == 0, err[-3000:]
    trials = check_promise(ann, "upgraded", TRIALS, undisturbed)
    assert any(trial["attempts"] > 1 for trial in trials), "the sweep was over before the upgrade"


def test_what_must_not_come_in_is_refused_with_the_reason(stack: Stack, table: Path) -> None:
    ann, bob = stack.site("ann"), stack.site("bob")
    problem = ann.run("run", sweep_file(table, "code", space="space.py:function"))
    assert (problem.returncode, "space" in problem.stderr) == (2, True)
    bob.answer("run", "--dataset", "iris", "--trials", "2", "--set", "training.epochs=1", "--name", "bobs")
    with stack.http("ann") as http, stack.http("bob") as other, stack.http(None) as nobody:
        code = http.post("/sweeps", json=TINY | {"space": "space.py:function"})
        path = http.post("/sweeps", json=TINY | {"dataset": {"path": "/etc/passwd", "target": "x"}})
        body = http.post("/sweeps", content=b" " * 2_000_000, headers={"Content-Type": "application/json"})
        for answer, status, key in ((code, 422, "space"), (path, 422, "dataset.path"), (body, 413, "body")):
            assert (answer.status_code, answer.json()["key"]) == (status, key), answer.text
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert other.get("/sweeps/bobs").status_code == 200
        for answer in (http.get("/sweeps/bobs"), http.post("/sweeps/bobs/stop"), http.delete("/sweeps/bobs")):
            assert answer.status_code == 404, "another user's sweep is not even there"
        assert nobody.get("/sweeps").status_code == 401
        wrong = nobody.get("/sweeps", headers={"Authorization": f"Bearer {stack.tokens['ann'][:-1]}x"})
        assert wrong.status_code == 401


def test_only_the_sweeper_and_mlflow_can_be_reached_and_mlflow_knows_its_names(stack: Stack) -> None:
    published = [line for line in stack.compose("ps", "--format", "{{.Ports}}").splitlines() if "->" in line]
    assert len(published) == 2
    assert all(line.startswith("127.0.0.1:") for line in published)
    foreign = httpx.get(f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search", headers={"Host": "evil.example"})
    assert foreign.status_code == 403
    for service, user in (("ray-worker", "10001"), ("sweeper", "10001"), ("mlflow", "10001"), ("postgres", "999")):
        assert stack.inside(service, "id", "-u").strip() == user
    knock = "(exec 3<>/dev/tcp/postgres/5432) 2>/dev/null || echo unreachable"
    assert stack.inside("ray-worker", "bash", "-c", knock).strip() == "unreachable"
    health = "ray health-check --address ray-head:6379 >/dev/null 2>&1 && echo let in || echo refused"
    assert stack.inside("ray-worker", "bash", "-c", health).strip() == "let in"
    for change in (f"RAY_AUTH_TOKEN={'0' * 64}", "RAY_AUTH_MODE=disabled"):
        assert stack.inside("ray-worker", "bash", "-c", f"export {change}; {health}").strip() == "refused", change


def test_a_stack_that_goes_down_and_up_keeps_everything(stack: Stack, undisturbed: dict[int, Any]) -> None:
    ann = stack.site("ann")
    before = ann.answer("list")
    stack.down()
    stack.up("second start")
    assert ann.answer("list") == before
    check_promise(ann, "undisturbed", TRIALS, undisturbed)
    wait_until(lambda: stack.ready() == 2, 240)
    assert ann.answer("run", "--dataset", "iris", "--trials", "2", "--name", "after")["complete"] == 2
