"""What is known of a tracking store before a sweep begins: refused for good, or worth waiting for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sweeper.errors import SpecError
from sweeper.tracking.check import check_tracking


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[str | None]]]:
    """A server that gives every request this status, and the credentials it was sent."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_the_credentials_is_told_with_the_variables_to_set(tmp_path: Path, status: int) -> None:
    with answering(status) as (url, _), pytest.raises(SpecError, match="MLFLOW_TRACKING_USERNAME") as caught:
        check_tracking(url, tmp_path)
    assert f"HTTP {status}" in str(caught.value)
    assert caught.value.key == "MLFLOW_TRACKING_URI"


def test_another_server_at_the_address_is_told(tmp_path: Path) -> None:
    with answering(404) as (url, _), pytest.raises(SpecError, match="not an MLflow server"):
        check_tracking(url, tmp_path)


def test_the_credentials_of_the_environment_are_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with answering(200) as (url, seen):
        check_tracking(url, tmp_path)
    assert seen == ["Basic YW5uOnNlY3JldA=="]


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_in_trouble_is_waited_for(tmp_path: Path, status: int) -> None:
    with answering(status) as (url, _):
        check_tracking(url, tmp_path)
    check_tracking("http://127.0.0.1:9", tmp_path)  # nobody listens there


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns"])
def test_a_folder_of_files_is_refused_unless_mlflow_is_told_to_take_it(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SpecError, match="sqlite:///FILE"):
        check_tracking(uri, tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check_tracking(uri, tmp_path)


def test_a_file_that_is_no_database_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("these are notes, and long enough to be taken for a header of a database" * 3)
    before = file.read_bytes()
    with pytest.raises(SpecError, match=r"notes\.txt.*not a database"):
        check_tracking(f"sqlite:///{file}", tmp_path)
    assert file.read_bytes() == before


@pytest.mark.parametrize("where", ["", "notes.txt/mlflow.db"])
def test_a_path_that_cannot_be_a_file_is_refused(where: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(SpecError, match="cannot be MLflow's database"):
        check_tracking(f"sqlite:///{tmp_path}/{where}".rstrip("/"), tmp_path)


def test_an_unknown_scheme_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="'s3' is no kind of tracking store"):
        check_tracking("s3://bucket/runs", tmp_path)


def test_the_default_store_is_fine_and_nothing_is_made(tmp_path: Path) -> None:
    check_tracking(None, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_experiment_of_databricks_is_a_path(tmp_path: Path) -> None:
    check_tracking("databricks", tmp_path, "/Users/me@example.com/digits")
    with pytest.raises(SpecError, match=r"tracking\.experiment: 'digits' is no .*/Users"):
        check_tracking("databricks://profile", tmp_path, "digits")
