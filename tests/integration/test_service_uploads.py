"""Datasets that users upload: whose they are, what is refused, and what a sweep keeps from being deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from sweeper.places.follow import submit
from sweeper.places.http import Server
from sweeper.places.remote_ledger import RemoteLedger
from sweeper.service import desk
from sweeper.spec.parse import load_spec
from tests.served import LONG, SMALL, Served, problem, serving, table, upload

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("uploads") / "home", dataset_bytes=100_000) as served:
        yield served


def test_an_upload_is_named_by_its_content_and_seen_by_its_owner_only(served: Served) -> None:
    name = upload(served, "bob", table(0))
    assert name == upload(served, "bob", table(0), "other.csv")
    assert served.client("bob").head(f"/datasets/{name}").status_code == 200
    assert served.client("cat").head(f"/datasets/{name}").status_code == 404
    data = {"upload": name, "target": "y"}
    found = problem(served.client("cat").post("/sweeps", json=SMALL | {"dataset": data}), 422)
    assert found["key"] == "dataset.upload"


def test_a_sweep_on_an_upload_runs_and_shows_no_folder_of_the_server(served: Served) -> None:
    name = upload(served, "bob", table(1))
    sweep = served.submit("bob", SMALL | {"name": "uploaded", "dataset": {"upload": name, "target": "y"}})
    found = served.wait(sweep, "complete")
    assert found["spec"]["dataset"]["path"] == name
    for path in ("", "/trials", "/summary", "/best?k=3"):
        assert str(served.settings.home) not in served.client("bob").get(f"/sweeps/{sweep}{path}").text
    with served.client("bob").stream("GET", f"/sweeps/{sweep}/events") as stream:
        assert str(served.settings.home) not in stream.read().decode()


def test_the_files_of_test_and_validation_rows_are_sent_as_well(served: Served, tmp_path: Path) -> None:
    files = {}
    for seed, key in enumerate(("path", "validation", "test"), start=20):
        files[key] = tmp_path / f"{key}.csv"
        files[key].write_bytes(table(seed))
    spec = load_spec(
        SMALL | {"name": "parts", "dataset": {key: str(file) for key, file in files.items()} | {"target": "y"}}
    )
    ledger = RemoteLedger(Server(served.url, served.tokens["bob"]))
    said: list[str] = []
    record = submit(ledger, spec, said.append)
    found = served.wait(record.sweep, "complete")
    assert [text.split()[1] for text in said] == ["path.csv", "validation.csv", "test.csv"]
    names = [found["spec"]["dataset"][key] for key in files]
    assert len(set(names)) == 3
    for name in names:
        assert served.client("bob").head(f"/datasets/{name}").status_code == 200
    dataset = {"upload": names[0], "test": "/etc/passwd", "target": "y"}
    refused = problem(served.client("bob").post("/sweeps", json=SMALL | {"dataset": dataset}), 422)
    assert refused["key"] == "dataset.test"
    dataset = {"upload": names[0], "test_upload": "x.csv", "target": "y"}
    refused = problem(served.client("bob").post("/sweeps", json=SMALL | {"dataset": dataset}), 422)
    assert refused["key"] == "dataset.test_upload"


@pytest.mark.parametrize("name", ["../../ledger.db", "x.csv", "a" * 64 + ".csv", "%2e%2e%2fledger.db", ".."])
def test_no_other_file_can_be_named(served: Served, name: str) -> None:
    data = {"upload": name, "target": "y"}
    problem(served.client("bob").post("/sweeps", json=SMALL | {"dataset": data}), 422)
    assert served.client("bob").head(f"/datasets/{name}").status_code == 404


def test_too_large_empty_and_unknown_files_are_refused_and_leave_nothing(served: Served) -> None:
    client = served.client("cat")
    problem(client.post("/datasets", params={"filename": "a.csv"}, content=b"x" * 100_001), 413)
    streamed = client.post("/datasets", params={"filename": "a.csv"}, content=(b"x" * 1000 for _ in range(101)))
    problem(streamed, 413)
    problem(client.post("/datasets", params={"filename": "a.csv"}, content=b""), 422)
    problem(client.post("/datasets", params={"filename": "a.exe"}, content=b"x"), 422)
    assert not list((served.settings.home / "uploads" / "cat").glob("*"))


def test_own_files_are_listed_and_deleted_and_the_same_file_of_another_user_stays(served: Served) -> None:
    bob, cat = served.client("bob"), served.client("cat")
    name = upload(served, "bob", table(7))
    assert upload(served, "cat", table(7)) == name
    listed = bob.get("/datasets").json()
    assert name in [file["upload"] for file in listed["datasets"]]
    assert listed["used_bytes"] == sum(file["bytes"] for file in listed["datasets"]) <= listed["quota_bytes"]
    assert bob.delete(f"/datasets/{name}").status_code == 204
    assert "no file" in problem(bob.delete(f"/datasets/{name}"), 404)["detail"]
    assert bob.head(f"/datasets/{name}").status_code == 404
    assert cat.head(f"/datasets/{name}").status_code == 200
    sweep = served.submit("cat", SMALL | {"name": "kept", "dataset": {"upload": name, "target": "y"}})
    assert served.wait(sweep, "complete")["complete"] == 6
    assert cat.delete(f"/datasets/{name}").status_code == 204


def test_a_file_that_a_sweep_still_uses_is_kept(served: Served) -> None:
    client, name = served.client("bob"), upload(served, "bob", table(8))
    sweep = served.submit("bob", LONG | {"name": "uses", "dataset": {"upload": name, "target": "y"}})
    assert sweep in problem(client.delete(f"/datasets/{name}"), 409)["detail"]
    client.post(f"/sweeps/{sweep}/stop")
    served.wait(sweep, "stopped")
    assert client.delete(f"/datasets/{name}").status_code == 204


def test_a_file_that_goes_while_a_sweep_that_wants_it_is_submitted_refuses_the_sweep(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, name = served.client("bob"), upload(served, "bob", table(11))
    check = desk.check_can_run

    def check_meanwhile(*args: Any) -> None:
        check(*args)
        assert client.delete(f"/datasets/{name}").status_code == 204

    monkeypatch.setattr(desk, "check_can_run", check_meanwhile)
    spec = SMALL | {"name": "too-late", "dataset": {"upload": name, "target": "y"}}
    assert name in problem(served.client("bob").post("/sweeps", json=spec), 422)["detail"]


def test_a_file_is_not_deleted_while_a_sweep_that_wants_it_is_written(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, name = served.client("bob"), upload(served, "bob", table(12))
    create, deleting = served.ledger.create_sweep, ThreadPoolExecutor(1)
    answers: list[Future[httpx.Response]] = []

    def create_meanwhile(*args: Any, **options: Any) -> Any:
        answers.append(deleting.submit(client.delete, f"/datasets/{name}"))
        time.sleep(0.5)  # enough for it to go through where nothing holds it
        return create(*args, **options)

    monkeypatch.setattr(served.ledger, "create_sweep", create_meanwhile)
    sweep = served.submit("bob", SMALL | {"name": "in-time", "dataset": {"upload": name, "target": "y"}})
    assert answers[0].result(timeout=60).status_code in (204, 409)  # 204: the sweep has ended already
    assert served.wait(sweep, "complete")["complete"] == 6


def test_what_is_beyond_the_quota_is_refused_with_the_limit_and_what_to_do(served: Served) -> None:
    client, first = served.client("ada"), upload(served, "ada", table(9))
    used = client.get("/datasets").json()["used_bytes"]
    before, served.app.state.quota_bytes = served.app.state.quota_bytes, used + 10
    try:
        refused = problem(client.post("/datasets", params={"filename": "a.csv"}, content=table(10)), 507)
        assert f"{used + 10:,} bytes" in refused["detail"]
        assert "Delete a file" in refused["remedy"]
        assert client.delete(f"/datasets/{first}").status_code == 204
        upload(served, "ada", table(10))
    finally:
        served.app.state.quota_bytes = before
