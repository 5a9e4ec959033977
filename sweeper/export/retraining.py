"""The winner of a sweep trained again for its export: the best trial, or the members of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sweeper.errors import SweeperError
from sweeper.insight.calibration import Calibration
from sweeper.records import TrialRecord
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import schedule_in

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.models import History, TrainConfig, TrialConfig
    from sweeper.models.changes import Changes
    from sweeper.training.averaging import TrialModel

METRIC = {"classification": "accuracy", "regression": "rmse"}


@dataclass(frozen=True)
class Winner:
    """A trial that was trained again, on each fold where the sweep has folds.

    ``model`` is what it came to. ``validation``, the mean over folds, and ``test`` are metrics in the user's units.
    Of an ensemble, ``members`` are its trials with their shares, ``model`` and the metrics are those of all of them
    together, and ``trial`` is the sweep's best one. ``other`` are the trials that came to something else than in the
    sweep, beyond rounding. With a ``calibration`` the model is the calibrated one; the metrics are from
    before. ``inputs`` says in words how columns become inputs, in all ways that occur.
    """

    trial: TrialRecord
    config: TrialConfig
    train: TrainConfig
    histories: Sequence[History]
    model: TrialModel
    validation: Mapping[str, float]
    test: Mapping[str, float]
    inputs: str
    calibration: Calibration | None = None
    other: tuple[int, ...] = ()
    members: Mapping[int, float] = field(default_factory=dict)


def train_winner(spec: SweepSpec, dataset: Dataset, trial: TrialRecord) -> Winner:
    """Train a complete trial again and evaluate it on the test rows.

    Raises:
        SweeperError: it diverges here, which it did not where the sweep ran.
    """
    from sweeper.training.again import outputs_on_test, refit, scores_on_test, weights_of
    from sweeper.training.averaging import model_of

    params = dict(trial.params or {})
    histories = _trained_again(spec, dataset, trial)
    config = spec.trial_config(params)
    train = spec.train_config(dataset.task, params)
    weights = weights_of(histories)
    if spec.winner == "refit":
        weights = refit(spec, dataset, trial)
    model = model_of(dataset, config, weights)
    name = f"val_{METRIC[dataset.task]}"
    scale = dataset.target_std if dataset.task == "regression" else 1.0
    return Winner(
        trial=trial,
        config=config,
        train=train,
        histories=histories,
        model=model,
        validation={"val_loss": _kept(histories, train, "val_loss"), name: _kept(histories, train, name) * scale},
        test=scores_on_test(model.dataset, outputs_on_test(model.dataset, model.network())),
        inputs=spec.inputs_of(params).in_words,
        other=(trial.number,) if _differs(spec, dataset, trial, histories) else (),
    )


def train_ensemble(
    spec: SweepSpec, dataset: Dataset, trial: TrialRecord, members: Sequence[tuple[TrialRecord, float]]
) -> Winner:
    """Train the members of an ensemble again, each a trial with its share, and evaluate what they say together.

    ``trial`` is the sweep's best trial.

    Raises:
        SweeperError: as ``train_winner``.
    """
    from sweeper.training.again import outputs_on_test, scores_on_test, weights_of
    from sweeper.training.averaging import model_of, validation_outputs, weighted
    from sweeper.training.scores import score

    shares, models, outputs, other = [share for _, share in members], [], [], []
    for member, share in members:
        histories = _trained_again(spec, dataset, member)
        params = member.params or {}
        config, weights, own = (
            spec.trial_config(params),
            weights_of(histories),
            dataset.prepared(spec.inputs_of(params)),
        )
        models.append(model_of(own, config, weights))
        outputs.append(share * validation_outputs(own, config, weights))
        other += [member.number] if _differs(spec, dataset, member, histories) else []
    model, rows = weighted(models, shares), dataset.averaged()
    found = score(rows, [sum(outputs[1:], outputs[0])], "validation", ["loss", METRIC[dataset.task]])
    return Winner(
        trial=trial,
        config=spec.trial_config(trial.params or {}),
        train=spec.train_config(dataset.task, trial.params or {}),
        histories=(),
        model=model,
        validation={f"val_{name}": values[0] for name, values in found.items()},
        test=scores_on_test(model.dataset, outputs_on_test(model.dataset, model.network())),
        inputs="; or ".join(dict.fromkeys(spec.inputs_of(member.params or {}).in_words for member, _ in members)),
        other=tuple(other),
        members={member.number: share for member, share in members},
    )


def _trained_again(spec: SweepSpec, dataset: Dataset, trial: TrialRecord) -> Sequence[History]:
    from sweeper.training.again import stopped_after, train_again

    params, schedule = dict(trial.params or {}), schedule_in(trial.attributes)
    histories = train_again(spec, dataset, params, trial.seed, stopped_after(trial), schedule)
    for history in histories:
        if history.diverged:
            remedy = "Export it on a machine like the one the sweep ran on"
            problem = f"trial {trial.number} diverged when it was trained again: {history.divergence}"
            raise SweeperError(f"{problem}. {remedy}")
    return histories


def _kept(histories: Sequence[History], train: TrainConfig, metric: str) -> float:
    """A metric of the epoch whose weights were kept, the mean over folds."""
    return sum(float(history.series(metric)[history.kept_epoch(train)]) for history in histories) / len(histories)


def objective_of(spec: SweepSpec, dataset: Dataset, trial: TrialRecord, histories: Sequence[History]) -> float:
    """The objective of the weights that were trained again, in the user's unit."""
    metric, train = spec.objective.metric, spec.train_config(dataset.task, trial.params or {})
    return _kept(histories, train, metric) * (dataset.target_std if metric == "val_rmse" else 1.0)


def _differs(spec: SweepSpec, dataset: Dataset, trial: TrialRecord, histories: Sequence[History]) -> bool:
    """Whether training again came to something else than the sweep's value."""
    from sweeper.training.again import value_again

    again = value_again(spec, dataset, trial.params or {}, histories)
    return trial.value is not None and again is not None and again != trial.value


def changes_in_script(
    config: TrialConfig, changes: Changes, train: TrainConfig, epochs: int
) -> dict[int, dict[str, Any]]:
    """What retrain.py changes before each of its epochs: of ``rate`` the factor, of all else the new value.

    ``group`` are the values of torch.optim's parameter groups.
    """
    from sweeper.models.solo import resolve_clip_norm

    found, before = {}, config
    for epoch, after in changes:
        if epoch >= epochs:
            break
        group: dict[str, Any] = {"weight_decay": after.weight_decay}
        if after.optimizer == "momentum":
            group["momentum"] = after.momentum
        if after.optimizer in ("adam", "adamw", "nadam", "lion"):
            group["betas"] = (after.beta1, after.beta2)
        found[epoch] = {
            "rate": after.learning_rate / before.learning_rate,
            "group": group,
            "clip_norm": resolve_clip_norm(after, train),
            "dropout": after.dropout,
            "label_smoothing": after.label_smoothing,
            "ema_decay": after.ema_decay,
        }
        before = after
    return found
