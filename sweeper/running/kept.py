"""The model that a sweep keeps at its end: the best trial's, that of its folds or all their rows, or an ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.insight import calibration
from sweeper.insight.calibration import Calibration, fit_of, fit_temperature
from sweeper.insight.ensemble import SUMMARY, EnsembleOutcome, Member, beside_finalists, compare_on_test
from sweeper.insight.judging import test_metric
from sweeper.ledger.protocol import Ledger
from sweeper.models.metric_names import OF_TASK, plain
from sweeper.records import SweepChanged, TrialRecord
from sweeper.running.finals import finalists_outputs
from sweeper.running.run import SweepRun
from sweeper.training.averaging import TrialModel, model_of, validation_outputs, weighted
from sweeper.training.ensemble import Selection, select
from sweeper.training.scoring import scoring_of

if TYPE_CHECKING:
    import torch

    from sweeper.data.dataset import Dataset
    from sweeper.models.metrics import Scorer
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
    config, dataset = run.spec.trial_config(run.params(number)), _rows_of(run, number)
    weights = winner_weights(run)
    if run.leaders.members is not None and run.best.stopped_after is None:
        return _ensemble(run, ledger, model_of(dataset, config, weights))
    model = model_of(dataset, config, final_weights(run, ledger.trial(run.id, number)))
    return Kept(model, validation_outputs(dataset, config, weights))


def _ensemble(run: SweepRun, ledger: Ledger, best: TrialModel) -> Kept:
    """Choose from the pool, and write the outcome into the sweep's summary."""
    import torch

    from sweeper.training.again import outputs_on_test

    assert run.leaders.members is not None
    assert run.best is not None
    spec, numbers = run.spec, run.leaders.members.numbers
    configs = [spec.trial_config(run.params(number)) for number in numbers]
    weights = [_weights(run, number) for number in numbers]
    outputs = torch.stack(
        [
            validation_outputs(_rows_of(run, number), config, own)
            for number, config, own in zip(numbers, configs, weights, strict=True)
        ]
    )
    metric, chosen = _selection(run, outputs)
    places = sorted(chosen.shares, key=lambda place: (-chosen.shares[place], numbers[place]))
    shares = [chosen.shares[place] for place in places]
    models = [model_of(_rows_of(run, numbers[place]), configs[place], weights[place]) for place in places]
    model = weighted(models, shares)
    seed, scoring = spec.search.seed, scoring_of(spec, run.dataset)
    tests = [outputs_on_test(one.dataset, one.network()) for one in (model, best)]
    judge = test_metric(spec, run.dataset.task)
    outcome = EnsembleOutcome(
        metric=metric,
        members=tuple(Member(numbers[place], share) for place, share in zip(places, shares, strict=True)),
        candidates=len(numbers),
        value=chosen.value,
        single=chosen.single,
        gain=abs(chosen.value - chosen.single),
        best=run.best.number,
        test=compare_on_test(judge, model.dataset, tests[0], tests[1], seed, scoring),
        finalists=beside_finalists(judge, model.dataset, tests[0], finalists_outputs(ledger, run), seed, scoring),
    )
    ledger.commit(run.id, [SweepChanged(summary={**ledger.sweep(run.id).summary, SUMMARY: outcome.to_json()})])
    mixed = sum(share * outputs[place] for place, share in zip(places, shares, strict=True))
    return Kept(model, torch.as_tensor(mixed))


def _selection(run: SweepRun, outputs: torch.Tensor) -> tuple[str, Selection]:
    """The metric that chooses, and what it chooses: the objective, or the loss where that is not about these rows."""
    import torch

    from sweeper.models.metrics import make_scorers

    dataset, goal = run.dataset.averaged(), run.spec.objective
    scoring = scoring_of(run.spec, dataset)
    own = None if scoring is None else scoring.own_metric(plain(goal.metric))
    scorers: list[Scorer] = list(make_scorers(["loss"], dataset.task).values())
    metric, maximize = "val_loss", False
    if goal.metric.startswith("val_") and goal.metric != "val_loss":
        metric, maximize = goal.metric, goal.direction == "maximize"
        if scoring is not None and own is not None:
            scorers.insert(0, scoring.scorers()[metric])
        else:
            assert plain(metric) in OF_TASK[dataset.task]
            named = make_scorers([plain(metric)], dataset.task, dataset.target_mean, dataset.target_std)
            scorers = [*named.values(), *scorers]
    y, w = torch.tensor(dataset.y_val), None if dataset.w_val is None else torch.tensor(dataset.w_val)
    return metric, select(outputs, y, w, scorers, maximize)


def _rows_of(run: SweepRun, number: int) -> Dataset:
    """The rows with a trial's inputs."""
    return run.dataset.prepared(run.spec.inputs_of(run.params(number)))


def _weights(run: SweepRun, number: int) -> Arrays:
    """A member's weights, from its file or trained again."""
    from sweeper.training.again import train_again, weights_of

    assert run.leaders.members is not None
    found = run.leaders.members.weights(number)
    if found is None:
        params, seed, schedule = run.params(number), run.trials[number].seed, run.schedule(number)
        found = weights_of(train_again(run.spec, run.dataset, params, seed, schedule=schedule))
    return found


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
