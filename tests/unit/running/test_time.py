"""A sweep with a timeout trains few trials side by side on a CPU, so that the time does not end with all half-way."""

from __future__ import annotations

from sweeper.data.loading import load
from sweeper.ledger.memory import MemoryLedger
from sweeper.running.parts import make_study
from sweeper.running.run import FIRST_ROWS, SweepRun
from sweeper.scheduling.events import Shape
from sweeper.spec.parse import load_spec
from tests.ended_sweeps import new_sweep


def run_with(timeout: float | None) -> SweepRun:
    spec = load_spec(
        {"dataset": {"name": "iris"}, "training": {"epochs": 100}, "search": {"timeout": timeout}, "space": "mlp"}
    )
    dataset = load(spec)
    return SweepRun(new_sweep(MemoryLedger(), spec), spec, dataset, make_study(spec, dataset))


def test_a_cohort_gets_a_tenth_of_the_time_once_the_pace_is_known() -> None:
    shape = Shape((4,), 64, 100)
    assert run_with(None).rows_in_time(shape, 64) == 64
    run = run_with(1000.0)
    assert run.rows_in_time(shape, 64) == FIRST_ROWS
    run.trained = (20.0, 200)  # 10 s for the 100 epochs of a row
    assert run.rows_in_time(shape, 64) == 10
    run.trained = (0.2, 200)
    assert run.rows_in_time(shape, 64) == 64
    run.trained = (20_000.0, 200)
    assert run.rows_in_time(shape, 64) == 1
