"""The ledger on a PostgreSQL that is killed, restarted, missing, or shared by several new processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

from sweeper.errors import LedgerError
from sweeper.ledger import engine
from sweeper.ledger.opening import open_ledger
from sweeper.ledger.protocol import Ledger
from sweeper.ledger.tables import SCHEMA_VERSION, VERSION_TABLE
from sweeper.records import Noted, Started, Suggested
from tests.postgres import PostgresServer

pytestmark = pytest.mark.postgres
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> str:
    return postgres.create("faults")


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    ledger = open_ledger(url, Path("unused"))
    yield ledger
    ledger.close()


@contextmanager
def one_answer_lost(written: bool, after: int = 0) -> Iterator[None]:
    """One COMMIT (``after`` so many) reaches the server or not; either way its connection is gone before the answer."""
    commit, calls = psycopg.Connection.commit, count()

    def losing(connection: psycopg.Connection) -> None:
        call = next(calls)
        if call != after or written:
            commit(connection)
        if call == after:
            connection.close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Connection, "commit", losing)
        yield
    assert next(calls) > after + 1, "nothing was repeated"


both = pytest.mark.parametrize("written", [False, True], ids=["not written", "written, answer lost"])


@both
def test_a_commit_takes_effect_once_when_its_answer_is_lost(ledger: Ledger, written: bool) -> None:
    sweep = ledger.create_sweep("digits", {}, 2).sweep
    refused = Started(1, 1, "w", 1.0)
    changes = [Suggested(0, {}, 0), Started(0, 1, "w", 1.0), Noted(0, "once"), refused]
    with one_answer_lost(written):
        assert ledger.commit(sweep, changes) == [refused]
    assert ledger.trial(sweep, 0).notes == ("once",)
    assert ledger.commit(sweep, changes[:2]) == changes[:2]  # a new commit of the same changes is another matter


@both
def test_every_other_call_can_be_repeated(ledger: Ledger, written: bool) -> None:
    with one_answer_lost(written):
        sweep = ledger.create_sweep("repeated", {}, 2).sweep
    assert [record.sweep for record in ledger.sweeps(name="repeated")] == [sweep]
    with one_answer_lost(written):
        ledger.request(sweep, "stop")
    with one_answer_lost(written, after=1):
        assert [request.kind for request in ledger.take_requests(sweep)] == ["stop"]
    with one_answer_lost(written):
        assert ledger.acquire_lease(sweep, "me", 60)
    with one_answer_lost(written):
        assert ledger.renew_leases("me") == {sweep}
    with one_answer_lost(written):
        assert ledger.extend(sweep, 5).requested == 5
    with one_answer_lost(written):
        assert len(ledger.trials(sweep)) == 5
    with one_answer_lost(written, after=1):
        ledger.release_lease(sweep, "me")
    assert ledger.lease(sweep) is None
    with one_answer_lost(written, after=1):
        ledger.delete_sweep(sweep)
    assert ledger.sweeps(name="repeated") == []


def test_a_server_killed_and_restarted_under_load_costs_no_commit(postgres: PostgresServer, ledger: Ledger) -> None:
    sweep = ledger.create_sweep("digits", {}, 2).sweep
    written: dict[int, list[str]] = {0: [], 1: []}
    stop, failures = threading.Event(), []

    def write(number: int) -> None:
        try:
            while not stop.is_set():
                note = f"{number}:{len(written[number])}"
                assert ledger.commit(sweep, [Noted(number, note)]) == []
                written[number].append(note)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in written]
    for thread in threads:
        thread.start()
    for _ in range(3):
        seen = len(written[0])
        while len(written[0]) < seen + 5 and not failures:
            stop.wait(0.005)
        postgres.kill()
        postgres.start()
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [list(trial.notes) for trial in ledger.trials(sweep)] == [written[0], written[1]]


def test_a_server_that_stays_away_is_an_error_after_a_bounded_time(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PATIENCE_OPEN", 0.2)
    nowhere = f"postgresql+psycopg://ada:secret@/sweeps?host={tmp_path}"
    with pytest.raises(LedgerError, match=r"postgresql\+psycopg://ada:\*\*\*@.*cannot be used.*SWEEPER_DATABASE_URL"):
        open_ledger(nowhere, tmp_path)


def test_a_database_that_does_not_exist_is_an_error_at_once(url: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match='database "nothing" does not exist'):
        open_ledger(url.replace("/faults", "/nothing"), tmp_path)


def test_processes_that_open_a_new_database_at_once_all_succeed(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.create("crowd")
    code = (
        "import sys; from pathlib import Path; from sweeper.ledger.opening import open_ledger; sys.stdin.read();"
        "open_ledger(sys.argv[1], Path('unused')).create_sweep('digits', {}, 3)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.close()
    errors = [process.stderr.read().decode() for process in processes]
    assert [process.wait() for process in processes] == [0, 0, 0, 0], errors
    ledger = open_ledger(url, tmp_path)
    assert [record.requested for record in ledger.sweeps()] == [3, 3, 3, 3]
    ledger.close()


def test_a_newer_ledger_is_refused_with_both_versions(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.create("newer")
    open_ledger(url, tmp_path).close()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    with pytest.raises(LedgerError, match=f"version 0999.*up to {SCHEMA_VERSION}"):
        open_ledger(url, tmp_path)
