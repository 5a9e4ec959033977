"""A process of its own for each sweep with code of its user: the service never runs that code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from io import FileIO
from pathlib import Path
from typing import IO

from sweeper.errors import SpecError, SweeperError
from sweeper.scheduling.shares import SharesChanged
from sweeper.settings import Settings

MAX_PROCESSES = 4  # sweeps with code that run at once; more wait in the ledger
MAX_OF_ONE = 3  # of one user: one place is kept for somebody who has none
LOG = "process.log"  # in the sweep's folder: what its process printed
USAGE = 2
ANSWER_SECONDS = 900.0  # how long an export or a comparison may take

_PROGRAM = "import sys; from sweeper.service.own_process import main; main(*sys.argv[1:])"
_COMMAND = "import sys; from sweeper.cli.app import main; main()"


@dataclass(frozen=True)
class Ending:
    """How a sweep's process ended: its exit code, and the last line that it printed."""

    sweep: str
    code: int
    last: str


@dataclass
class _Own:
    """One process, whose user it works for, the pipe that leads to it, and what it was told last."""

    process: subprocess.Popen[bytes]
    owner: str
    pipe: FileIO
    told: SharesChanged | None = None


class OwnProcesses:
    """The processes that run now. Each holds its sweep's lease itself, and takes requests from the ledger.

    They come and go in one thread, which has to live as long as they do. ``user_limit`` bounds the trials that one
    user runs at once in all processes together, by what they are told (None: no bound).
    """

    def __init__(self, settings: Settings, workers: str | int, user_limit: int | None = None) -> None:
        self._settings, self._workers, self._limit = settings, workers, user_limit
        self._running: dict[str, _Own] = {}

    @property
    def sweeps(self) -> tuple[str, ...]:
        """The sweeps that have a process."""
        return tuple(self._running)

    def full(self, owner: str) -> bool:
        """Whether no more of this user's may be started for now."""
        owners = [own.owner for own in self._running.values()]
        return len(owners) >= MAX_PROCESSES or owners.count(owner) >= MAX_OF_ONE

    def start(self, sweep: str, owner: str, ray: str | None) -> None:
        """Let a sweep run in a process of its own, on the cluster at ``ray``. It begins when it is told its part."""
        end, pipe = os.pipe()
        os.set_blocking(pipe, False)
        limit = "" if self._limit is None else str(self._limit)
        try:
            with self._log(sweep, "ab") as log:
                process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, sweep, str(self._workers), limit, str(end), str(os.getpid())],
                    env=environment(replace(self._settings, ray_address=ray)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=(end,),
                )
        finally:
            os.close(end)
        self._running[sweep] = _Own(process, owner, FileIO(pipe, "wb"))

    def tell(self, sweep: str, shares: SharesChanged) -> None:
        """What the sweep may take from now on; may be called in any thread. One that has ended is told nothing."""
        own = self._running.get(sweep)
        if own is None or own.told == shares:
            return
        with contextlib.suppress(OSError, ValueError):  # it has ended, or does not listen: it is told again
            if own.pipe.write(json.dumps(asdict(shares)).encode() + b"\n"):
                own.told = shares

    def ended(self) -> list[Ending]:
        """The processes that have ended since the last call."""
        found = []
        for sweep, own in list(self._running.items()):
            if (code := own.process.poll()) is not None:
                _end(own)  # and what it has started
                self._running = {one: p for one, p in self._running.items() if one != sweep}
                found.append(Ending(sweep, code, self._last_line(sweep)))
        return found

    def close(self) -> None:
        """Kill them: the ledger knows all that the next service needs to go on with their sweeps."""
        for own in self._running.values():
            _end(own)
        self._running = {}

    def _log(self, sweep: str, mode: str) -> IO[bytes]:
        folder = self._settings.home / "sweeps" / sweep
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return (folder / LOG).open(mode)

    def _last_line(self, sweep: str) -> str:
        with contextlib.suppress(OSError), self._log(sweep, "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 2000))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
            return lines[-1][:500] if lines else ""
        return ""


def environment(settings: Settings) -> Mapping[str, str]:
    """The variables of a process that works on this service's ledger."""
    known = {name: value for name, value in os.environ.items() if name not in ("SWEEPER_SERVER", "SWEEPER_TOKEN")}
    own = {
        "SWEEPER_HOME": str(settings.home),
        "SWEEPER_DATABASE_URL": settings.database_url,
        "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri,
        "RAY_ADDRESS": settings.ray_address,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONUNBUFFERED": "1",
    }
    return {**known, **{name: value for name, value in own.items() if value is not None}}


def answer_of(settings: Settings, words: Sequence[str]) -> str:
    """What a command of the command line prints, run in a process of its own.

    Raises:
        SweeperError: what it says when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, *words],
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
        check=False,
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it failed"])[-1].removeprefix("error: ")[:500]
        raise SpecError(said) if done.returncode == USAGE else SweeperError(said)
    return done.stdout


def model_of(settings: Settings, sweep: str, folder: Path) -> dict[str, object]:
    """``sweeper export --model`` in a process of its own."""
    found: dict[str, object] = json.loads(answer_of(settings, ("export", sweep, "--model", str(folder), "--json")))
    return found


def main(sweep: str, workers: str, user_limit: str, pipe: str, parent: str) -> None:
    """Run one sweep until it has ended or is paused; the program of such a process."""
    from sweeper.running.local import run_again
    from sweeper.running.parts import Apart
    from sweeper.service.processes import NICE, die_with

    die_with(int(parent))
    with contextlib.suppress(OSError):
        os.nice(NICE)
    try:
        apart = Apart(partial(_listen, int(pipe)), int(user_limit) if user_limit else None)
        run_again(sweep, Settings.from_env(), workers, apart=apart)
    except SweeperError as error:
        print(error, flush=True)
        sys.exit(error.exit_code)


def _listen(end: int, post: Callable[[SharesChanged], None]) -> None:
    """Post what the service tells, until it has gone."""
    heard = threading.Event()

    def follow() -> None:
        with open(end, "rb") as lines:
            for line in lines:
                post(SharesChanged(**json.loads(line)))
                heard.set()
        heard.set()

    os.set_inheritable(end, False)
    threading.Thread(target=follow, name="sweeper-shares", daemon=True).start()
    heard.wait()


def _end(own: _Own) -> None:
    process = own.process
    with contextlib.suppress(OSError):
        own.pipe.close()
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < 10:
        time.sleep(0.02)
