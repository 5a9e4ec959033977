"""Metrics beyond those that training measures by itself, of every trial after every epoch, on the validation rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sweeper.models.metric_names import STANDARD_ERROR, TRAINED, plain
from sweeper.spec.own_metrics import OwnMetric, OwnMetricError, call_metric

if TYPE_CHECKING:
    import torch

    from sweeper.data.dataset import Dataset
    from sweeper.models.config import Task
    from sweeper.models.metrics import Scorer
    from sweeper.spec.parse import SweepSpec

Label = str | int | float | bool


@dataclass(frozen=True)
class Scoring:
    """Which metrics, by plain ``names`` and as the user's ``own`` functions; what outputs and targets stand for.

    ``error`` is the metric of which the standard error is measured, too (empty: none).
    Class indices are positions in ``labels``; a regression's numbers are ``value * scale + offset`` in its unit.
    """

    task: Task
    names: tuple[str, ...]
    own: tuple[OwnMetric, ...]
    labels: tuple[Label, ...] | None
    offset: float
    scale: float
    error: str = ""

    def score(self, outputs: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None = None) -> dict[str, float]:
        """``val_`` metrics of one network's outputs ``(v, C)`` on rows with targets ``y (v,)`` and weights ``w (v,)``.

        Raises:
            OwnMetricError: a function of the user's own failed.
        """
        from sweeper.models.metrics import make_scorers

        scorers = make_scorers(self.names, self.task, self.offset, self.scale)
        found = {f"val_{name}": float(scorer(outputs[None], y, w)) for name, scorer in scorers.items()}
        if self.own:
            truth, predicted = self.in_own_terms(outputs, y)
            found |= {metric.name: call_metric(metric, truth, predicted) for metric in self.own}
        return found

    def scorers(self) -> dict[str, Scorer]:
        """The same for all networks of a cohort, by name; of a function that failed, see ``problem_of``."""
        from sweeper.models.metrics import make_scorers
        from sweeper.models.standard_errors import make_error

        made = make_scorers(self.names, self.task, self.offset, self.scale)
        error = make_error(self.error, self.task, self.scale) if self.error else None
        return (
            {f"val_{name}": scorer for name, scorer in made.items()}
            | {metric.name: _OwnScorer(metric, self) for metric in self.own}
            | ({} if error is None else {STANDARD_ERROR: error})
        )

    def own_metric(self, name: str) -> OwnMetric | None:
        """The user's own metric of this plain name: ``cost`` of a function ``cost``."""
        return next((metric for metric in self.own if plain(metric.name) == name), None)

    def in_own_terms(self, outputs: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Truth and prediction as the table has them, ``(v,)`` each: labels, or numbers in their own unit."""
        if self.labels is not None:
            labels = np.array(self.labels)
            return labels[y.cpu().numpy()], labels[outputs.argmax(dim=1).cpu().numpy()]
        truth, predicted = (t.double().cpu().numpy() * self.scale + self.offset for t in (y, outputs[:, 0]))
        return truth, predicted


@dataclass
class _OwnScorer:
    """A function of the user's own as a scorer: NaN where it failed, with the last ``problem``."""

    metric: OwnMetric
    scoring: Scoring
    problem: str | None = None

    def __call__(self, outputs: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None) -> torch.Tensor:
        import torch

        found = []
        for one in outputs:
            truth, predicted = self.scoring.in_own_terms(one, y)
            try:
                found.append(call_metric(self.metric, truth, predicted))
            except OwnMetricError as error:
                self.problem = str(error)
                found.append(math.nan)
        return torch.tensor(found, dtype=torch.float64)


def problem_of(scorers: Mapping[str, Scorer], rows: Iterable[Mapping[str, Sequence[float]]]) -> str | None:
    """What went wrong with a metric of the user's own in the epochs of these ``rows`` of a trial, if anything did."""
    for row in rows:
        for name, scorer in scorers.items():
            if isinstance(scorer, _OwnScorer) and any(map(math.isnan, row.get(name, ()))):
                return scorer.problem
    return None


def scoring_of(spec: SweepSpec, dataset: Dataset) -> Scoring | None:
    """What a sweep's objectives and constraints need beyond training's own metrics, and the user's metrics, if any."""
    from sweeper.spec.goals import places_of

    wanted = [metric for _, metric in places_of(spec.objectives, spec.constraints)]
    own = {metric.name for metric in spec.metrics}
    names = [plain(m) for m in wanted if m.startswith("val_") and m not in own and plain(m) not in TRAINED]
    error, goal, stop = "", spec.objective.metric, spec.search.stop
    if stop is not None and stop.patience is not None and not dataset.folds and goal.startswith("val_"):
        error = "" if goal in own else plain(goal)
    if not names and not own and not error:
        return None
    return Scoring(
        dataset.task,
        tuple(dict.fromkeys(names)),
        spec.metrics,
        dataset.class_labels,
        dataset.target_mean,
        dataset.target_std,
        error,
    )
