"""The process that keeps the service alive: it listens, runs the service in a child, and starts another when it dies.

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
import time
from collections.abc import Callable, Iterator
from typing import Any

from sweeper.errors import SpecError, SweeperError
from sweeper.ledger_protocol import Ledger
from sweeper.settings import Settings

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before another start
HEALTHY_SECONDS = 60.0  # a child that lived for so long had nothing wrong with it
USAGE = 2  # the exit code of a command line that has to be corrected
_PR_SET_PDEATHSIG = 1


def serve(settings: Settings, host: str, port: int, workers: str, user_limit: int | None) -> int:
    """Run the service until SIGTERM or Ctrl-C; the exit code.

    Raises:
        SpecError: the address cannot be used, or there is no token.
        LedgerError: the ledger cannot be opened.
    """
    from sweeper.ledger import open_ledger

    settings.ensure_home()
    ledger = open_ledger(settings.database_url, settings.home)
    try:
        check_address(ledger, host)
    finally:
        ledger.close()
    listening = listen(host, port)

    def child() -> None:
        from sweeper.server import run

        run(settings, listening, workers, user_limit)

    return keep_alive(child)


def keep_alive(work: Callable[[], None]) -> int:
    """Run ``work`` in a child process, again when it dies; the exit code when it ends or was told to.

    The child hears SIGTERM and Ctrl-C through this process, and does not outlive it.
    """
    stopping, wait, child = False, FIRST_WAIT, 0

    def forward(number: int, frame: Any) -> None:
        nonlocal stopping
        stopping = True
        if child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    with _handled(forward):
        while True:
            began = time.monotonic()
            child = _fork(work)
            if stopping:
                forward(signal.SIGTERM, None)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            child = 0
            if stopping or code in (0, USAGE):
                return max(0, code) if code >= 0 else 1
            wait = FIRST_WAIT if time.monotonic() - began > HEALTHY_SECONDS else wait
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            print(f"sweeper: the service ended {how}; it is started again", file=sys.stderr, flush=True)
            until = time.monotonic() + wait
            while not stopping and time.monotonic() < until:
                time.sleep(0.1)
            if stopping:
                return 0
            wait = min(LONGEST_WAIT, 2 * wait)


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
        _die_with(parent)
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


def _die_with(parent: int) -> None:
    """Linux: be killed when the parent is."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def check_address(ledger: Ledger, host: str) -> None:
    """Nobody but this machine may reach a service that has no tokens.

    Raises:
        SpecError: there is no token, and ``host`` is more than this machine.
    """
    from sweeper.auth import any_token

    if any_token(ledger):
        return
    make_one = "Make one first: sweeper token create USER --role admin"
    if not _is_loopback(host):
        raise SpecError(f"there is no token, so {host} would be closed to everybody", key="--host", remedy=make_one)
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
