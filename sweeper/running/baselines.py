"""The baselines of a sweep, begun while its trials train and compared with its winner at its end."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sweeper.data.loading import features_of
from sweeper.insight.baselines import SUMMARY, BaselineOutcome, compare_with_baselines, read_baselines
from sweeper.ledger.protocol import Ledger
from sweeper.logs import Emit
from sweeper.records import SweepChanged
from sweeper.running.beside import Beside
from sweeper.running.kept import Kept
from sweeper.running.run import SweepRun
from sweeper.training.baselines import BaselineWork
from sweeper.training.scores import outputs_of
from sweeper.training.scoring import scoring_of

PATIENCE = 60.0  # seconds that the end of a sweep waits for a baseline


def begin_baselines(run: SweepRun, folder: Path, process: Beside | None = None) -> None:
    """Train them beside the trials. Those that the sweep's ``folder`` keeps are not trained again."""
    if run.spec.objective.function is not None:
        return
    if run.baselines is None:
        features = partial(features_of, run.spec)
        elsewhere = {} if process is None else {"elsewhere": process.baselines}
        run.baselines = BaselineWork(run.dataset, folder, features, **elsewhere)
    run.baselines.start()


def conclude_baselines(run: SweepRun, kept: Kept, ledger: Ledger, folder: Path, emit: Emit) -> BaselineOutcome | None:
    """Write into the sweep's summary how the kept model does beside them; None: that failed.

    It never fails the sweep: ``emit`` is told of ``baselines.failed``.
    """
    assert run.best is not None
    known = read_baselines(ledger.sweep(run.id))
    if known is not None and known.trial == run.best.number:
        return known
    try:
        begin_baselines(run, folder)
        assert run.baselines is not None
        baselines = run.baselines.result(PATIENCE)
        winner = kept.model
        outcome = compare_with_baselines(
            winner.dataset,
            run.best.number,
            run.spec.objective,
            {
                "validation": kept.validation,
                "test": outputs_of(winner.dataset, winner.network(), "test"),
            },
            baselines,
            scoring_of(run.spec, winner.dataset),
        )
        ledger.commit(run.id, [SweepChanged(summary={**ledger.sweep(run.id).summary, SUMMARY: outcome.to_json()})])
    except Exception as error:  # scikit-learn and statistics raise whatever they raise, and the results are safe
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        emit("baselines.failed", {"sweep": run.id, "kind": type(error).__name__, "reason": reason})
        return None
    return outcome
