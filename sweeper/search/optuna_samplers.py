"""Samplers that are Optuna's, each on a study in memory, and spaces that are functions on an Optuna trial."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from threadpoolctl import threadpool_limits

from sweeper.search.axes import Array, Axis
from sweeper.search.ranking import Outcome, fractions, ranks
from sweeper.search.samplers import trial_rng
from sweeper.search.suggestions import Batch, Params, Reader, SearchTrial, Setting, View
from sweeper.search_spaces import Space, SpaceError
from sweeper.search_spaces.optuna_bridge import quiet_study


class GaussianProcess:
    """Optuna's Gaussian process sampler on a study made anew for each batch.

    Pruned trials count with their last value, diverged ones as badly as the worst others. Constraints are Optuna's:
    each has a Gaussian process of its own. What an earlier sweep knew comes first. ``make`` gives another sampler for a
    seed: one of the user's own.
    """

    def __init__(self, space: Space, setting: Setting, make: Callable[[int], BaseSampler] | None = None) -> None:
        self._space, self._setting, self._make = space, setting, make or gaussian_process
        self._distributions = {} if space.is_function else space.distributions()
        self._study = quiet_study()
        self._placed = 0

    def open(self, view: View) -> Batch:
        """The batch that begins at ``view.start``."""
        self._study, self._placed = quiet_study(), view.start
        prior, own = self._setting.prior, view.outcomes
        earlier, shift = prior.outcomes, len(prior.earlier)
        outcomes = {**earlier, **{shift + number: outcome for number, outcome in own.items()}}
        values = self._values(outcomes, shift)
        beyond = _complete_excesses(outcomes)
        for row, trial in enumerate([*prior.earlier, *view.trials[: view.start]]):
            if row not in outcomes:
                self._add(trial, OptunaState.RUNNING)
            elif values[row] is None:
                self._add(trial, OptunaState.FAIL)
            else:
                self._add(trial, OptunaState.COMPLETE, values[row], beyond.get(row))
        return self

    def ask(self, number: int) -> SearchTrial:
        """As ``Batch``."""
        seed = int(trial_rng(self._setting.seed, number).integers(2**31 - 1))
        self._study.sampler = self._make(seed)
        self._placed = number + 1
        if fixed := self._setting.prior.fixed(number):
            self._study.enqueue_trial(fixed)
        with threadpool_limits(1):  # small matrices: OpenMP's threads cost three times as much and take the workers'
            trial = self._study.ask()
            params = self._space.suggest(trial)
        return SearchTrial(params, dict(trial.params), dict(trial.distributions))

    def add(self, number: int, trial: SearchTrial) -> None:
        """As ``Batch``."""
        if number >= self._placed:
            self._add(trial, OptunaState.RUNNING)
            self._placed = number + 1

    def _values(self, outcomes: Mapping[int, Outcome], shift: int) -> dict[int, float | None]:
        """What is minimised, for the rows of an earlier sweep (below ``shift``) and this one's; None: unknown."""
        sign = self._setting.signs[0]
        if not self._setting.prior.comparable:
            old, new = ({n: o for n, o in outcomes.items() if (n < shift) is before} for before in (True, False))
            places = fractions(ranks(old, (sign,))) | fractions(ranks(new, (sign,)))
            return {row: None if key is None else key[0] for row, key in places.items()}
        scores = {row: outcome.score for row, outcome in outcomes.items()}
        worst = _cap(np.array([sign * score for score in scores.values() if score is not None]))
        values: dict[int, float | None] = {}
        for row, score in scores.items():
            if score is not None:
                values[row] = min(sign * score, worst)
            else:
                values[row] = worst if outcomes[row].blew_up else None
        return values

    def _add(
        self,
        trial: SearchTrial,
        state: OptunaState,
        value: float | None = None,
        excesses: tuple[float, ...] | None = None,
    ) -> None:
        distributions = trial.distributions or {name: self._distributions[name] for name in trial.keys}
        constraints = None if excesses is None else {str(i): excess for i, excess in enumerate(excesses)}
        self._study.add_trial(
            optuna.create_trial(
                state=state, value=value, params=trial.keys, distributions=distributions, constraints=constraints
            )
        )


