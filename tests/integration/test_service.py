"""The service as its users meet it: over HTTP, with tokens, several sweeps at once, restarts in the middle."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sweeper.spec.parse import load_spec
from sweeper.states import SweepState
from tests.served import LONG, SMALL, Served, events_of, problem, serving, table, until, upload

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("service") / "home", dataset_bytes=100_000) as served:
        yield served


@pytest.fixture(scope="module")
def ended(served: Served) -> str:
    """A sweep of bob's that has run to its end."""
    sweep = served.submit("bob", SMALL | {"name": "ended"})
    assert served.wait(sweep, "complete")["complete"] == 6
    return sweep


class TestSubmitting:
    def test_a_sweep_runs_to_its_end_and_every_trial_is_in_mlflow(self, served: Served, ended: str) -> None:
        answer = served.client("bob").get(f"/sweeps/{ended}/trials").json()
        assert answer["total"] == 6
        assert [t["number"] for t in answer["trials"]] == list(range(6))
        assert {t["tracked_state"] for t in answer["trials"]} == {"complete"}
        assert all(t["mlflow_run_id"] for t in answer["trials"])
        assert served.client("bob").get(f"/sweeps/{ended}").json()["view"].startswith("http://mlflow.example/#/")

    def test_yaml_is_taken_like_json(self, served: Served) -> None:
        text = "name: from-yaml\ndataset: {name: iris}\ntraining: {epochs: 1}\nsearch: {trials: 1}\n"
        client = served.client("bob", **{"Content-Type": "application/yaml"})
        sweep = client.post("/sweeps", content=text).json()
        assert sweep["name"] == "from-yaml"
        assert served.wait(sweep["sweep"], "complete")["requested"] == 1

    def test_the_same_key_is_the_same_sweep_and_another_sweep_file_is_refused(self, served: Served) -> None:
        client = served.client("cat", **{"Idempotency-Key": "once"})
        first = client.post("/sweeps", json=SMALL | {"name": "once"})
        again = client.post("/sweeps", json=SMALL | {"name": "once"})
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json()["sweep"] == again.json()["sweep"]
        other = problem(client.post("/sweeps", json=SMALL | {"name": "twice"}), 422)
        assert other["key"] == "Idempotency-Key"
        served.wait(first.json()["sweep"], "complete")

    def test_a_misspelt_key_is_answered_as_on_the_command_line(self, served: Served) -> None:
        wrong = SMALL | {"search": {"trails": 5}}
        found = problem(served.client("bob").post("/sweeps", json=wrong), 422)
        with pytest.raises(Exception, match="trails") as local:
            load_spec(wrong)
        assert found["detail"] == str(local.value)
        assert (found["key"], found["exit_code"]) == ("search.trails", 2)

    @pytest.mark.parametrize(
        "space", ["my_space.py:space", "/etc/x.py:f", {"name": "f", "function": "a.py:f", "sha256": "0"}]
    )
    def test_code_is_refused_with_the_reason(self, served: Served, space: Any) -> None:
        found = problem(served.client("bob").post("/sweeps", json=SMALL | {"space": space}), 422)
        assert "runs no code of its users" in found["detail"]

    @pytest.mark.parametrize("space", ["/etc/passwd", "../space.yaml", "other.yaml", "file.json"])
    def test_a_space_file_of_the_server_is_refused(self, served: Served, space: str) -> None:
        found = problem(served.client("bob").post("/sweeps", json=SMALL | {"space": space}), 422)
        assert "a sweep cannot use files of the server" in found["detail"]

    def test_a_dataset_path_is_refused_with_the_reason(self, served: Served) -> None:
        data = {"path": "/etc/passwd.csv", "target": "root"}
        found = problem(served.client("bob").post("/sweeps", json=SMALL | {"dataset": data}), 422)
        assert found["key"] == "dataset.path"
        assert "Upload the file" in found["remedy"]

    @pytest.mark.parametrize(
        "body", [b"", b"{", b"[]", b"null", b"\xff", b'{"a": 1, "a": 2}', b"[" * 5000, b'"x"', b"5"]
    )
    def test_a_body_that_is_no_sweep_file_is_a_problem_not_a_crash(self, served: Served, body: bytes) -> None:
        problem(served.client("bob").post("/sweeps", content=body, headers={"Content-Type": "application/json"}), 422)

    def test_an_oversize_body_is_refused(self, served: Served) -> None:
        problem(served.client("bob").post("/sweeps", content=b" " * (2 << 20)), 413)

    def test_a_network_that_no_worker_could_ever_hold_is_refused(self, served: Served) -> None:
        until(lambda: served.service.status().workers, 60)
        space = {"hidden_layers": {"choice": [[8], [65_536] * 20]}}
        found = problem(served.client("bob").post("/sweeps", json=SMALL | {"space": space}), 422)
        assert found["key"] == "space.hidden_layers"
        assert "1,632 GB" in found["detail"]

    def test_data_that_cannot_be_used_fails_the_sweep_with_the_reason(self, served: Served) -> None:
        name = upload(served, "bob", b"a,b\n1,2\n")
        sweep = served.submit("bob", SMALL | {"name": "bad", "dataset": {"upload": name, "target": "c"}})
        found = served.wait(sweep, "failed")
        assert "'c'" in found["reason"]
        assert found["stopped"] == 6
        assert str(served.settings.home) not in json.dumps(found)


