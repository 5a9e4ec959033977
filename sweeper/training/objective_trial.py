"""The Optuna trial that an objective of the user's own is called with, in the process that runs it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json

from sweeper.search_spaces.optuna_bridge import quiet_study
from sweeper.training.objective_words import Answer, Artifact, Attribute, MayIGoOn, ObjectiveStart, Reported, Said
from sweeper.training.objective_words import Suggested as Found

MAX_ARTIFACT = 1 << 28  # bytes
PLAIN = (bool, int, float, str, type(None))
TrialPruned = optuna.TrialPruned


class _Given(optuna.samplers.RandomSampler):
    """Suggests what the search has chosen, and what it has not at random."""

    def __init__(self, start: ObjectiveStart) -> None:
        super().__init__(seed=int(np.random.default_rng([start.seed, start.number, 1]).integers(2**31 - 1)))
        self._given = start.given

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        drawn = super().sample_independent(study, trial, param_name, param_distribution)  # whatever is given
        if param_name not in self._given:
            return drawn
        try:
            inside = param_distribution._contains(param_distribution.to_internal_repr(self._given[param_name]))
        except (ValueError, TypeError):
            return drawn
        return self._given[param_name] if inside else drawn


class ObjectiveTrial(optuna.trial.Trial):
    """An Optuna trial of its own in-memory study, which tells ``say`` of everything and asks ``hear`` for answers."""

    def __init__(
        self, start: ObjectiveStart, prunes: bool, say: Callable[[Said], None], hear: Callable[[], Answer]
    ) -> None:
        study = quiet_study(_Given(start))
        super().__init__(study, study.ask()._trial_id)
        self._start, self._prunes, self._say, self._hear = start, prunes, say, hear
        self._told: set[str] = set()
        self._steps: set[int] = set()

    @property
    def number(self) -> int:
        """The trial's number in its sweep."""
        return self._start.number

    def suggest_float(self, name: str, low: float, high: float, **options: Any) -> float:
        """As Optuna's."""
        return float(self._tell(name, super().suggest_float(name, low, high, **options)))

    def suggest_int(self, name: str, low: int, high: int, **options: Any) -> int:
        """As Optuna's."""
        return int(self._tell(name, super().suggest_int(name, low, high, **options)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """As Optuna's; a choice is a text, a number, true, false or nothing."""
        odd = next((choice for choice in choices if not isinstance(choice, PLAIN)), None)
        if odd is not None:
            raise TypeError(f"the choice {odd!r} of {name!r} is no text, number, True, False or None")
        return self._tell(name, super().suggest_categorical(name, choices))

    def report(self, value: float, step: int) -> None:
        """As Optuna's."""
        super().report(value, step)
        if step not in self._steps:
            self._steps.add(step)
            self._say(Reported(float(value), int(step)))

    def should_prune(self) -> bool:
        """Whether the sweep's pruner stops the trial after its last report."""
        if not self._prunes or not self._steps:
            return False
        self._say(MayIGoOn())
        return self._hear().stop

    def set_user_attr(self, key: str, value: Any) -> None:
        """As Optuna's; what is no JSON data is kept as text."""
        super().set_user_attr(key, value)
        try:
            plain = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            plain = str(value)
        self._say(Attribute(str(key), plain))

    def log_artifact(self, path: str | os.PathLike[str]) -> None:
        """Keep a file with the trial; MLflow shows it among the artifacts of the trial's run.

        Raises:
            ValueError: it has more than 256 MB.
        """
        size = os.path.getsize(path)
        if size > MAX_ARTIFACT:
            limit = MAX_ARTIFACT >> 20
            raise ValueError(f"{os.fspath(path)} has {size >> 20} MB, and an artifact may have {limit}")
        with open(path, "rb") as stream:
            self._say(Artifact(os.path.basename(path), stream.read()))

    def _tell(self, name: str, value: Any) -> Any:
        if name not in self._told:
            self._told.add(name)
            self._say(Found(name, value, distribution_to_json(self.distributions[name])))
        return value
