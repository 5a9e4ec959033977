"""A trial trained again, and how a network does on the test rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sweeper.data.folds import joined
from sweeper.models.metric_names import OF_TASK
from sweeper.spec.own_metrics import OwnMetricError
from sweeper.spec.phases import Phase, Schedule, schedule_in
from sweeper.states import TrialState
from sweeper.training.scoring import scoring_of

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from sweeper.data.dataset import Dataset
    from sweeper.models import History
    from sweeper.records import TrialRecord
    from sweeper.spec.parse import SweepSpec
    from sweeper.training.legs import Arrays

ROWS_AT_ONCE = 50_000


def train_again(
    spec: SweepSpec,
    dataset: Dataset,
    params: Mapping[str, Any],
    seed: int,
    until: int | None = None,
    schedule: Schedule = (),
) -> list[History]:
    """A trial's training once more, on the CPU: its result depends on its configuration, seed and data only.

    One history for each fold, or one where there are no folds. ``until`` ends it after so many epochs: of a trial that
    was stopped, those that it had (``stopped_after``). ``schedule`` is what a member of a population was trained with.
    """
    from sweeper.models import train_cohort

    dataset = dataset.prepared(spec.inputs_of(params))
    train = spec.train_config(dataset.task, params)
    config, changes = spec.configs_of(schedule or (Phase(0, params),))
    scoring, parts = scoring_of(spec, dataset), dataset.folds or (dataset,)
    scorers = {} if scoring is None else scoring.scorers()
    how: Any = {"scorers": scorers, "until": until, "changes": [changes]}
    return [train_cohort([config], train, part.tensors(), [seed], **how)[0] for part in parts]


def stopped_after(trial: TrialRecord) -> int | None:
    """The epochs that a trial had when it was stopped (None: it was not)."""
    return trial.epochs if trial.state is TrialState.STOPPED else None


def value_again(
    spec: SweepSpec, dataset: Dataset, params: Mapping[str, Any], histories: Sequence[History]
) -> float | None:
    """The objective that ``train_again`` came to, in the units and by the operations that recorded it.

    NaN where it diverged. None: it cannot be compared, since a trial with replicates stands for several seeds.
    """
    import numpy as np

    if spec.training.replicates > 1:
        return None
    if any(history.diverged for history in histories):
        return float("nan")
    train, name = spec.train_config(dataset.task, params), spec.objective.metric
    unit = dataset.target_std if (name, dataset.task) == ("val_rmse", "regression") else 1.0
    return float(np.mean([history.series(name)[history.kept_epoch(train)] * unit for history in histories]))


def weights_of(histories: Sequence[History]) -> Arrays:
    """The weights that ``train_again`` kept, as a worker sends them."""
    parts = [{name: tensor.numpy() for name, tensor in history.state_dict.items()} for history in histories]
    return joined(parts)


def epochs_to_refit(trial: TrialRecord) -> int:
    """For how many epochs a trial is trained on the rows of all folds: as many as these kept in the mean, rounded."""
    return max(1, round(trial.metrics.get("best_epoch", trial.epochs)))


def arrays_to_refit(dataset: Dataset) -> Arrays:
    """The rows of all folds, to train on and, since no other row is left, to watch the training by."""
    arrays = {name: array for name, array in dataset.arrays().items() if name.endswith("_train")}
    same = {name.replace("_train", "_val"): array for name, array in arrays.items()}
    return {**arrays, **same, "columns": dataset.recipe.kinds}


def refit(spec: SweepSpec, dataset: Dataset, trial: TrialRecord) -> Arrays:
    """The weights of a complete trial trained once more on the rows of all folds together.

    A learning rate that drops on a plateau follows the loss of these rows.

    Raises:
        SweeperError: it diverges.
    """
    from sweeper.errors import SweeperError
    from sweeper.models import Data, train_cohort

    params = trial.params or {}
    data = Data.of_arrays(arrays_to_refit(dataset.prepared(spec.inputs_of(params))))
    train = spec.train_config(dataset.task, params)
    train = replace(train, epochs=epochs_to_refit(trial), keep="last", patience=None, gradient_flow=None)
    train = replace(train, monitor="val_loss", minimize=True)
    config, changes = spec.configs_of(schedule_in(trial.attributes) or (Phase(0, params),))
    [history] = train_cohort([config], train, data, [trial.seed], changes=[changes])
    if history.diverged:
        raise SweeperError(f"the winner diverged when it was trained on the rows of all folds: {history.divergence}")
    return weights_of([history])


def outputs_on_test(dataset: Dataset, network: nn.Module) -> np.ndarray:
    """(t, C) float32: what a network says of the prepared test rows, a part of them at a time."""
    import torch

    x, _ = dataset.averaged().test_tensors()
    with torch.no_grad():
        parts = [network(part).float() for part in x.split(ROWS_AT_ONCE)]
    return torch.cat(parts).numpy()


def scores_on_test(dataset: Dataset, outputs: np.ndarray, metrics: Iterable[str] = ()) -> dict[str, float]:
    """``test_loss``, and ``test_accuracy`` or ``test_rmse`` in the target's unit, of ``outputs`` ``(t, C)``.

    ``metrics`` are more of them, by plain name: those that the task has.
    """
    import torch

    from sweeper.models.metrics import make_scorers

    more = (metric for metric in metrics if metric in OF_TASK[dataset.task])
    names = dict.fromkeys(["loss", "rmse" if dataset.task == "regression" else "accuracy", *more])
    made = torch.tensor(outputs)[None]
    scorers = make_scorers(names, dataset.task, dataset.target_mean, dataset.target_std)
    y, w = torch.tensor(dataset.y_test), None if dataset.w_test is None else torch.tensor(dataset.w_test)
    return {f"test_{name}": float(scorer(made, y, w)[0]) for name, scorer in scorers.items()}


def scores_of_judges(spec: SweepSpec, dataset: Dataset, outputs: np.ndarray) -> dict[str, float]:
    """The twins on the test rows, ``test_...``, of the metrics that training does not measure by itself.

    A function of the user's own that fails on these rows is left out.
    """
    import torch

    scoring = scoring_of(spec, dataset)
    if scoring is None:
        return {}
    y, w = torch.tensor(dataset.y_test), None if dataset.w_test is None else torch.tensor(dataset.w_test)
    try:
        found = scoring.score(torch.tensor(outputs), y, w)
    except OwnMetricError:
        found = replace(scoring, own=()).score(torch.tensor(outputs), y, w)
    return {f"test_{name.removeprefix('val_')}": value for name, value in found.items()}


def network_of(spec: SweepSpec, dataset: Dataset, params: Mapping[str, Any], weights: Arrays) -> nn.Module:
    """A trial's network with these weights; with folds the mean of its networks, of the inputs of all of them."""
    from sweeper.training.averaging import model_of

    return model_of(dataset.prepared(spec.inputs_of(params)), spec.trial_config(params), weights).network()