class TestWhoMayWhat:
    @pytest.mark.parametrize("token", [None, "Bearer wrong", "Basic YTpi"])
    def test_nothing_is_told_without_a_good_token(self, served: Served, ended: str, token: str | None) -> None:
        headers = {"Authorization": token} if token else {}
        for path in ("/info", "/sweeps", f"/sweeps/{ended}", f"/sweeps/{ended}/events", f"/sweeps/{ended}/model.zip"):
            answer = httpx.get(f"{served.url}/api/v1{path}", headers=headers)
            assert "token" in problem(answer, 401)["detail"]
            assert answer.headers["www-authenticate"] == "Bearer"
        served.app.state.authenticator.failures._seen.clear()

    def test_another_users_sweep_looks_like_none(self, served: Served, ended: str) -> None:
        client = served.client("cat")
        for path in ("", "/trials", "/trials/0", "/best", "/reports", "/summary", "/events", "/report", "/model.zip"):
            found = problem(client.get(f"/sweeps/{ended}{path}"), 404)
            assert found["exit_code"] == 4
        for verb in ("stop", "pause", "resume", "retry"):
            problem(client.post(f"/sweeps/{ended}/{verb}"), 404)
        problem(client.delete(f"/sweeps/{ended}"), 404)
        problem(client.patch(f"/sweeps/{ended}", json={"priority": 3}), 404)
        assert ended not in client.get("/sweeps").text
        assert "ended" not in problem(client.get("/sweeps/endet"), 404)["detail"]

    def test_a_sweep_learns_from_an_earlier_one_of_the_same_user_only(self, served: Served, ended: str) -> None:
        later = SMALL | {"name": "later", "search": SMALL["search"] | {"from": "ended"}}
        refused = problem(served.client("cat").post("/sweeps", json=later), 422)
        assert refused["key"] == "search.from"
        client = served.client("bob", **{"Idempotency-Key": "warm"})
        first, again = client.post("/sweeps", json=later), client.post("/sweeps", json=later)
        assert (first.status_code, again.status_code) == (201, 200)
        taken = first.json()["spec"]["search"]["warm"]
        assert (taken["sweep"], len(taken["points"])) == (ended, 6)
        served.wait(first.json()["sweep"], "complete")

    def test_a_viewer_sees_everything_and_changes_nothing(self, served: Served, ended: str) -> None:
        client = served.client("vic")
        assert client.get(f"/sweeps/{ended}").json()["owner"] == "bob"
        problem(client.post("/sweeps", json=SMALL), 403)
        problem(client.post(f"/sweeps/{ended}/resume"), 403)
        problem(client.delete(f"/sweeps/{ended}"), 403)
        problem(client.post("/datasets", params={"filename": "a.csv"}, content=b"a"), 403)

    def test_an_admin_sees_and_changes_everybodys_sweeps(self, served: Served) -> None:
        sweep = served.submit("cat", SMALL | {"name": "doomed"})
        served.wait(sweep, "complete")
        assert served.client("ada").get("/sweeps", params={"owner": "cat"}).json()["total"] >= 1
        assert served.client("ada").delete(f"/sweeps/{sweep}").status_code == 204
        problem(served.client("cat").get(f"/sweeps/{sweep}"), 404)

    def test_too_many_wrong_tokens_are_refused_for_a_while(self, served: Served) -> None:
        answers = [httpx.get(f"{served.url}/api/v1/info", headers={"Authorization": "Bearer no"}) for _ in range(12)]
        found = problem(answers[-1], 429)
        assert int(answers[-1].headers["retry-after"]) > 0
        assert "Try again" in found["detail"]
        served.app.state.authenticator.failures._seen.clear()


