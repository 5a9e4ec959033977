"""Which of a sweep's best trials its ensemble is made of, and with what shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.models.metric_names import OF_TASK, plain
from sweeper.running.members import Chosen
from sweeper.running.run import SweepRun
from sweeper.training.averaging import validation_outputs
from sweeper.training.ensemble import Selection, select
from sweeper.training.scoring import scoring_of

if TYPE_CHECKING:
    import torch

    from sweeper.data.dataset import Dataset
    from sweeper.models.metrics import Scorer
    from sweeper.training.legs import Arrays


def chosen_of(run: SweepRun) -> Chosen:
    """The ensemble that the pool's trials make, chosen by what they say of the validation rows.

    Raises:
        ValueError: no trial has a finite value there.
    """
    assert run.leaders.members is not None
    if run.leaders.members.chosen is None:
        run.leaders.members.chosen = _choose(run, run.leaders.members.numbers)
    return run.leaders.members.chosen


def _choose(run: SweepRun, numbers: list[int]) -> Chosen:
    import torch

    weights = [_weights(run, number) for number in numbers]
    outputs = torch.stack(
        [
            validation_outputs(rows_of(run, number), run.spec.trial_config(run.params(number)), own)
            for number, own in zip(numbers, weights, strict=True)
        ]
    )
    metric, found = _selection(run, outputs)
    places = sorted(found.shares, key=lambda place: (-found.shares[place], numbers[place]))
    mixed = sum(found.shares[place] * outputs[place] for place in places)
    return Chosen(
        metric,
        tuple(numbers[place] for place in places),
        tuple(found.shares[place] for place in places),
        tuple(weights[place] for place in places),
        len(numbers),
        found.value,
        found.single,
        torch.as_tensor(mixed),
    )


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


def rows_of(run: SweepRun, number: int) -> Dataset:
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
