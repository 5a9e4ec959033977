"""What a sampler knows about a sweep's trials, and what it answers: the words shared by the study and its samplers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from sweeper.errors import SpecError
from sweeper.search.ranking import Outcome
from sweeper.search_spaces import SpaceError

Params = dict[str, Any]


@dataclass(slots=True)
class SearchTrial:
    """``keys`` and ``distributions`` are what Optuna holds of the parameters, inactive ones left out."""

    params: Params
    keys: Params
    distributions: dict[str, Any]
    outcome: Outcome | None = None


@dataclass(frozen=True)
class View:
    """What a batch may know: the trials before it (``trials`` may hold later ones), and the outcomes of those before
    ``horizon`` that have one.

    ``revision`` changes when the outcome of a trial that had one was replaced; until then outcomes are only added.
    """

    start: int
    trials: Sequence[SearchTrial]
    horizon: int
    revision: int = 0

    @property
    def outcomes(self) -> dict[int, Outcome]:
        """The outcomes that may be seen, by trial number in order; this looks at every trial."""
        found = ((number, self.trials[number].outcome) for number in range(self.horizon))
        return {number: outcome for number, outcome in found if outcome is not None}


class Reader:
    """Reads each outcome of a growing view once: what is read at one batch need not be looked at again."""

    def __init__(self) -> None:
        self._reached, self._late = 0, list[int]()

    def fresh(self, view: View, horizon: int) -> list[tuple[int, Outcome]]:
        """The outcomes of trials before ``horizon`` (which never falls) that no earlier call gave, by trial number."""
        waiting = [*self._late, *range(self._reached, horizon)]
        self._reached = max(self._reached, horizon)
        self._late = [number for number in waiting if view.trials[number].outcome is None]
        found = ((number, view.trials[number].outcome) for number in waiting)
        return [(number, outcome) for number, outcome in found if outcome is not None]


@dataclass(frozen=True)
class Prior:
    """What is given before the first trial.

    ``first`` are the keys of points, whole or partial, that trials 0, 1, ... take; ``earlier`` are an earlier sweep's
    trials with their outcomes. ``comparable`` says that their values mean the same as this sweep's, else ranks do.
    """

    first: Sequence[Mapping[str, Any]] = ()
    earlier: Sequence[SearchTrial] = ()
    comparable: bool = True

    def fixed(self, number: int) -> Params:
        """The keys that are given for trial ``number``; empty: none."""
        return dict(self.first[number]) if number < len(self.first) else {}

    @property
    def outcomes(self) -> dict[int, Outcome]:
        """The earlier trials' outcomes, by their place in ``earlier``."""
        return {i: trial.outcome for i, trial in enumerate(self.earlier) if trial.outcome is not None}


@dataclass(frozen=True)
class Setting:
    """What every sampler of a sweep is made of: seed, one sign per objective (-1: larger is better), what is given."""

    seed: int
    signs: tuple[float, ...] = (1.0,)
    prior: Prior = field(default_factory=Prior)


class Batch(Protocol):
    """Suggests the trials of one batch in the order of their numbers; every trial asked is added before the next."""

    def ask(self, number: int) -> SearchTrial:
        """The suggestion for trial ``number``."""
        ...

    def add(self, number: int, trial: SearchTrial) -> None:
        """Trial ``number`` has these parameters."""
        ...


@contextmanager
def space_errors() -> Iterator[None]:
    """A space's complaint as what the user has to correct."""
    try:
        yield
    except SpaceError as error:
        key = f"space.{error.key}" if error.key and not error.file else error.key
        raise SpecError(error.problem, file=error.file, key=key or "space", remedy=error.remedy) from error
