"""A real PostgreSQL server in a temporary folder, reached through a socket in it; it can be killed and restarted."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

INSTALLED = "/usr/lib/postgresql"
STARTS_WITHIN = 60.0


def find_binaries() -> Path | None:
    """The newest installed server's programs (Debian keeps them off the PATH)."""
    versions = sorted(Path(INSTALLED).glob("*/bin/initdb"), key=lambda path: float(path.parent.parent.name))
    if versions:
        return versions[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class PostgresServer:
    """One server. It runs as the user postgres when the tests run as root, which PostgreSQL refuses."""

    def __init__(self, binaries: Path, folder: Path):
        self._binaries, self.folder = binaries, folder
        self._data = folder / "data"
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        initdb = [str(binaries / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        with (folder / "initdb.log").open("wb") as log:
            subprocess.run([*initdb, "--locale=C", "-N"], check=True, stdout=log, stderr=log, **self._as_user())
        self.start()

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {"cwd": self.folder}
        return {"cwd": self.folder, "user": self._user, "group": self._user, "extra_groups": []}

    def start(self) -> None:
        """Start the server and wait until it answers; after a kill it recovers first."""
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            self._spawn()
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    psycopg.connect(self._conninfo("postgres"), connect_timeout=2).close()
                    return
                except psycopg.OperationalError:
                    time.sleep(0.05)
            # a killed server's children may hold its shared memory for a moment
            if time.monotonic() >= deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def _spawn(self) -> None:
        # no flush to the disk: the kernel keeps what a killed server wrote, and the tests do not cut the power
        settings = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off", "max_connections=50"]
        command = [str(self._binaries / "postgres"), "-D", str(self._data)]
        for setting in settings:
            command += ["-c", setting]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user())

    def kill(self) -> None:
        """SIGKILL, as the kernel does when memory runs out: no goodbye to anyone."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Shut down at once, without putting the data in order: nobody will read it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=30)

    def _conninfo(self, database: str) -> str:
        return f"host={self.folder} user=postgres dbname={database}"

    def create(self, database: str) -> str:
        """Make an empty database and give its URL."""
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"


def start_postgres() -> Iterator[PostgresServer]:
    """The server of one test session."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip(f"PostgreSQL is not installed: no initdb under {INSTALLED} or on the PATH")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = None
    try:
        server = PostgresServer(binaries, folder)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
