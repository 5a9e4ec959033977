"""What the live page is told of a sweep follows the ledger, whatever happened since the last look."""

from __future__ import annotations

from sweeper.insight.results import best_trials
from sweeper.ledger.memory import MemoryLedger
from sweeper.records import Change, Ended, EpochReport, Reopened, Reported, Started, Suggested
from sweeper.service.live import Live
from sweeper.spec.parse import load_spec
from sweeper.states import TrialState

SPEC = load_spec({"dataset": {"name": "iris"}, "space": "mlp", "search": {"trials": 5, "sampler": "random"}}).to_json()


def run(number: int, attempt: int = 1) -> list[Change]:
    reports = tuple(EpochReport(epoch, {"val_loss": 1.0 / (1 + epoch)}) for epoch in range(3))
    first: list[Change] = [Suggested(number, {"learning_rate": 0.1 / (1 + number)}, 0)] if attempt == 1 else []
    return [*first, Started(number, attempt, "w", at=1.0), Reported(number, attempt, reports, seconds=1.0)]


def end(number: int, value: float | None, attempt: int = 1) -> list[Change]:
    state = TrialState.FAILED if value is None else TrialState.COMPLETE
    return [*run(number, attempt), Ended(number, attempt, state, "", value, at=2.0)]


def test_each_look_takes_up_what_has_ended_since_also_a_trial_that_ran_once_more() -> None:
    ledger = MemoryLedger()
    sweep = ledger.create_sweep("s", SPEC, 5).sweep
    live = Live(ledger)
    record = ledger.sweep(sweep)
    assert live.history(record).best == ()
    ledger.commit(sweep, run(0))
    assert live.curves(record).words["best"] == "trial 0"
    ledger.commit(sweep, [Ended(0, 1, TrialState.COMPLETE, "", 0.5, at=2.0), *end(1, None), *end(2, 0.7), *end(3, 0.4)])
    assert live.history(record).best == ((0, 0.5), (3, 0.4))
    assert live.history(record).points == ((0, 0.5), (2, 0.7), (3, 0.4))
    ledger.commit(sweep, [Reopened(1, "retry"), *end(1, 0.1, attempt=2)])
    assert live.history(record).best == ((0, 0.5), (1, 0.1))
    assert live.curves(record).best[0].trial == 1
    assert [line.trial for line in live.parallel(record).lines] == [2, 0, 3, 1]
    assert live.slices(record).slices[0].name == "learning_rate"
    assert live.finals(record).finalists == ()


def test_the_best_trial_within_constraints_is_found_from_what_is_new() -> None:
    ledger = MemoryLedger()
    sweep, live = ledger.create_sweep("s", SPEC | {"constraints": ["parameters <= 100"]}, 5).sweep, Live(ledger)
    assert live.best(ledger.sweep(sweep)) is None
    found = []
    for number, (value, size) in enumerate(((0.5, 200.0), (0.9, 90.0), (0.8, 50.0), (0.1, 101.0))):
        whole = Reported(number, 1, (), metrics={"val_loss": value, "parameters": size})
        ledger.commit(sweep, [*run(number), whole, Ended(number, 1, TrialState.COMPLETE, "", value, at=2.0)])
        record = ledger.sweep(sweep)
        found.append(live.best(record))
        assert found[-1] == best_trials(ledger, record, 1)[0].number
    assert found == [0, 1, 2, 2]
