"""The processes of the service: a parent that listens, and starts the runner and the HTTP server again when they die.

Ray ends the process of its driver when the cluster's head was restarted, and the kernel ends one that takes too much
memory: neither can be caught inside. The socket stays open here, so that clients wait instead of being refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.errors import SpecError, SweeperError
from sweeper.ledger.opening import open_home_ledger
from sweeper.ledger.protocol import Ledger
from sweeper.logs import log_to_stderr
from sweeper.service.auth import any_token, role_for_code
from sweeper.service.link import Teller, make_link
from sweeper.settings import Settings
from sweeper.tracking.check import check_tracking

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before another start
HEALTHY_SECONDS = 60.0  # a child that lived for so long had nothing wrong with it
USAGE = 2  # the exit code of a command line that has to be corrected
NICE = 5  # training takes every core that it gets; answers to users need little and should not wait for it
_PR_SET_PDEATHSIG = 1


def serve(
    settings: Settings, host: str, port: int, workers: str, user_limit: int | None, allow_code: str | None = None
) -> int:
    """Run the service until SIGTERM or Ctrl-C; the exit code.

    Sweeps of users with the role ``allow_code`` or above may hold code of their own (None: nobody's).

    Raises:
        SpecError: the address or MLflow's store cannot be used, there is no token, or ``allow_code`` is no role.
        LedgerError: the ledger cannot be opened.
    """
    role = role_for_code(allow_code)
    ledger = open_home_ledger(settings)
    check_tracking(settings.mlflow_tracking_uri, settings.home)
    try:
        check_address(ledger, host)
    finally:
        ledger.close()
    listening = listen(host, port)
    told, tells = make_link()

    def http() -> None:
        from sweeper.service.app import run

        run(settings, listening, told, role)

    def runner() -> None:
        run_sweeps(settings, tells, workers, user_limit, role is not None)

    return keep_alive({"service": runner, "HTTP server": http})


@dataclass
class _Child:
    """A process that is kept alive, or the next attempt at one."""

    name: str
    work: Callable[[], None]
    pid: int = 0  # 0: it does not run
    began: float = 0.0
    wait: float = FIRST_WAIT
    again: float = 0.0  # when it is started, unless it runs


def keep_alive(works: Mapping[str, Callable[[], None]]) -> int:
    """Run each of ``works`` in a child process, again when it dies; the exit code when one ends or all were told to.

    The children hear SIGTERM and Ctrl-C through this process, and do not outlive it.
    """
    children = [_Child(name, work) for name, work in works.items()]
    stopping, result = False, 0

    def forward(number: int, frame: Any) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            if child.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGTERM)

    with _handled(forward):
        while True:
            for child in children:
                if not child.pid and not stopping and time.monotonic() >= child.again:
                    child.began = time.monotonic()
                    child.pid = _fork(child.work)
            if stopping:
                forward(signal.SIGTERM, None)
            running = [child for child in children if child.pid]
            if stopping and not running:
                return result
            ended, code = _wait(running, patiently=stopping or len(running) == len(children))
            if ended is None:
                time.sleep(0.1)  # until another start is due
                continue
            ended.pid = 0
            if stopping and code == -signal.SIGTERM:
                code = 0  # it was told to end, and was between its own handler and its exit when told again
            if stopping or code in (0, USAGE):
                stopping, result = True, max(result, code if code >= 0 else 1)
            else:
                _again(ended, code)


def _wait(running: list[_Child], patiently: bool) -> tuple[_Child | None, int]:
    """A child that has ended, and its exit code; None when there is none and it is not waited for."""
    if not running:
        return None, 0
    pid, status = os.waitpid(-1, 0 if patiently else os.WNOHANG)
    return next((child for child in running if child.pid == pid), None), os.waitstatus_to_exitcode(status)


def _again(child: _Child, code: int) -> None:
    """A child died: it is started again, later and later while it does not stay alive."""
    child.wait = FIRST_WAIT if time.monotonic() - child.began > HEALTHY_SECONDS else child.wait
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    print(f"sweeper: the {child.name} ended {how}; it is started again", file=sys.stderr, flush=True)
    child.again = time.monotonic() + child.wait
    child.wait = min(LONGEST_WAIT, 2 * child.wait)


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _fork(work: Callable[[], None]) -> int:
    """The number of a child process that runs ``work`` and nothing else. This process has no threads yet."""
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)  # a terminal's Ctrl-C goes to the parent, which tells us once
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        die_with(parent)
        work()
        code = 0
    except SweeperError as error:
        print(f"sweeper: {error}", file=sys.stderr)
        code = error.exit_code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def die_with(parent: int) -> None:
    """Linux: be killed when the parent is."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def run_sweeps(
    settings: Settings, end: socket.socket, workers: str, user_limit: int | None, allow_code: bool = False
) -> None:
    """The runner's process, until SIGTERM or Ctrl-C; ``end`` leads to the HTTP server.

    Raises:
        SpecError: ``workers`` is not a number of workers.
        LedgerError: the ledger cannot be opened.
    """
    from sweeper.service.runner import Runner

    log_to_stderr()
    with contextlib.suppress(OSError):
        os.nice(NICE)  # and with it the workers that are started on this machine
    ledger = open_home_ledger(settings)
    runner = Runner(settings, ledger, workers, user_limit, allow_code=allow_code)
    over = threading.Event()

    def stop(number: int, frame: Any) -> None:
        runner.announce_stop()
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    teller = Teller(runner.status, runner.wake, end)
    runner.start()
    teller.start()
    try:
        over.wait()
    finally:  # the HTTP server hears how the runner ends
        runner.stop()
        teller.stop()
        ledger.close()


def check_address(ledger: Ledger, host: str) -> None:
    """Nobody but this machine may reach a service that has no tokens.

    Raises:
        SpecError: there is no token, and ``host`` is more than this machine.
    """
    if any_token(ledger):
        return
    make_one = "Create one first: sweeper token create USER --role admin"
    if not _is_loopback(host):
        raise SpecError(f"there is no token, so nobody could use the service at {host}", key="--host", remedy=make_one)
    print(f"sweeper: there is no token yet, so nobody can log in. {make_one}", file=sys.stderr)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; they wait until the service answers.

    Raises:
        SpecError: the address cannot be used.
    """
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(info[0], socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(info[4])
        listening.listen(512)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        problem = f"{host}:{port} cannot be used ({reason})"
        raise SpecError(problem, key="--port", remedy="Choose another host or port") from error
    return listening
