"""What a worker and the process of an objective say to each other: a start goes in, what the trial does comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.spec.user_code import UserFunction


@dataclass(frozen=True)
class ObjectiveStart:
    """A trial that is to be run: ``given`` are the values that the search has chosen, by name.

    A parameter that has none, or one that the trial does not allow, is drawn at random from ``seed`` and the number.
    """

    number: int
    attempt: int
    seed: int
    given: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """To the process: run this trial. ``log`` is the file for what it prints, ``prunes`` whether a pruner judges it."""

    start: ObjectiveStart
    function: UserFunction
    log: str
    prunes: bool


@dataclass(frozen=True)
class Answer:
    """To the process: what ``trial.should_prune()`` returns."""

    stop: bool


@dataclass(frozen=True)
class Suggested:
    """From the process: a parameter, with Optuna's distribution as JSON."""

    name: str
    value: Any
    distribution: str


@dataclass(frozen=True)
class Reported:
    """From the process: ``trial.report``."""

    value: float
    step: int


@dataclass(frozen=True)
class Attribute:
    """From the process: ``trial.set_user_attr``, as JSON data."""

    name: str
    value: Any


@dataclass(frozen=True)
class Artifact:
    """From the process: a file that the trial keeps."""

    name: str
    content: bytes


@dataclass(frozen=True)
class MayIGoOn:
    """From the process: ``trial.should_prune``, which waits for an ``Answer``."""


@dataclass(frozen=True)
class Ended:
    """From the process: the trial is over. ``trace`` are the last lines of the traceback of a failed one."""

    state: Literal["complete", "pruned", "failed"]
    value: float | None = None
    reason: str = ""
    trace: str = ""


Said = Suggested | Reported | Attribute | Artifact | MayIGoOn | Ended
