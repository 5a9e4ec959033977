"""The ensemble that a sweep keeps: the record of its summary, and what it says in words."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.insight.certainty import half_width
from sweeper.insight.test_rows import Outputs, evidence_on_test
from sweeper.records import SweepRecord
from sweeper.text import from_to, number

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
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

    @property
    def different(self) -> bool:
        """Whether the difference holds on new rows."""
        return self.low is not None and self.high is not None and not self.low <= 0.0 <= self.high


@dataclass(frozen=True)
class EnsembleOutcome:
    """The ``members``, largest share first, chosen from so many ``candidates``, the best complete trials.

    ``value`` is the ensemble's ``metric`` on the validation rows, ``single`` that of the best candidate alone, and
    ``gain`` by how much the ensemble is better there. ``best`` is the sweep's best trial, with which ``test`` compares.
    """

    metric: str
    members: tuple[Member, ...]
    candidates: int
    value: float
    single: float
    gain: float
    best: int
    test: OnTest

    @property
    def size(self) -> int:
        """How many different trials are in it."""
        return len(self.members)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON data, with size and sentence for those who read it there."""
        return {
            **asdict(self),
            "members": [asdict(m) for m in self.members],
            "size": self.size,
            "sentence": self.sentence,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> EnsembleOutcome:
        """The record that ``to_json`` wrote."""
        known = {name: value for name, value in data.items() if name not in ("size", "sentence")}
        members = tuple(Member(**member) for member in data["members"])
        return cls(**{**known, "members": members, "test": OnTest(**data["test"])})

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
        if test.low is None or test.high is None:
            return f"{text}."
        verdict = "" if test.different else ", so they cannot be told apart"
        return f"{text}: on new rows a difference of {from_to(test.low, test.high, 3)}{verdict}."


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
    half = half_width(estimate)
    low, high = (estimate.value - half, estimate.value + half) if math.isfinite(half) else (None, None)
    return OnTest(metric, len(dataset.y_test), mine, other, low, high)
