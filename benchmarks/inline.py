"""A whole sweep in this process, without MLflow: what is measured is the search, not the writing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.records import EpochReport, TrialRecord
    from sweeper.spec.parse import SweepSpec


def train(spec: SweepSpec) -> tuple[list[TrialRecord], dict[int, list[EpochReport]]]:
    """Run a sweep to its end; its trials, and the reports of each by its number."""
    from sweeper.data.loading import load
    from sweeper.ledger.opening import open_ledger
    from sweeper.running.controller import Controller
    from sweeper.running.finals import NoSink
    from sweeper.running.leases import Holds
    from sweeper.running.open_sweep import run_of
    from sweeper.running.parts import make_study
    from sweeper.states import SweepState
    from sweeper.training.inline_pool import InlinePool

    dataset = load(spec)
    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(None, Path(folder))
        record = ledger.create_sweep(spec.name, spec.to_json(), spec.search.trials)
        run = run_of(record, spec, dataset, make_study(spec, dataset))
        queue: SimpleQueue[Any] = SimpleQueue()
        pool = InlinePool(queue.put)
        pool.start()
        holds = Holds(ledger)
        controller = Controller(queue, pool, lambda action, fields: None)
        controller.open(run, NoSink(), ledger.trials(record.sweep), holds.take(record.sweep))
        controller.run(until=lambda: controller.state(record.sweep) is not SweepState.RUNNING)
        controller.close(record.sweep)
        holds.close()
        pool.close()
        ended = ledger.trials(record.sweep), dict(ledger.reports(record.sweep))
        ledger.close()
    return ended