class TestReading:
    def test_lists_are_paged_filtered_and_counted(self, served: Served, ended: str) -> None:
        client = served.client("bob")
        everything = client.get("/sweeps").json()
        assert everything["total"] == len(everything["sweeps"]) >= 2
        page = client.get("/sweeps", params={"limit": 1, "offset": 1}).json()
        assert [s["sweep"] for s in page["sweeps"]] == [everything["sweeps"][1]["sweep"]]
        assert page["total"] == everything["total"]
        assert {s["name"] for s in client.get("/sweeps", params={"name": "ended"}).json()["sweeps"]} == {"ended"}
        assert client.get("/sweeps", params={"state": "paused"}).json() == {"sweeps": [], "total": 0}
        without = client.get("/sweeps", params={"spec": "false"}).json()["sweeps"]
        assert [(s["sweep"], s["spec"]) for s in without] == [(s["sweep"], None) for s in everything["sweeps"]]

    def test_trials_are_paged_and_sorted_and_the_best_comes_first(self, served: Served, ended: str) -> None:
        client = served.client("bob")
        by_value = client.get(f"/sweeps/{ended}/trials", params={"sort": "value", "limit": 3}).json()
        values = [t["value"] for t in by_value["trials"]]
        assert values == sorted(values)
        assert by_value["total"] == 6
        best = client.get(f"/sweeps/{ended}/best", params={"k": 2}).json()["best"]
        assert [t["number"] for t in best] == [t["number"] for t in by_value["trials"][:2]]
        assert "cannot sort by" in problem(client.get(f"/sweeps/{ended}/trials?sort=vlue"), 422)["detail"]

    def test_a_trial_comes_with_its_history_and_a_missing_one_is_named(self, served: Served, ended: str) -> None:
        trial = served.client("bob").get(f"/sweeps/{ended}/trials/0").json()
        assert [(a["attempt"], a["worker"]) for a in trial["history"]] == [(1, "inline")]
        assert "has no trial 99" in problem(served.client("bob").get(f"/sweeps/{ended}/trials/99"), 422)["detail"]

    def test_reports_have_every_epoch(self, served: Served, ended: str) -> None:
        reports = served.client("bob").get(f"/sweeps/{ended}/reports").json()["reports"]
        assert {number: [r["epoch"] for r in rows] for number, rows in reports.items()} == {
            str(n): [0, 1, 2] for n in range(6)
        }

    def test_events_go_on_after_the_last_one_seen_and_end_with_the_sweep(self, served: Served, ended: str) -> None:
        with served.client("bob").stream("GET", f"/sweeps/{ended}/events") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            everything = list(events_of(stream))
        assert [number for number, _, _ in everything] == list(range(1, len(everything) + 1))
        assert everything[-1][1] == "sweep.finished"
        assert sum(kind == "trial.ended" for _, kind, _ in everything) == 6
        last = {"Last-Event-ID": str(everything[4][0])}
        with served.client("bob").stream("GET", f"/sweeps/{ended}/events", headers=last) as stream:
            assert list(events_of(stream)) == everything[5:]

    def test_the_report_and_the_model_can_be_fetched(self, served: Served, ended: str) -> None:
        report = served.client("bob").get(f"/sweeps/{ended}/report")
        assert report.headers["content-type"].startswith("text/html")
        model = served.client("bob").get(f"/sweeps/{ended}/model.zip")
        assert model.content[:2] == b"PK"
        best = served.client("bob").get(f"/sweeps/{ended}/best").json()["best"][0]
        assert int(model.headers["x-sweeper-trial"]) == best["number"]

    def test_health_readiness_and_metrics_need_no_token(self, served: Served, ended: str) -> None:
        assert httpx.get(f"{served.url}/healthz").json() == {"status": "ok"}
        assert httpx.get(f"{served.url}/readyz").json() == {"status": "ready", "workers": 1, "problems": {}}
        text = httpx.get(f"{served.url}/metrics").text
        assert "sweeper_workers 1.0" in text
        assert 'route="/api/v1/sweeps/{ref}"' in text
        assert ended not in text


