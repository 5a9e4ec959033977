"""The ensemble that a sweep keeps: the record of its summary, and what it says in words."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.insight.certainty import half_width
from sweeper.insight.evidence import Estimate
from sweeper.insight.test_rows import Outputs, evidence_in_folds, evidence_on_test
from sweeper.records import SweepRecord
from sweeper.text import from_to, number

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.insight.finals import FinalsOutcome
    from sweeper.models.config import Task
    from sweeper.training.scoring import Scoring

SUMMARY = "ensemble"  # the record's key in a sweep's summary


@dataclass(frozen=True)
class Member:
    """A trial of the ensemble and its share of the weighted mean; all shares add up to 1."""

    trial: int
    share: float


@dataclass(frozen=True)
class OnTest:
    """The ensemble and the best trial on ``rows`` test rows, in ``metric`` by plain name.

    ``low`` to ``high`` is the 95% interval of ensemble - best trial for new rows (None: it has no bounds).
    """

    metric: str
    rows: int
    ensemble: float
    trial: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class BesideFinalist:
    """The ensemble beside a finalist: the ``mean`` of that trial's networks over the finals' seeds, or their folds.

    ``difference`` is ensemble - mean, ``low`` to ``high`` its 95% interval (None: it has no bounds): on the test rows
    that for new rows and new seeds of the finalist, in folds as the finals' own.
    """

    trial: int
    mean: float
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class EnsembleOutcome:
    """The ``members``, largest share first, chosen from so many ``candidates``, the best complete trials.

    ``value`` is the ensemble's ``metric`` on the validation rows, ``single`` that of the best candidate alone, and
    ``gain`` by how much the ensemble is better there. ``best`` is the sweep's best trial, with which ``test`` compares.
    ``finalists``: where the sweep had finals, the same with each of these, the first of them first: on the test rows,
    or in ``folds``, where the members were trained anew without each part of the rows and judged on it together.
    """

    metric: str
    members: tuple[Member, ...]
    candidates: int
    value: float
    single: float
    gain: float
    best: int
    test: OnTest
    finalists: tuple[BesideFinalist, ...] = ()
    folds: int | None = None

    @property
    def size(self) -> int:
        """How many different trials are in it."""
        return len(self.members)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data, with size and sentence for those who read it there."""
        return {
            **asdict(self),
            "members": [asdict(m) for m in self.members],
            "finalists": [asdict(f) for f in self.finalists],
            "size": self.size,
            "sentence": self.sentence,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EnsembleOutcome:
        """The record that ``to_json`` wrote."""
        known = {name: value for name, value in data.items() if name not in ("size", "sentence")}
        members = tuple(Member(**member) for member in data["members"])
        finalists = tuple(BesideFinalist(**one) for one in data["finalists"])
        return cls(**{**known, "members": members, "test": OnTest(**data["test"]), "finalists": finalists})

    @property
    def sentence(self) -> str:
        """What is kept, and what it is worth."""
        if self.size == 1:
            [member] = self.members
            return f"No ensemble of the {self.candidates} best trials beats trial {member.trial} alone: that is kept."
        test = self.test
        text = f"The model that is kept is an ensemble of {self.size} trials: {self.metric} {number(self.value)} on "
        text += f"the validation rows, which chose it, against {number(self.single)} of the best one alone. On "
        text += f"{test.rows:,} test rows {test.metric} {number(test.ensemble)} against {number(test.trial)} of trial "
        text += str(self.best)
        return f"{text}{_on_new('rows', test.low, test.high)}{self._beside_the_first}"

    @property
    def _beside_the_first(self) -> str:
        """The ensemble beside the finalist that leads, as one more sentence."""
        if not self.finalists:
            return ""
        first = self.finalists[0]
        if self.folds is not None:
            text = " In the finals' folds its trials, trained anew with the same shares, have "
            text += f"{number(first.mean + first.difference)} together against {number(first.mean)} of trial "
            text += f"{first.trial}, which leads the finals"
            return f"{text}{_on_new('rows and trainings', first.low, first.high)}"
        text = (
            f" The networks of trial {first.trial}, which leads the finals, have {number(first.mean)} in the mean over "
        )
        return f"{text}fresh seeds{_on_new('rows and seeds', first.low, first.high)}"


def _on_new(what: str, low: float | None, high: float | None) -> str:
    """The end of a sentence: the interval of a difference, and whether it tells two apart."""
    if low is None or high is None:
        return "."
    apart = not low <= 0.0 <= high
    return (
        f": on new {what} a difference of {from_to(low, high, 3)}{'' if apart else ', so they cannot be told apart'}."
    )


def read_ensemble(record: SweepRecord) -> EnsembleOutcome | None:
    """The ensemble in a sweep's summary, if it keeps one."""
    data = record.summary.get(SUMMARY)
    return None if data is None else EnsembleOutcome.from_json(data)


def compare_on_test(
    metric: str, dataset: Dataset, ensemble: Outputs, trial: Outputs, seed: int = 0, scoring: Scoring | None = None
) -> OnTest:
    """The ensemble's and the best trial's outputs ``(t, C)`` row by row.

    A function of the user's own that fails on these rows gives way to the loss.
    """
    evidence = None
    with contextlib.suppress(ValueError):  # it cannot be computed on rows that are drawn again
        evidence = evidence_on_test(metric, dataset, [[ensemble], [trial]], seed, scoring)
    if evidence is None or not np.isfinite(evidence.values).all():
        metric = "loss"
        evidence = evidence_on_test(metric, dataset, [[ensemble], [trial]], seed)
    (mine,), (other,) = evidence.values.tolist()
    estimate = evidence.of_pair(0, 1)
    return OnTest(metric, len(dataset.y_test), mine, other, *_bounds(estimate))


def beside_finalists(
    metric: str,
    dataset: Dataset,
    ensemble: Outputs,
    finalists: Mapping[int, Sequence[Outputs]],
    seed: int = 0,
    scoring: Scoring | None = None,
) -> tuple[BesideFinalist, ...]:
    """The ensemble's outputs ``(t, C)`` against those of each finalist's networks, one for every seed."""
    found = []
    for trial, outputs in finalists.items():
        pair = [[ensemble] * len(outputs), outputs]
        try:
            evidence = evidence_on_test(metric, dataset, pair, seed, scoring)
        except ValueError:  # it cannot be computed on rows that are drawn again
            evidence = evidence_on_test("loss", dataset, pair, seed)
        means = evidence.means.tolist()
        found.append(BesideFinalist(trial, means[1], means[0] - means[1], *_bounds(evidence.of_pair(0, 1))))
    return tuple(found)


def beside_finalists_in_folds(finals: FinalsOutcome, task: Task) -> tuple[BesideFinalist, ...]:
    """The same of finals in folds: what the ensemble scores on each part of the rows against what a finalist does.

    Empty: the ensemble was not in these finals.
    """
    assert finals.folds is not None
    found = []
    for row in finals.standings:
        pair = np.array([finals.ensemble, row.values])
        if pair.ndim != 2 or not np.isfinite(pair).all():  # a finalist that diverged on some part is left out
            continue
        evidence = evidence_in_folds(pair, finals.metric.removeprefix("test_"), task, finals.folds)
        means = evidence.means.tolist()
        found.append(BesideFinalist(row.trial, means[1], means[0] - means[1], *_bounds(evidence.of_pair(0, 1))))
    return tuple(found)


def _bounds(estimate: Estimate) -> tuple[float, float] | tuple[None, None]:
    """The 95% interval of a difference, if it has one."""
    half = half_width(estimate)
    return (estimate.value - half, estimate.value + half) if math.isfinite(half) else (None, None)
