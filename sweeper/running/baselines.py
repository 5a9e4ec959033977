"""The baselines of a sweep, begun while its trials train and compared with its winner at its end."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sweeper.data.loading import features_of
from sweeper.insight.baselines import SUMMARY, BaselineOutcome, compare_with_baselines, read_baselines
from sweeper.ledger.protocol import Ledger
from sweeper.logs import Emit
from sweeper.records import SweepChanged
from sweeper.running.run import SweepRun, final_weights, winner_weights
from sweeper.training.averaging import model_of, validation_outputs
from sweeper.training.baselines import BaselineWork
from sweeper.training.scores import outputs_of
from sweeper.training.scoring import scoring_of

PATIENCE = 60.0  # seconds that the end of a sweep waits for a baseline


def begin_baselines(run: SweepRun, folder: Path) -> None:
    """Train them beside the trials. Those that the sweep's ``folder`` keeps are not trained again."""
    if run.baselines is None:
        run.baselines = BaselineWork(run.dataset, folder, partial(features_of, run.spec))
    run.baselines.start()


def conclude_baselines(run: SweepRun, ledger: Ledger, folder: Path, emit: Emit) -> BaselineOutcome | None:
    """Write into the sweep's summary how its winner does beside them; None: there is no winner.

    It never fails the sweep: ``emit`` is told of ``baselines.failed``.
    """
    if run.best is None:
        return None
    known = read_baselines(ledger.sweep(run.id))
    if known is not None and known.trial == run.best.number:
        return known
    try:
        begin_baselines(run, folder)
        assert run.baselines is not None
        baselines = run.baselines.result(PATIENCE)
        params, weights = run.params(run.best.number), winner_weights(run)
        config, dataset = run.spec.trial_config(params), run.dataset.prepared(run.spec.inputs_of(params))
        winner = model_of(dataset, config, final_weights(run, ledger.trial(run.id, run.best.number)))
        outcome = compare_with_baselines(
            winner.dataset,
            run.best.number,
            run.spec.objective,
            {
                "validation": validation_outputs(dataset, config, weights),
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