class TestChanging:
    def test_a_running_sweep_is_paused_edited_resumed_and_stopped(self, served: Served) -> None:
        client = served.client("bob")
        sweep = served.submit("bob", LONG | {"name": "long"})
        served.wait(sweep, "running")
        until(lambda: client.get(f"/sweeps/{sweep}").json()["counts"]["running"], 60)
        problem(client.delete(f"/sweeps/{sweep}"), 409)
        assert client.patch(f"/sweeps/{sweep}", json={"requested": 9, "priority": 2}).json()["requested"] == 9
        assert client.post(f"/sweeps/{sweep}/pause").json()["state"] == "paused"
        served.wait(sweep, "paused")
        assert client.patch(f"/sweeps/{sweep}", json={"requested": 5}).json()["requested"] == 5
        assert client.post(f"/sweeps/{sweep}/resume").status_code == 202
        until(lambda: client.get(f"/sweeps/{sweep}").json()["counts"]["running"], 60)
        assert client.get(f"/sweeps/{sweep}").json()["priority"] == 2
        stopped = client.post(f"/sweeps/{sweep}/stop").json()
        assert (stopped["state"], stopped["reason"]) == ("stopped", "stopped by bob")
        assert served.wait(sweep, "stopped")["stopped"] == 5
        problem(client.patch(f"/sweeps/{sweep}", json={"requested": 50}), 409)
        assert client.delete(f"/sweeps/{sweep}").status_code == 204

    def test_a_sweep_that_has_ended_goes_on_to_more_trials(self, served: Served) -> None:
        client = served.client("bob")
        sweep = served.submit("bob", SMALL | {"name": "grown"})
        served.wait(sweep, "complete")
        until(lambda: not served.service.holds(sweep), 60)
        refused = client.post(f"/sweeps/{sweep}/resume", params={"requested": 5})
        assert "6 trials already, and 5 are fewer" in problem(refused, 422)["detail"]
        problem(client.post(f"/sweeps/{sweep}/stop", params={"requested": 9}), 422)
        problem(client.patch(f"/sweeps/{sweep}", json={"requested": 9}), 409)
        answer = client.post(f"/sweeps/{sweep}/resume", params={"requested": 9})
        assert (answer.status_code, answer.json()["state"], answer.json()["requested"]) == (202, "running", 9)
        assert served.wait(sweep, "complete")["complete"] == 9
        until(lambda: not served.service.holds(sweep), 60)
        assert served.ledger.untracked(sweep) == []

    def test_what_has_ended_is_not_changed_by_stop_or_resume(self, served: Served, ended: str) -> None:
        for verb in ("stop", "pause", "resume"):
            answer = served.client("bob").post(f"/sweeps/{ended}/{verb}")
            assert (answer.status_code, answer.json()["state"]) == (202, "complete")

    def test_failed_trials_are_run_again(self, served: Served) -> None:
        rates = {"learning_rate": {"choice": [1e-2, 1e30]}, "hidden_layers": [8], "optimizer": "sgd"}
        wild = SMALL | {"name": "wild", "space": rates, "training": {"epochs": 3, "clip_norm": None}}
        sweep = served.submit("bob", wild)
        failed = served.wait(sweep, "complete")["failed"]
        assert failed > 0
        assert served.client("bob").post(f"/sweeps/{sweep}/retry").status_code == 202
        assert served.wait(sweep, "complete")["failed"] == failed
        trials = served.client("bob").get(f"/sweeps/{sweep}/trials").json()["trials"]
        assert sorted(t["attempts"] for t in trials) == [1] * (6 - failed) + [2] * failed

    def test_a_sweep_is_submitted_with_its_priority(self, served: Served) -> None:
        client = served.client("bob")
        answer = client.post("/sweeps", params={"priority": 7}, json=SMALL | {"name": "urgent"})
        assert answer.json()["priority"] == 7
        assert served.ledger.sweep(answer.json()["sweep"]).priority == 7
        assert problem(client.post("/sweeps", params={"priority": 101}, json=SMALL), 422)["key"] == "priority"
        served.wait(answer.json()["sweep"], "complete")

    @pytest.mark.parametrize(
        "edit", [{"requested": 0}, {"requested": "9"}, {"priority": 1.5}, {"name": "x"}, {"priority": 101}]
    )
    def test_a_wrong_edit_is_refused(self, served: Served, ended: str, edit: dict[str, Any]) -> None:
        problem(served.client("bob").patch(f"/sweeps/{ended}", json=edit), 422)


