"""The service's workers: brought up, known by name, and why they do not come up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any

from sweeper.errors import SweeperError
from sweeper.running.arithmetic import check_compiled
from sweeper.training.pool import Pool

log = logging.getLogger("sweeper")

RETRY_SECONDS = 3.0


class Workers:
    """The workers of one ``pool``. ``problem`` says why they are not up (None: they are)."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.problem: str | None = "the workers are starting"
        self._joined: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """Those that have joined."""
        return tuple(sorted(self._joined))

    @property
    def largest_device(self) -> int | None:
        """The free memory in bytes of the worker that has most; None: there is none."""
        return max((self.pool.device(worker).free_bytes for worker in self.names), default=None)

    def bring_up(self, stopping: threading.Event, closed: threading.Event) -> None:
        """Start the pool, again until it succeeds: a Ray head may come up later than we do.

        Linux ends what a thread has started when the thread ends, which a Ray of our own asks for: this one lives until
        the pool is ``closed``.
        """
        while not stopping.is_set():
            try:
                check_compiled()
                self.pool.start()
            except SweeperError as error:
                if self.problem != str(error):
                    log.warning("%s", error)
                self.problem = str(error)
                stopping.wait(RETRY_SECONDS)
            else:
                self.problem = None
                closed.wait()

    def take(self, action: str, fields: Mapping[str, Any]) -> None:
        """A worker has come or gone."""
        if action == "worker.joined":
            self._joined.add(str(fields["worker"]))
        elif action == "worker.lost":
            self._joined.discard(str(fields["worker"]))
