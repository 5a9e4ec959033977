"""The parts of a sweep's summary with ``--json``: finals, baselines, ensemble, calibration."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Number = float | None


class Answer(BaseModel):
    """An object without other keys than those named; null stands for a number that is none."""

    model_config = ConfigDict(extra="forbid")


class Spread(Answer):
    """Mean and sample deviation over the fresh seeds."""

    mean: Number
    deviation: Number


class Standing(Answer):
    """A finalist on the test rows."""

    trial: int
    values: list[Number]
    mean: Number
    deviation: Number
    low: Number
    high: Number
    probability_best: Number
    cost: Number
    diverged: int
    search_value: Number
    validation_mean: Number
    metrics: dict[str, Spread]


class Pair(Answer):
    """Two finalists: first - second."""

    first: int
    second: int
    difference: Number
    low: Number
    high: Number
    p: Number
    adjusted: Number
    different: bool


class Finals(Answer):
    """The outcome of the finals, the best finalist first."""

    sweep: str
    metric: str
    direction: Literal["minimize", "maximize"]
    seeds: list[int]
    rows: int
    interval: str
    sentence: str
    leaders: list[int]
    cheapest: int | None
    rows_to_settle: int | None
    seeds_to_settle: int | None
    folds: int | None
    repeats: int
    standings: list[Standing]
    comparisons: list[Pair]
    ensemble: list[Number]


class BaselineRow(Answer):
    """A simple model."""

    method: str
    validation: dict[str, Number]
    test: dict[str, Number]
    seconds: float
    problem: str


class BaselinePair(Answer):
    """The winner against a simple model on the test rows: winner - model."""

    method: str
    difference: Number
    low: Number
    high: Number
    better: Literal["winner", "baseline", "neither"]


class Baselines(Answer):
    """The winner beside simple models."""

    trial: int
    metric: str
    maximize: bool
    validation: dict[str, Number]
    test: dict[str, Number]
    rows: list[BaselineRow]
    pairs: list[BaselinePair]
    sentence: str


class Member(Answer):
    """A trial of the ensemble, and its share."""

    trial: int
    share: float


class OnTest(Answer):
    """The ensemble and the best trial on the test rows; ``low`` to ``high``: ensemble - trial."""

    metric: str
    rows: int
    ensemble: Number
    trial: Number
    low: Number
    high: Number


class BesideFinalist(Answer):
    """The ensemble beside a finalist: ensemble - mean of its networks."""

    trial: int
    mean: Number
    difference: Number
    low: Number
    high: Number


class Ensemble(Answer):
    """The kept ensemble."""

    metric: str
    members: list[Member]
    candidates: int
    value: Number
    single: Number
    gain: Number
    best: int
    test: OnTest
    finalists: list[BesideFinalist]
    folds: int | None
    size: int
    sentence: str


class Fit(Answer):
    """Log loss and expected calibration error."""

    loss: Number
    error: Number


class Calibration(Answer):
    """The temperature of the kept model."""

    temperature: float
    rows: int
    validation_before: Fit
    validation_after: Fit
    test_before: Fit
    test_after: Fit
    sentence: str


class Again(Answer):
    """The winner came to another value when it was trained again."""

    trial: int
    recorded: Number
    again: Number
    arithmetic: str