class TestTogether:
    def test_sweeps_of_two_users_run_at_once_and_their_data_never_mixes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each sweep's trials are exactly those that it has when it runs alone."""
        monkeypatch.setattr("sweeper.running.fitting.MAX_ROWS_CPU", 2)  # many cohorts, by turns
        with serving(tmp_path / "together") as served:
            sweeps = {}
            for user, offset in (("bob", 0.0), ("cat", 1000.0)):
                data = {"upload": upload(served, user, table(offset, 60 if user == "bob" else 90)), "target": "y"}
                spec = SMALL | {"name": user, "dataset": data, "search": {"trials": 24, "sampler": "random"}}
                sweeps[user] = served.submit(user, spec | {"training": {"epochs": 60}})
            for sweep in sweeps.values():
                served.wait(sweep, "complete")
            together = {user: results(served, sweep) for user, sweep in sweeps.items()}
            spans = [span(served, sweep) for sweep in sweeps.values()]
            assert max(begin for begin, _ in spans) < min(end for _, end in spans), "they did not run at once"
            for user, sweep in sweeps.items():
                spec = served.ledger.sweep(sweep).spec
                data = {"upload": Path(spec["dataset"]["path"]).name, "target": "y"}
                again = served.submit(user, {**spec, "name": "alone", "dataset": data})
                served.wait(again, "complete")
                assert results(served, again) == together[user]

    def test_a_sweep_whose_lease_is_lost_is_given_up_and_the_others_go_on(self, tmp_path: Path) -> None:
        with serving(tmp_path / "lease") as served:
            lost, kept = served.submit("bob", LONG), served.submit("cat", LONG)
            for sweep in (lost, kept):
                served.wait(sweep, "running")
                until(lambda sweep=sweep: served.service.runs(sweep), 30)
            ledger = served.ledger
            until(lambda: ledger.acquire_lease(lost, "elsewhere:1", 60, gone=ledger.lease(lost)) is not None, 30)
            until(lambda: not served.service.runs(lost), 30)
            assert served.ledger.lease(lost).owner == "elsewhere:1"
            before = served.ledger.sweep(kept).counts["running"]
            until(lambda: served.ledger.sweep(kept).counts["running"] >= max(1, before), 30)
            served.ledger.release_lease(lost, "elsewhere:1")
            until(lambda: served.service.runs(lost), 30)
            for sweep in (lost, kept):
                served.client("ada").post(f"/sweeps/{sweep}/stop")
                assert served.wait(sweep, "stopped")["stopped"] == 4

    def test_a_stopped_service_leaves_its_sweeps_to_the_next_one(self, tmp_path: Path) -> None:
        spec = SMALL | {"training": {"epochs": 100}, "search": {"trials": 150, "sampler": "random"}}
        with serving(tmp_path / "next") as served:
            sweep = served.submit("bob", spec)
            until(lambda: served.ledger.sweep(sweep).counts["complete"] >= 2, 60)
            served.stop()
            left = served.ledger.sweep(sweep)
            assert (left.state, left.counts["running"]) == (SweepState.RUNNING, 0)
            assert served.ledger.lease(sweep) is None
            assert left.counts["complete"] < 150, "it ended before the service did"
            served.start()
            assert served.wait(sweep, "complete")["complete"] == 150
            trials = served.ledger.trials(sweep)
            assert {t.tracked_state for t in trials} == {t.state for t in trials}
            assert max(t.lost for t in trials) == 0

    def test_a_sweep_of_the_command_line_is_left_to_the_command_line(self, tmp_path: Path) -> None:
        with serving(tmp_path / "local") as served:
            spec = load_spec(SMALL)
            mine = served.ledger.create_sweep("mine", spec.to_json(), 6)
            served.wait(served.submit("bob", SMALL), "complete")
            assert served.ledger.sweep(mine.sweep).state is SweepState.QUEUED


