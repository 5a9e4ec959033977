"""A controller of several sweeps that loses one goes on with the others."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from sweeper.data.loading import load
from sweeper.errors import TakenOver
from sweeper.ledger.opening import open_ledger
from sweeper.records import SweepRecord
from sweeper.running import leases
from sweeper.running.controller import Controller
from sweeper.running.finals import NoSink
from sweeper.running.leases import Holds
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun
from sweeper.spec.parse import load_spec
from sweeper.states import SweepState
from sweeper.training.inline_pool import InlinePool

SPEC: dict[str, Any] = {
    "dataset": {"name": "iris"},
    "space": {"learning_rate": {"float": [1e-3, 1e-1], "log": True}, "hidden_layers": [4]},
    "search": {"trials": 4, "sampler": "random"},
}


def test_its_worker_goes_to_the_other_sweep_when_a_commit_finds_that_one_was_taken_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(leases, "BEAT_SECONDS", 600.0)  # only a commit finds out
    ledger = open_ledger(None, tmp_path)
    given_up: dict[str, Exception] = {}
    queue: SimpleQueue[Any] = SimpleQueue()
    with contextlib.closing(InlinePool(queue.put)) as pool, contextlib.closing(Holds(ledger)) as holds:
        pool.start()
        controller = Controller(queue, pool, lambda action, fields: None, give_up=given_up.__setitem__)

        def opened(name: str, epochs: int) -> SweepRecord:
            spec = load_spec({**SPEC, "name": name, "training": {"epochs": epochs}})
            record = ledger.create_sweep(name, spec.to_json(), 4)
            run = SweepRun(record, spec, load(spec), make_study(spec, load(spec)))
            controller.open(run, NoSink(), ledger.trials(record.sweep), holds.take(record.sweep))
            return record

        lost = opened("lost", 200_000)
        deadline = time.monotonic() + 60

        def over() -> bool:
            return time.monotonic() > deadline

        controller.run(until=lambda: ledger.sweep(lost.sweep).counts["running"] or over())
        kept = opened("kept", 2)
        controller.run(until=lambda: all(t.params for t in ledger.trials(kept.sweep)) or over())
        assert ledger.acquire_lease(lost.sweep, "elsewhere:1", 60.0, gone=ledger.lease(lost.sweep)) is not None
        controller.run(until=lambda: controller.state(kept.sweep) is not SweepState.RUNNING or over())
    assert isinstance(given_up.pop(lost.sweep), TakenOver)
    assert given_up == {}
    assert ledger.sweep(kept.sweep).counts["complete"] == 4
    assert ledger.sweep(lost.sweep).counts["running"] > 0, "what its new holder will find"
    ledger.close()
