"""`sweeper doctor` on a healthy home and on broken services, in real processes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sweeper.cli import doctor
from sweeper.cli.doctor import Check
from sweeper.cli.schemas import schema_of
from sweeper.ledger.opening import open_ledger
from sweeper.ledger.probe import clock_skew, probe_ledger
from sweeper.settings import Settings
from tests.faults import Site
from tests.postgres import PostgresServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
NAMES = [
    "python", "libraries", "device", "compiled", "shared memory", "ray token",
    "ray", "home", "disk", "ledger", "clock", "mlflow",
]  # fmt: skip
NOBODY = "127.0.0.1:1"  # nothing listens there


def failures(site: Site) -> dict[str, dict[str, Any]]:
    """The failed checks of a run that has to fail soon and without a traceback."""
    began = time.monotonic()
    done = site.run("doctor", "--json", timeout=120)
    assert time.monotonic() - began < 60
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is False
    assert [check["name"] for check in answer["checks"]] == NAMES
    assert "secret" not in done.stdout + done.stderr
    found = {check["name"]: check for check in answer["checks"] if check["state"] == "failure"}
    assert all(check["found"] and check["fix"] for check in found.values())
    return found


@pytest.mark.ray
def test_a_healthy_home_passes_and_nothing_is_left_behind(site: Site) -> None:
    answer = site.answer("doctor")
    assert answer["ok"] is True
    assert [check["name"] for check in answer["checks"]] == NAMES
    jsonschema.validate(answer, schema_of("doctor"))
    for check in answer["checks"]:
        assert set(check) == {"name", "state", "found", "fix"}
        assert check["state"] in ("ok", "warning"), check
        assert check["found"]
        assert bool(check["fix"]) == (check["state"] == "warning"), check
    assert "a cpu worker started" in answer["checks"][NAMES.index("ray")]["found"] or "cuda" in json.dumps(answer)
    assert site.answer("list") == {"sweeps": []}
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{site.home / 'mlflow.db'}")
    experiments = client.search_experiments()
    assert [experiment.name for experiment in experiments] == ["Default"]
    assert client.search_runs([experiments[0].experiment_id]) == []


def test_services_that_do_not_answer_fail_with_a_fix_each(site: Site) -> None:
    site.home.mkdir()
    site.env = {
        "MLFLOW_TRACKING_URI": "http://me:secret@127.0.0.1:9",
        "SWEEPER_DATABASE_URL": "postgresql://me:secret@127.0.0.1:9/ledger",
        "RAY_ADDRESS": NOBODY,
    }
    found = failures(site)
    assert set(found) == {"ray", "ledger", "mlflow"}
    for name, variable in (("ray", "RAY_ADDRESS"), ("ledger", "SWEEPER_DATABASE_URL"), ("mlflow", "MLFLOW_TRACKING_")):
        assert variable in found[name]["fix"]
        assert "refused" in found[name]["found"]


def test_a_home_that_is_a_file_fails_what_would_be_kept_in_it(site: Site) -> None:
    site.home.write_text("a file")
    site.env = {"RAY_ADDRESS": NOBODY}  # Ray is not what this is about
    found = failures(site)
    assert set(found) == {"ray", "home", "ledger", "mlflow"}
    assert all("SWEEPER_HOME" in found[name]["fix"] for name in ("home", "ledger", "mlflow"))
    table = site.run("doctor")
    assert table.returncode == 1
    assert "failures: 4, warnings: " in table.stdout


@pytest.mark.postgres
def test_postgresql_is_written_read_and_compared_by_its_clock(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.create("doctor")
    settings = Settings(tmp_path, database_url=url)
    assert [doctor.ledger(settings).state, doctor.clock(settings).state] == ["ok", "ok"]
    skew = clock_skew(url, tmp_path)
    assert skew is not None
    assert abs(skew) < 1.0
    ledger = open_ledger(url, tmp_path)
    kept = ledger.create_sweep("mine", {}, 2)
    assert probe_ledger(url, tmp_path).write_seconds > 0
    assert [record.sweep for record in ledger.sweeps()] == [kept.sweep]
    ledger.close()


def test_a_check_that_raises_or_hangs_is_a_failure_with_a_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(settings: Settings) -> Check:
        raise KeyError("nothing\nthere")

    def hanging(settings: Settings) -> Check:
        time.sleep(60)
        return Check("hanging", "ok", "")

    monkeypatch.setattr(doctor, "CHECKS", ((broken, "mend it"), (hanging, "kick it")))
    monkeypatch.setattr(doctor, "DEADLINE", 0.2)
    first, second = doctor.examine(Settings(tmp_path))
    assert (first.name, first.state, first.fix) == ("broken", "failure", "mend it")
    assert "KeyError" in first.found
    assert second == Check("hanging", "failure", "no answer within 0 s", "kick it")


def test_a_token_that_others_can_read_is_warned_of_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "auth_token"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    assert doctor.token(Settings(tmp_path)).state == "ok", "Ray makes one"
    assert doctor.token(Settings(tmp_path, ray_address="head:6379")).state == "warning"
    file.write_text("t" * 32)
    file.chmod(0o644)
    assert doctor.token(Settings(tmp_path)) == Check(
        "ray token", "warning", f"{file} has mode 0644: others can read it", f"chmod 600 {file}"
    )
    assert file.stat().st_mode & 0o777 == 0o644
    file.chmod(0o600)
    assert doctor.token(Settings(tmp_path)).state == "ok"
