"""The model that a sweep keeps at its end: the best trial's, that of its folds or all their rows, or an ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.insight import calibration
from sweeper.insight.calibration import Calibration, fit_of, fit_temperature
from sweeper.insight.ensemble import (
    SUMMARY,
    EnsembleOutcome,
    Member,
    beside_finalists,
    beside_finalists_in_folds,
    compare_on_test,
)
from sweeper.insight.finals import read_finals
from sweeper.insight.judging import test_metric
from sweeper.ledger.protocol import Ledger
from sweeper.records import SweepChanged, TrialRecord
from sweeper.running.finals import finalists_outputs
from sweeper.running.run import SweepRun
from sweeper.running.selection import chosen_of, rows_of
from sweeper.training.averaging import TrialModel, model_of, validation_outputs, weighted
from sweeper.training.scoring import scoring_of

if TYPE_CHECKING:
    import torch

    from sweeper.training.legs import Arrays


@dataclass(frozen=True, eq=False)
class Kept:
    """The model, and what its networks say of the validation rows ``(v, C)``, each of rows it has not trained on."""

    model: TrialModel
    validation: torch.Tensor


def kept_model(run: SweepRun, ledger: Ledger) -> Kept:
    """The model of the best trial, or the ensemble, with a temperature where its probabilities need one.

    Of an ensemble and of a temperature the sweep's summary says what they are.
    """
    return _calibrated(run, ledger, _chosen(run, ledger))


def _calibrated(run: SweepRun, ledger: Ledger, kept: Kept) -> Kept:
    """Divide a classifier's outputs by a temperature where the validation rows speak for one."""
    from sweeper.training.again import outputs_on_test

    rows, temperature = run.dataset.averaged(), None
    logits = kept.validation.double().numpy()
    if rows.task == "classification" and run.spec.winner != "refit":  # nothing validates what is refitted
        temperature = fit_temperature(logits, rows.y_val, rows.w_val)
    known = ledger.sweep(run.id).summary
    summary = {key: value for key, value in known.items() if key != calibration.SUMMARY}
    if temperature is not None:
        tested = outputs_on_test(kept.model.dataset, kept.model.network()).astype(np.float64)
        outcome = Calibration(
            temperature,
            len(rows.y_val),
            fit_of(logits, rows.y_val, rows.w_val),
            fit_of(logits / temperature, rows.y_val, rows.w_val),
            fit_of(tested, rows.y_test, rows.w_test),
            fit_of(tested / temperature, rows.y_test, rows.w_test),
        )
        summary[calibration.SUMMARY] = outcome.to_json()
        kept = Kept(kept.model.cooled(temperature), kept.validation / temperature)
    if summary != known:
        ledger.commit(run.id, [SweepChanged(summary=summary)])
    return kept


def _chosen(run: SweepRun, ledger: Ledger) -> Kept:
    assert run.best is not None
    number = run.best.number
    config, dataset = run.spec.trial_config(run.params(number)), rows_of(run, number)
    weights = winner_weights(run)
    if run.leaders.members is not None and run.best.stopped_after is None:
        return _ensemble(run, ledger, model_of(dataset, config, weights))
    model = model_of(dataset, config, final_weights(run, ledger.trial(run.id, number)))
    return Kept(model, validation_outputs(dataset, config, weights))


def _ensemble(run: SweepRun, ledger: Ledger, best: TrialModel) -> Kept:
    """The ensemble of the pool; the outcome is written into the sweep's summary."""
    from sweeper.training.again import outputs_on_test

    assert run.best is not None
    spec, chosen = run.spec, chosen_of(run)
    models = [
        model_of(rows_of(run, number), spec.trial_config(run.params(number)), weights)
        for number, weights in zip(chosen.numbers, chosen.weights, strict=True)
    ]
    model = weighted(models, chosen.shares)
    seed, scoring = spec.search.seed, scoring_of(spec, run.dataset)
    tests = [outputs_on_test(one.dataset, one.network()) for one in (model, best)]
    judge, finals = test_metric(spec, run.dataset.task), read_finals(ledger.sweep(run.id))
    if finals is not None and finals.folds is not None:
        beside = beside_finalists_in_folds(finals, run.dataset.task)
    else:
        beside = beside_finalists(judge, model.dataset, tests[0], finalists_outputs(ledger, run), seed, scoring)
    outcome = EnsembleOutcome(
        metric=chosen.metric,
        members=tuple(Member(*pair) for pair in zip(chosen.numbers, chosen.shares, strict=True)),
        candidates=chosen.candidates,
        value=chosen.value,
        single=chosen.single,
        gain=abs(chosen.value - chosen.single),
        best=run.best.number,
        test=compare_on_test(judge, model.dataset, tests[0], tests[1], seed, scoring),
        finalists=beside,
        folds=None if finals is None or not beside else finals.folds,
    )
    ledger.commit(run.id, [SweepChanged(summary={**ledger.sweep(run.id).summary, SUMMARY: outcome.to_json()})])
    return Kept(model, chosen.validation)


def final_weights(run: SweepRun, trial: TrialRecord) -> Arrays:
    """The weights of the model that is kept: the best trial's, or with ``winner: refit`` those of all folds' rows."""
    from sweeper.training.again import refit

    assert run.best is not None
    if run.spec.winner != "refit":
        return winner_weights(run)
    if run.best.refitted is None:
        run.best.refitted = refit(run.spec, run.dataset, trial)
    return run.best.refitted


def winner_weights(run: SweepRun) -> Arrays:
    """The best trial's weights by parameter name, of several folds as ``sweeper.data.folds.joined`` has them.

    A worker sends weights with a trial that becomes the best. After a resume they are gone with the old process.
    """
    from sweeper.training.again import train_again, value_again, weights_of

    assert run.best is not None
    if run.best.weights is None:
        params, seed = run.params(run.best.number), run.trials[run.best.number].seed
        histories = train_again(
            run.spec, run.dataset, params, seed, run.best.stopped_after, run.schedule(run.best.number)
        )
        run.best.weights, run.best.again = (
            weights_of(histories),
            value_again(run.spec, run.dataset, params, histories),
        )
    return run.best.weights
