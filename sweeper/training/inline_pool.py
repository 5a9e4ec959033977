"""The pool without Ray: one worker in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Literal

from sweeper.data.source import Source
from sweeper.training.leg_runner import LegRunner
from sweeper.training.objective_legs import ObjectiveOrder, ObjectiveRunner
from sweeper.training.pool import (
    Device,
    LegRaised,
    LegReturned,
    Order,
    Post,
    describe,
    is_out_of_memory,
    local_device,
    unknown,
)


class InlinePool:
    """The same code as in a Ray worker, for tests and small sweeps."""

    NAME = "inline"
    address: str | None = None

    def __init__(self, post: Post) -> None:
        self._post = post
        self._jobs: SimpleQueue[Callable[[LegRunner], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name="sweeper-inline", daemon=True)
        self._device = unknown()
        self._data: dict[str, Source] = {}
        self._loaded: str | None = None
        self._objectives = ObjectiveRunner()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def load(self, sweep: str, source: Source) -> None:
        """Keep the data for the legs that need it."""
        self._data[sweep] = source

    def unload(self, sweep: str) -> None:
        """Let go of a sweep's data; the runner lets it go with the next sweep's."""
        self._data.pop(sweep, None)
        self._jobs.put(lambda _: self._objectives.forget(sweep))

    def run(self, worker: str, order: Order) -> None:
        """Queue one leg."""

        def job(runner: LegRunner) -> None:
            try:
                if isinstance(order, ObjectiveOrder):
                    self._post(LegReturned(worker, self._objectives.run(order)))
                    return
                if self._loaded != order.sweep:
                    runner.load(order.sweep, self._data[order.sweep])
                    self._loaded = order.sweep
                result = runner.run(order)
            except Exception as error:
                kind: Literal["oom", "error"] = "oom" if is_out_of_memory(error) else "error"
                self._post(LegRaised(worker, order.leg, kind, describe(error)))
            else:
                self._post(LegReturned(worker, result))

        self._jobs.put(job)

    def device(self, worker: str) -> Device:
        """The one device."""
        return self._device

    def replace(self, worker: str, reason: str) -> None:
        """A thread cannot be replaced: a leg that hangs in this process hangs the process."""

    def close(self) -> None:
        """Let the leg in flight finish and end the thread."""
        self._jobs.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout=60)

    def _loop(self) -> None:
        self._device = local_device()
        runner = LegRunner(self._device.kind)
        self._post(self._device.joined(self.NAME))
        while (job := self._jobs.get()) is not None:
            job(runner)
        self._objectives.close()
