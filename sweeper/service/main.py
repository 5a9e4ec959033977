"""The process of the service: it runs beside the HTTP server's, and lets that one go first."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from typing import Any

from sweeper.running.local import open_home_ledger
from sweeper.service.link import Teller
from sweeper.service.processes import log_to_stderr
from sweeper.service.runner import Service
from sweeper.settings import Settings

NICE = 5  # training takes every core that it gets; answers to users need little and should not wait for it


def run(settings: Settings, end: socket.socket, workers: str, user_limit: int | None) -> None:
    """Run the service until SIGTERM or Ctrl-C; ``end`` leads to the HTTP server.

    Raises:
        SpecError: ``workers`` is not a number of workers.
        LedgerError: the ledger cannot be opened.
    """
    log_to_stderr()
    with contextlib.suppress(OSError):
        os.nice(NICE)  # and with it the workers that are started on this machine
    ledger = open_home_ledger(settings)
    service = Service(settings, ledger, workers, user_limit)
    over = threading.Event()

    def stop(number: int, frame: Any) -> None:
        service.announce_stop()
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    teller = Teller(service, end)
    service.start()
    teller.start()
    try:
        over.wait()
    finally:
        service.stop()
        teller.stop()
        ledger.close()