class CmaEs:
    """Optuna's CMA-ES on one study. Its state lives in the trials it was asked for, so a restored sweep asks again for
    every recorded trial, with the recorded parameters given. An earlier sweep's trials say where it begins."""

    def __init__(self, space: Space, setting: Setting, horizon: Callable[[int], int]) -> None:
        self._space, self._setting, self._horizon = space, setting, horizon
        self._study = quiet_study()
        self._source = self._source_trials()
        self._placed = 0
        self._reader = Reader()
        self._worst = 0.0

    def open(self, view: View) -> Batch:
        """The batch that begins at ``view.start``."""
        while self._placed < view.start:
            number = self._placed
            self._learn(number, view)
            self.add(number, view.trials[number])
        self._learn(view.start, view)
        return self

    def ask(self, number: int) -> SearchTrial:
        """As ``Batch``."""
        return self._place(number, self._setting.prior.fixed(number))

    def add(self, number: int, trial: SearchTrial) -> None:
        """As ``Batch``."""
        if number >= self._placed:
            self._place(number, trial.keys)

    def _place(self, number: int, given: Params) -> SearchTrial:
        self._placed = number + 1
        if given:
            self._study.enqueue_trial(given)
        self._study.sampler = self._sampler(number, self._source)
        trial = self._study.ask()
        try:
            _ = trial.relative_params  # sampled when first read, which given parameters never do: CMA-ES moves on here
        except ValueError:  # no earlier trial has all the parameters that this sweep's have in common
            self._study.sampler = self._sampler(number, None)
            _ = trial.relative_params
        params = self._space.suggest(trial)
        return SearchTrial(params, dict(trial.params), dict(trial.distributions))

    def _sampler(self, number: int, source: list[FrozenTrial] | None) -> optuna.samplers.BaseSampler:
        seed = int(trial_rng(self._setting.seed, number).integers(2**31 - 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # of source_trials
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False, source_trials=source)

    def _source_trials(self) -> list[FrozenTrial] | None:
        """The earlier trials with the parameters that CMA-ES moves: the numbers that all of them have."""
        declared = {} if self._space.is_function else self._space.distributions()
        known = [trial for trial in self._setting.prior.earlier if trial.outcome and trial.outcome.score is not None]
        spaces = [trial.distributions or {name: declared[name] for name in trial.keys} for trial in known]
        moved = [
            name
            for name, distribution in (spaces[0] if spaces else {}).items()
            if isinstance(distribution, FloatDistribution | IntDistribution)
            and not distribution.single()
            and all(name in space for space in spaces)
        ]
        return [
            optuna.create_trial(
                value=self._setting.signs[0] * trial.outcome.score,  # type: ignore[union-attr, operator]
                params={name: trial.keys[name] for name in moved},
                distributions={name: space[name] for name in moved},
            )
            for trial, space in zip(known, spaces, strict=True)
        ] or None

    def _learn(self, number: int, view: View) -> None:
        """Tell the results that the suggestion of trial ``number`` sees."""
        for i, outcome in self._reader.fresh(view, min(view.horizon, self._horizon(number))):
            if outcome.score is None and not outcome.blew_up:
                self._study.tell(i, state=OptunaState.FAIL)
                continue
            value = self._worst if outcome.score is None else self._setting.signs[0] * outcome.score
            self._worst = max(self._worst, value)
            self._study.tell(i, value)


def gaussian_process(seed: int) -> BaseSampler:
    """Optuna's Gaussian process sampler."""
    import torch  # noqa: F401 - Optuna's Gaussian processes load it late; its threads have to be known before

    return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)


def guided(
    space: Space, keys: Params, distributions: Mapping[str, Any], rng: np.random.Generator, fixed: Params
) -> SearchTrial:
    """A trial of a function space that suggests ``fixed``, then the values of a point, and random ones beyond."""
    trial = quiet_study(_Guide(keys, distributions, rng, fixed)).ask()
    params = space.suggest(trial)
    return SearchTrial(params, dict(trial.params), dict(trial.distributions))


def replayed(space: Space, params: Params, keys: Params, number: int) -> SearchTrial | None:
    """The trial of a function space that has these parameters; None: they do not lead back to what it suggested."""
    trial = optuna.trial.FixedTrial(keys, number=number)
    try:
        if space.suggest(trial) == params:
            return SearchTrial(params, dict(trial.params), dict(trial.distributions))
    except SpaceError:
        pass
    return None


class _Guide(optuna.samplers.BaseSampler):
    """Gives a function space the values that are fixed, those of a point, and random ones for what is beyond both."""

    def __init__(
        self, keys: Params, distributions: Mapping[str, BaseDistribution], rng: np.random.Generator, fixed: Params
    ) -> None:
        self._keys = {name: value for name, value in keys.items() if name not in fixed}
        self._rng, self._fixed = rng, fixed
        self._distributions = {name: distributions[name] for name in self._keys}

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Params:
        return self._keys

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        axis = Axis.of(param_name, param_distribution)
        given = self._fixed.get(param_name)
        if given is not None and not np.isnan(axis.encode(given)):
            return given
        return axis.decode(float(axis.from_uniform(self._rng.random(1))[0]))


def _complete_excesses(outcomes: Mapping[int, Outcome]) -> dict[int, tuple[float, ...]]:
    """Excesses for every row of a constrained sweep, which Optuna wants for all: what is unknown is as the worst."""
    known = {row: np.array(outcome.excesses) for row, outcome in outcomes.items() if outcome.excesses}
    if not known:
        return {}
    finite = np.stack([np.where(np.isfinite(excess), excess, 1.0) for excess in known.values()])
    worst = np.maximum(finite.max(axis=0), 1.0)
    filled = {row: np.where(np.isfinite(excess), excess, worst) for row, excess in known.items()}
    return {row: tuple(map(float, filled.get(row, worst))) for row in outcomes}


def _cap(values: Array) -> float:
    """The value as which everything worse is told: twice as far above the median as the best lies below it.

    One exploded loss would otherwise leave a Gaussian process no resolution for the good ones.
    """
    if not len(values):
        return 0.0
    median = float(np.median(values))
    return min(float(values.max()), median + 2 * (median - float(values.min())))
