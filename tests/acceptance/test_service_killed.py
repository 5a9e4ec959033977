"""The service in a process of its own, killed at any moment and started again: every sweep ends with the promise."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sweeper.ledger.opening import open_ledger
from sweeper.ledger.protocol import Ledger
from sweeper.tracking.tracker import SHOWN
from tests.faults import INLINE, SWEEP, TRIALS, Site, check_promise, wait_until
from tests.ports import own_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OFTEN = (
    "sweeper.running.clock.CHECKPOINT_SECONDS = 0.2",
    "sweeper.running.run.LEG_SECONDS = 0.1",
    "sweeper.running.fitting.MAX_ROWS_CPU = 6",
)


class Service:
    """``sweeper serve`` on a site; ``submit`` waits for a service that is just coming up, as the client does."""

    def __init__(self, site: Site) -> None:
        self.site, self.port = site, own_port()
        self.tokens = {user: site.answer("token", "create", user)["token"] for user in ("bob", "cat")}
        self.ledger: Ledger = open_ledger(None, site.home)
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        self.process = self.site.start("serve", "--port", str(self.port), *INLINE)
        return self.process

    def call(self, user: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[user]}", **options.pop("headers", {})}
        method = "POST" if "json" in options else "GET"
        return httpx.request(
            method, f"http://127.0.0.1:{self.port}/api/v1{path}", headers=headers, timeout=60, **options
        )

    def submit(self, user: str, spec: dict[str, Any]) -> str:
        answers: list[httpx.Response] = []

        def answered() -> bool:
            assert self.process.poll() is None, self.process.communicate()[1][-3000:]
            try:
                answers.append(self.call(user, "/sweeps", json=spec, headers={"Idempotency-Key": spec["name"]}))
            except httpx.TransportError:
                return False
            return True

        wait_until(answered, 60)
        assert answers[0].status_code in (200, 201), answers[0].text
        return str(answers[0].json()["sweep"])

    def kill(self) -> None:
        self.site.kill(self.process)
        self.process.wait()

    def finished(self, sweep: str) -> bool:
        """The sweep is complete and MLflow was told."""
        record = self.ledger.sweep(sweep)
        return record.state.terminal and bool(record.summary.get(SHOWN)) and self.ledger.lease(sweep) is None

    def until(self, true: Callable[[], bool], timeout: float = 240) -> None:
        wait_until(lambda: true() or self.process.poll() is not None, timeout)
        assert self.process.poll() is None, self.process.communicate()[1][-3000:]


def events(site: Site, sweep: str) -> list[dict[str, Any]]:
    file = site.home / "sweeps" / sweep / "events.jsonl"
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the service and of its HTTP server, in this order."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted((int(pid) for pid in found), key=lambda pid: -os.getpriority(os.PRIO_PROCESS, pid))


def test_each_process_of_the_service_may_die_alone(site: Site, undisturbed: dict[int, Any]) -> None:
    site.patches = OFTEN
    service = Service(site)
    sweep = service.submit("bob", SWEEP | {"name": "alone"})
    service.until(lambda: service.ledger.sweep(sweep).counts["running"] > 0)
    uploads = site.home / "uploads" / "bob"
    uploads.mkdir(parents=True)
    (uploads / ".upload-half").write_text("a,b")  # of an upload that the kill cuts off
    [working, answering] = children(service.process)
    os.kill(answering, signal.SIGKILL)
    service.submit("bob", SWEEP | {"name": "alone"})  # answered by the next HTTP server, with the sweep that is there
    [still, another] = children(service.process)
    assert still == working
    assert list(uploads.iterdir()) == []
    assert another != answering
    assert max(t.attempt for t in service.ledger.trials(sweep)) == 1, "training does not notice"
    os.kill(working, signal.SIGKILL)
    assert service.call("bob", f"/sweeps/{sweep}").json()["state"] == "running", "answered while there is no service"
    service.until(lambda: service.finished(sweep))
    trials = check_promise(site, sweep, TRIALS, undisturbed)
    assert max(trial["attempts"] for trial in trials) == 2, "the kill hit no running trial"


def test_a_service_killed_at_random_moments_ends_the_sweeps_of_all_users_as_promised(
    site: Site, undisturbed: dict[int, Any]
) -> None:
    site.patches, draw = OFTEN, random.Random(3)
    service = Service(site)
    sweeps = {
        "bob": service.submit("bob", SWEEP | {"name": "of-bob"}),
        "cat": service.submit("cat", SWEEP | {"name": "of-cat", "finals": {"top": 2, "seeds": 2}}),
    }
    for _ in range(3):
        service.until(lambda: any(service.ledger.sweep(sweep).counts["running"] for sweep in sweeps.values()))
        time.sleep(draw.uniform(0.0, 1.5))
        service.kill()
        service.start()
    service.until(lambda: any(e["action"] == "finals.trial.started" for e in events(site, sweeps["cat"])))
    service.kill()  # in the middle of the finals
    service.start()
    service.until(lambda: all(service.finished(sweep) for sweep in sweeps.values()))
    trials = [check_promise(site, sweep, TRIALS, undisturbed) for sweep in sweeps.values()]
    assert max(t["attempts"] for some in trials for t in some) > 1, "no kill hit a running trial"
    finals = service.ledger.sweep(sweeps["cat"]).summary["finals"]
    assert [len(standing["values"]) for standing in finals["standings"]] == [2, 2]
    assert service.ledger.sweep(sweeps["bob"]).summary.get("finals") is None


def test_sigterm_ends_the_service_soon_and_the_next_one_goes_on_by_itself(
    site: Site, undisturbed: dict[int, Any]
) -> None:
    site.patches = OFTEN
    service = Service(site)
    sweep = service.submit("bob", SWEEP | {"name": "of-bob"})
    service.until(lambda: service.ledger.sweep(sweep).counts["complete"] >= 4)
    site.kill(service.process, signal.SIGTERM)
    _, err = service.process.communicate(timeout=60)
    assert service.process.returncode == 0, err[-2000:]
    assert "Traceback" not in err
    left = service.ledger.sweep(sweep)
    assert (left.state, left.counts["running"]) == ("running", 0)
    assert service.ledger.lease(sweep) is None
    service.start()
    service.until(lambda: service.finished(sweep))
    check_promise(site, sweep, TRIALS, undisturbed)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_without_a_token_only_this_machine_is_listened_to(tmp_path: Path, host: str) -> None:
    site = Site(tmp_path / "home")
    done = site.run("serve", "--host", host, *INLINE)
    assert done.returncode == 2
    assert "sweeper token create USER --role admin" in done.stderr


def test_on_loopback_a_service_without_tokens_says_how_to_make_one_and_lets_nobody_in(site: Site) -> None:
    port = own_port()
    process = site.start("serve", "--port", str(port), *INLINE)

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/v1/sweeps").status_code == 401
        except httpx.TransportError:
            return False

    wait_until(answers, 60)
    site.kill(process, signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert "sweeper token create USER --role admin" in err
