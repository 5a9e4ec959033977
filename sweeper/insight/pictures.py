"""What the live page draws: each picture in few numbers, with its title, caption and words.

Names of dimensions: E epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Point = tuple[int, float]


@dataclass(frozen=True)
class Frame:
    """The range of the objective's axis, and whether it is logarithmic."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True)
class Picture:
    """What every picture has: title, caption, what it shows in words (``alt``), and the objective."""

    title: str
    caption: str
    alt: str
    metric: str
    direction: str


@dataclass(frozen=True)
class History(Picture):
    """Pairs of a trial's number and its value; ``best`` are the steps of the best so far, over ``last`` + 1 numbers.

    ``frame`` is None while there is nothing to draw, in every picture.
    """

    frame: Frame | None
    last: int
    points: tuple[Point, ...]
    beyond: tuple[Point, ...]
    pruned: tuple[Point, ...]
    best: tuple[Point, ...]
    words: Mapping[str, str]


@dataclass(frozen=True)
class Curve:
    """One trial's metric: ``values`` at ``epochs``, counted from 1."""

    trial: int
    epochs: tuple[int, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Curves(Picture):
    """The objective by epoch: quantiles over ``looked_at`` trials, the curves of the best, the winner's training loss.

    ``low``, ``median`` and ``high`` (E,) stand at ``epochs``; None: no value there is finite.
    """

    frame: Frame | None
    looked_at: int
    epochs: tuple[int, ...]
    low: tuple[float | None, ...]
    median: tuple[float | None, ...]
    high: tuple[float | None, ...]
    best: tuple[Curve, ...]
    train: Curve | None
    words: Mapping[str, str]


@dataclass(frozen=True)
class Axis:
    """A parameter: ``marks`` are heights from 0 to 1 and what they stand for."""

    name: str
    marks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Line:
    """A trial: its height on every axis, and its rank from 0 (worst) to 1 (best)."""

    trial: int
    value: float
    heights: tuple[float, ...]
    rank: float


@dataclass(frozen=True)
class Parallel(Picture):
    """A sample of the trials, the best last; lines of rank ``top`` and above are the best tenth."""

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]
    top: float
    words: Mapping[str, str]


@dataclass(frozen=True)
class Bin:
    """Trials whose parameter lies from ``low`` to ``high``, or is ``label``; ``best`` is None where none is allowed."""

    label: str
    low: float | None
    high: float | None
    count: int
    median: float
    best: float | None


@dataclass(frozen=True)
class Slice:
    """One parameter: a number from ``low`` to ``high``, or choices (``low`` is None)."""

    name: str
    log: bool
    low: float | None
    high: float | None
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Slices(Picture):
    """Every parameter against the objective."""

    frame: Frame | None
    slices: tuple[Slice, ...]
    words: Mapping[str, str]


@dataclass(frozen=True)
class Finalist:
    """A finalist's mean over fresh seeds with its interval (None: it has none), and the ``values`` of the seeds.

    ``probability`` says how likely it is the best.
    """

    trial: int
    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]
    leads: bool
    probability: str


@dataclass(frozen=True)
class Standings(Picture):
    """The outcome of the finals; without finalists there were none."""

    verdict: str
    finalists: tuple[Finalist, ...]
