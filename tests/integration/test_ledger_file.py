"""The ledger's file: made for its owner, brought up to date, and what follows when it is killed, full or broken."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from sweeper.errors import LedgerError, SpecError
from sweeper.ledger.opening import open_ledger
from sweeper.ledger.schema import MIGRATIONS
from sweeper.ledger.tables import SCHEMA_VERSION, VERSION_TABLE, metadata
from sweeper.records import Noted

ROOT = Path(__file__).parents[2]


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run code in a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_file_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ledger = open_ledger(None, tmp_path)
        ledger.create_sweep("digits", {}, 1)
        modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
        ledger.close()
    finally:
        os.umask(before)
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


def test_a_url_puts_the_file_elsewhere(tmp_path: Path) -> None:
    open_ledger(f"sqlite:///{tmp_path}/other.db", tmp_path / "home").close()
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]


def test_an_up_to_date_ledger_opens_without_alembic(tmp_path: Path) -> None:
    open_ledger(None, tmp_path).close()
    code = (
        "import sys; from pathlib import Path; from sweeper.ledger.opening import open_ledger;"
        "open_ledger(None, Path(sys.argv[1])).sweeps(); print('alembic' in sys.modules)"
    )
    done = python(code, str(tmp_path))
    assert done.communicate()[0].strip() == "False"


def test_processes_that_open_a_new_ledger_at_once_all_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sweeper.ledger.opening import open_ledger; sys.stdin.read();"
        "open_ledger(None, Path(sys.argv[1])).create_sweep('digits', {}, 3)"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.close()
    errors = [process.stderr.read().decode() for process in processes]
    assert [process.wait() for process in processes] == [0, 0, 0, 0], errors
    assert len(open_ledger(None, tmp_path).sweeps()) == 4


def default_differs(context: Any, inspected: Any, column: Any, made: str | None, *wanted: str | None) -> bool:
    """Alembic's own comparison takes an empty text for no default."""
    return (made or "").strip("()'") != (wanted[-1] or "").strip("'")


def test_a_process_with_two_ledgers_keeps_its_log_when_another_process_leaves(tmp_path: Path) -> None:
    """Closing the file beside SQLite would drop the locks of this process: the other one would remove the log."""
    first = open_ledger(None, tmp_path)
    first.create_sweep("first", {}, 2)
    second = open_ledger(None, tmp_path)
    program = "import sys, pathlib; from sweeper.ledger.opening import open_ledger\n"
    program += "ledger = open_ledger(None, pathlib.Path(sys.argv[1])); ledger.sweeps(); ledger.close()"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    assert (tmp_path / "ledger.db-wal").exists()
    second.create_sweep("second", {}, 2)
    assert [record.name for record in first.sweeps()] == ["second", "first"]
    first.close()
    second.close()


def test_the_migrations_make_exactly_the_tables(tmp_path: Path) -> None:
    open_ledger(None, tmp_path).close()
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == SCHEMA_VERSION
    with sa.create_engine(f"sqlite:///{tmp_path}/ledger.db").connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_server_default": default_differs}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
        made = dict(connection.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'table'")).all())
    wanted = [name for name, table in metadata.tables.items() if table.dialect_options["sqlite"]["with_rowid"] is False]
    assert sorted(name for name, sql in made.items() if "WITHOUT ROWID" in sql) == sorted(wanted)


def test_an_interrupted_migration_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade = command.upgrade

    def killed(config: Config, revision: str) -> None:
        upgrade(config, revision)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "upgrade", killed)
    with pytest.raises(KeyboardInterrupt):
        open_ledger(None, tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    monkeypatch.undo()
    assert open_ledger(None, tmp_path).sweeps() == []


def test_a_newer_ledger_is_refused_with_both_versions(tmp_path: Path) -> None:
    open_ledger(None, tmp_path).close()
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0999'")
    with pytest.raises(LedgerError, match=f"version 0999.*up to {SCHEMA_VERSION}.*Upgrade sweeper"):
        open_ledger(None, tmp_path)


def test_another_programs_database_is_refused_untouched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute("CREATE TABLE trials (trial_id INTEGER)")  # Optuna has one of that name
    with pytest.raises(LedgerError, match=r"belongs to another program.*trials"):
        open_ledger(None, tmp_path)
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("trials",)]


