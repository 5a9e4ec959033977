"""The workers of a service: who brings them up stays for as long as they are there."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from sweeper.ledger.memory import MemoryLedger
from sweeper.service.runner import Runner
from sweeper.settings import Settings
from sweeper.training.inline_pool import InlinePool
from sweeper.training.pool import Post


class Watched(InlinePool):
    """A pool that knows by whom it was started, and whether that thread still lived when it was closed."""

    def __init__(self, post: Post) -> None:
        super().__init__(post)
        self.begun = threading.Event()
        self.starter: threading.Thread | None = None
        self.alive_at_end = False

    def start(self) -> None:  # and no more: no worker is needed
        self.starter = threading.current_thread()
        self.begun.set()

    def close(self) -> None:
        assert self.starter is not None
        self.alive_at_end = self.starter.is_alive()
        super().close()


def test_the_thread_that_starts_a_ray_lives_as_long_because_linux_ends_it_with_the_thread(tmp_path: Path) -> None:
    pools: list[Watched] = []

    def pool(post: Post) -> Watched:
        pools.append(Watched(post))
        return pools[0]

    runner = Runner(Settings(tmp_path), MemoryLedger(), pool=pool)
    runner.start()
    assert pools[0].begun.wait(10)
    while runner.status().pool_problem is not None:
        time.sleep(0.01)
    time.sleep(0.05)  # in which the thread would end that has nothing left to do
    runner.stop()
    assert pools[0].alive_at_end
    assert pools[0].starter is not None
    assert not pools[0].starter.is_alive()