def results(served: Served, sweep: str) -> list[Any]:
    return [(t.number, t.state, t.value, dict(t.params or {}), dict(t.metrics)) for t in served.ledger.trials(sweep)]


def span(served: Served, sweep: str) -> tuple[float, float]:
    trials = served.ledger.trials(sweep)
    return min(t.started_at or time.time() for t in trials), max(t.ended_at or 0.0 for t in trials)


def test_users_take_turns_on_one_worker_even_when_their_trials_are_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeper.running.clock.SLICE_SECONDS", 1.0)
    monkeypatch.setattr("sweeper.running.run.LEG_SECONDS", 0.2)
    with serving(tmp_path / "turns") as served:
        first = served.submit("bob", LONG)
        until(lambda: served.ledger.sweep(first).counts["running"], 60)
        second = served.submit("cat", SMALL)
        assert served.wait(second, "complete")["complete"] == 6
        trials = served.ledger.trials(first)
        assert max(t.attempt for t in trials) > 1, "it did not give its worker away"
        assert {t.lost for t in trials} == {0}
        until(lambda: served.ledger.sweep(first).counts["running"], 60)
        log = (served.settings.home / "sweeps" / first / "events.jsonl").read_text().splitlines()
        again = [e for e in map(json.loads, log) if e["action"] == "trial.started" and e["attempt"] > 1]
        assert again, "it never went on"
        assert all(e["epoch"] > 0 for e in again), "it began again from the start"
        served.client("bob").post(f"/sweeps/{first}/stop")
        served.wait(first, "stopped")


def test_finals_run_in_the_service_and_are_in_the_summary(tmp_path: Path) -> None:
    with serving(tmp_path / "finals") as served:
        sweep = served.submit("bob", SMALL | {"finals": {"top": 2, "seeds": 3}})
        summary = served.wait(sweep, "complete")["summary"]
        assert {standing["trial"] for standing in summary["finals"]["standings"]} <= set(range(6))
        assert len(summary["finals"]["seeds"]) == 3
        assert summary["baselines"]["trial"] == summary["finals"]["standings"][0]["trial"]
        assert served.client("bob").get("/sweeps").json()["total"] == 1, "the finals are no sweep of their own"
        with served.client("bob").stream("GET", f"/sweeps/{sweep}/events") as stream:
            kinds = [kind for _, kind, _ in events_of(stream)]
        assert kinds.count("finals.trial.ended") == 6
        assert kinds[-1] == "sweep.finished"
        child = served.client("bob").get(f"/sweeps/{summary['finals']['sweep']}").json()
        assert (child["parent"], child["owner"]) == (sweep, "bob")
        problem(served.client("bob").post(f"/sweeps/{child['sweep']}/stop"), 403)