def test_a_file_that_is_no_database_is_an_error_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"my thesis, please keep\n" * 100)
    with pytest.raises(LedgerError, match=r"ledger\.db.*not a database.*move it away"):
        open_ledger(None, tmp_path)
    assert (tmp_path / "ledger.db").read_bytes().startswith(b"my thesis")


def test_a_damaged_ledger_is_an_error_with_path_and_remedy(tmp_path: Path) -> None:
    ledger = open_ledger(None, tmp_path)
    sweep = ledger.create_sweep("digits", {"pad": "x" * 50_000}, 2000).sweep
    ledger.close()
    path = tmp_path / "ledger.db"
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (path.stat().st_size - 8192))
    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used: .*malformed.*damaged"):
        open_ledger(None, tmp_path).trials(sweep)


@pytest.mark.parametrize("where", ["missing/ledger.db", "file/ledger.db", ""])
def test_a_path_that_cannot_be_written_is_an_error_with_path_and_remedy(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match=r"cannot be used.*folder must exist and be writable"):
        open_ledger(f"sqlite:///{tmp_path / where}", tmp_path)


@pytest.mark.parametrize("url", ["mysql://u:p@h/d", "digits.db", "sqlite://", "sqlite:///:memory:", "://"])
def test_an_unusable_url_is_a_usage_error_with_the_right_forms(tmp_path: Path, url: str) -> None:
    with pytest.raises(SpecError, match=r"SWEEPER_DATABASE_URL: .*postgresql\+psycopg://") as caught:
        open_ledger(url, tmp_path)
    assert caught.value.exit_code == 2
    assert "u:p" not in str(caught.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here: that takes root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_an_error_and_what_was_committed_is_still_there(small_disk: Path) -> None:
    ledger = open_ledger(None, small_disk)
    sweep = ledger.create_sweep("digits", {}, 1).sweep
    written: list[int] = []

    def fill() -> None:
        for i in range(1000):
            ledger.commit(sweep, [Noted(0, f"{i} " + "x" * 3000)])
            written.append(i)

    with pytest.raises(LedgerError, match=r"ledger\.db cannot be used: .*(Free some|its free) space"):
        fill()
    assert len(written) > 5
    ledger.close()
    moved = small_disk.parent / "moved"
    shutil.copytree(small_disk, moved)
    again = open_ledger(None, moved)
    assert [int(note.split()[0]) for note in again.trial(sweep, 0).notes] == written
    assert again.commit(sweep, [Noted(0, "room again")]) == []


WRITER = """
import sys
from pathlib import Path
from typing import Any
from sweeper.ledger.opening import open_ledger
from sweeper.records import Noted
ledger = open_ledger(None, Path(sys.argv[1]))
for i in range(10_000):
    ledger.commit(sys.argv[2], [Noted(0, f"{sys.argv[3]}:{i}"), Noted(1, f"{sys.argv[3]}:{i}")])
    print(i, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_answered_and_leaves_no_half_commit(tmp_path: Path) -> None:
    ledger = open_ledger(None, tmp_path)
    sweep = ledger.create_sweep("digits", {}, 2).sweep
    answered = []
    for life, commits in enumerate((1, 4, 9)):
        process = python(WRITER, str(tmp_path), sweep, str(life))
        for _ in range(commits):
            answered.append(f"{life}:{process.stdout.readline().strip()}")
        os.kill(process.pid, signal.SIGKILL)
        answered += [f"{life}:{line.strip()}" for line in process.stdout.read().splitlines()]  # those read ahead, too
        process.communicate()
        first, second = ledger.trials(sweep)
        assert first.notes == second.notes
        assert set(first.notes) >= set(answered)
        assert len(first.notes) == len(set(first.notes)) <= len(answered) + life + 1
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
