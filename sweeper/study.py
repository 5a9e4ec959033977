"""The search: asks for trials in batches, learns from told results, and is rebuilt from the ledger after a restart.

A suggestion depends on the seed, its number, the space and the results that its window lets it see (``sweeper.window``)
and on nothing else: not on timing, on how a batch was divided, nor on whether the process was restarted in between.
Random, Sobol, grid and TPE suggestions are computed here (``sweeper.samplers``); Gaussian processes and CMA-ES are
Optuna's, each on a study in memory. Parameters are plain JSON data (see ``search_spaces.Space``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState as OptunaState
from threadpoolctl import ThreadpoolController

from search_spaces import Space, SpaceError
from sweeper.axes import Array, Axis, decode_point, encode_point
from sweeper.errors import SpecError
from sweeper.samplers import Known, Outcome, PointBatch, open_random, open_sobol, open_tpe, rank, trial_rng
from sweeper.window import batch_start, told_before

__all__ = ["Outcome", "SearchLike", "Study"]

Params = dict[str, Any]
_POINT_SAMPLERS: dict[str, Callable[[Known], PointBatch]] = {
    "random": open_random,
    "sobol": open_sobol,
    "tpe": open_tpe,
}


class SearchLike(Protocol):
    """What the study reads of ``SearchSpec``."""

    @property
    def sampler(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def deterministic(self) -> bool: ...  # noqa: D102


@dataclass
class _Trial:
    """``keys`` and ``distributions`` are what Optuna holds of the parameters, inactive ones left out."""

    params: Params
    keys: Params
    distributions: dict[str, BaseDistribution]
    outcome: Outcome | None = None


@dataclass(frozen=True)
class _View:
    """What a batch may know: the trials before it, and the outcomes of those in ``visible`` only."""

    start: int
    trials: Sequence[_Trial]
    visible: frozenset[int]


class _Batch(Protocol):
    """Suggests the trials of one batch in the order of their numbers; every trial asked is added before the next."""

    def ask(self, number: int) -> _Trial: ...

    def add(self, number: int, trial: _Trial) -> None: ...


class Study:
    """One sweep's search.

    ``ask`` takes numbers that continue those asked or restored; ``tell`` takes results in any order. ``size`` is the
    number of trials after which the space is exhausted (a grid's points; None: never).

    Raises:
        SpecError: the sampler cannot search this space.
    """

    def __init__(
        self, space: Space, search: SearchLike, direction: Literal["minimize", "maximize"], batch: int, window: int
    ) -> None:
        told_before(0, window, batch)  # refuses a batch outside the window
        self._space, self._batch_size, self._window = space, batch, window
        self._deterministic = search.deterministic
        self._trials: list[_Trial] = []
        self._libraries = ThreadpoolController()
        self._batch: tuple[int, _Batch] | None = None  # the open batch and where it begins
        self.size: int | None = None
        sign = -1.0 if direction == "maximize" else 1.0
        self._open: Callable[[_View], _Batch]
        if search.sampler == "grid":
            grid = _Grid(space, search.seed)
            self.size, self._open = len(grid.points), grid.open
        elif search.sampler == "gp":
            self._open = _GaussianProcess(space, search.seed, sign).open
        elif search.sampler == "cmaes":
            self._open = _CmaEs(space, search.seed, sign, self._horizon).open
        else:
            self._open = _Points(space, _POINT_SAMPLERS[search.sampler], search.seed, sign, batch).open

    @property
    def asked(self) -> int:
        """How many trials have parameters: 0..asked-1."""
        return len(self._trials)

    def ready(self, number: int) -> bool:
        """Whether every result that the suggestion of trial ``number`` has to see was told."""
        needed = self._trials[: self._horizon(number)] if self._deterministic else []
        return all(trial.outcome is not None for trial in needed)

    def ask(self, numbers: Sequence[int]) -> list[Params]:
        """The parameters of the next trials; fewer than asked when the space is exhausted.

        Raises:
            SpecError: a function space's own code failed.
            RuntimeError: the numbers do not continue, or a result that has to be seen was not told.
        """
        if list(numbers) != list(range(self.asked, self.asked + len(numbers))):
            raise RuntimeError(f"{list(numbers)} were asked, but the next trial is {self.asked}")
        asked = []
        for number in numbers:
            if self.size is not None and number >= self.size:
                break
            if not self.ready(number):
                raise RuntimeError(f"trial {number} was asked before trials 0..{self._horizon(number) - 1} were told")
            trial = self._suggest(number)
            self._take(number, trial)
            asked.append(dict(trial.params))
        return asked

    def tell(self, number: int, outcome: Outcome) -> None:
        """How trial ``number`` ended. A trial that a user reopened is told again."""
        self._trials[number].outcome = outcome

    def restore(self, trials: Iterable[tuple[Mapping[str, Any], Outcome | None]]) -> None:
        """Take over the trials 0, 1, ... of an interrupted sweep: their parameters, and how those that ended did.

        Raises:
            SpecError: a trial does not belong to the space, or a function space's own code failed or changed.
            RuntimeError: the study has trials already.
        """
        if self._trials:
            raise RuntimeError("only a new study can be restored")
        for number, (params, outcome) in enumerate(trials):
            trial = self._recorded(number, dict(params))
            trial.outcome = outcome
            self._take(number, trial)

    def _horizon(self, number: int) -> int:
        """The results of the trials from here on are not seen by the suggestion of trial ``number``."""
        if self._deterministic:
            return told_before(number, self._window, self._batch_size)
        return batch_start(number, self._batch_size)

    def _suggest(self, number: int) -> _Trial:
        """The trial's suggestion, from its batch as it was when its first trial was asked."""
        begin = batch_start(number, self._batch_size)
        # the matrices are small: threads of BLAS cost more than they bring, and take the workers' cores
        with _translated(), self._libraries.limit(limits=1, user_api="blas"):
            if self._batch is None or self._batch[0] != begin:
                told = (i for i in range(self._horizon(number)) if self._trials[i].outcome is not None)
                batch = self._open(_View(begin, self._trials[:begin], frozenset(told)))
                for member in range(begin, number):
                    batch.add(member, self._trials[member])
                self._batch = (begin, batch)
            return self._batch[1].ask(number)

    def _take(self, number: int, trial: _Trial) -> None:
        self._trials.append(trial)
        if self._batch is not None and self._batch[0] == batch_start(number, self._batch_size):
            self._batch[1].add(number, trial)

    def _recorded(self, number: int, params: Params) -> _Trial:
        """A trial of the ledger as the sampler held it."""
        with _translated():
            keys = self._space.encode(params)
            if not self._space.is_function:
                if self._space.active(keys) != params:
                    raise SpaceError(f"the parameters of trial {number} in the ledger do not belong to this space")
                return _Trial(params, keys, {})
            trial = optuna.trial.FixedTrial(keys, number=number)
            try:
                if self._space.suggest(trial) == params:
                    return _Trial(params, dict(trial.params), dict(trial.distributions))
            except SpaceError:  # the function returned other parameters than it suggested, so they do not lead back
                pass
        again = self._suggest(number)
        return again if again.params == params else _Trial(params, {}, {})  # else it cannot be learnt from


class _Points:
    """Samplers of points: parameters become axes, points become parameters."""

    def __init__(self, space: Space, opener: Callable[[Known], PointBatch], seed: int, sign: float, batch: int) -> None:
        self._space, self._opener, self._seed, self._sign, self._size = space, opener, seed, sign, batch
        self._distributions = {} if space.is_function else space.distributions()
        self.axes = _axes(self._distributions)
        self._points: list[Array] = []  # of the trials before the current batch, on the axes
        self._seen = 0  # trials whose distributions are known
        parents = {parent for parameter in space.parameters for parent, _ in parameter.when}
        self._parents = [d for d, axis in enumerate(self.axes) if axis.name in parents]
        self._masks: dict[tuple[float, ...], NDArray[np.bool_]] = {}

    def open(self, view: _View) -> _Batch:
        if self._space.is_function:
            self._discover(view)
        for trial in view.trials[len(self._points) :]:
            self._points.append(encode_point(self.axes, trial.keys))
        points = np.array(self._points, dtype=np.float64).reshape(view.start, len(self.axes))
        ranks = {number: self._rank(view.trials[number]) for number in sorted(view.visible)}
        applies = self._applies if self._parents else None
        known = Known(view.start, self._size, self._seed, self.axes, points, ranks, applies)
        return _BatchOfPoints(self, self._opener(known))

    def realise(self, number: int, point: Array) -> _Trial:
        """The trial that a point stands for."""
        keys = decode_point(self.axes, point)
        if not self._space.is_function:
            params = self._space.active(keys)
            return _Trial(params, {name: value for name, value in keys.items() if name in params}, {})
        study = _quiet_study(_Guide(keys, self._distributions, trial_rng(self._seed, number)))
        trial = study.ask()
        params = self._space.suggest(trial)
        return _Trial(params, dict(trial.params), dict(trial.distributions))

    def _rank(self, trial: _Trial) -> tuple[float, float, float] | None:
        assert trial.outcome is not None
        return rank(trial.outcome, self._sign) if trial.keys or not self.axes else None

    def _discover(self, view: _View) -> None:
        """A function space's axes are those that its trials showed so far, each as it was last suggested."""
        for trial in view.trials[self._seen :]:
            self._distributions = {**self._distributions, **trial.distributions}
        self._seen = view.start
        axes = _axes(self._distributions)
        if axes != self.axes:
            self.axes, self._points = axes, []

    def _applies(self, points: Array) -> NDArray[np.bool_]:
        """(M, D) which axes apply to points (M, D): looked up by the values of the parameters in conditions."""
        codes, first, which = np.unique(points[:, self._parents], axis=0, return_index=True, return_inverse=True)
        masks = []
        for code, index in zip(map(tuple, codes), first, strict=True):
            if code not in self._masks:
                active = self._space.active(decode_point(self.axes, points[index]))
                self._masks[code] = np.array([axis.name in active for axis in self.axes])
            masks.append(self._masks[code])
        chosen: NDArray[np.bool_] = np.stack(masks)[which.ravel()]
        return chosen


class _BatchOfPoints:
    """One batch of a sampler of points."""

    def __init__(self, owner: _Points, points: PointBatch) -> None:
        self._owner, self._axes, self._points = owner, owner.axes, points

    def ask(self, number: int) -> _Trial:
        return self._owner.realise(number, self._points.pick(number))

    def add(self, number: int, trial: _Trial) -> None:
        self._points.add(encode_point(self._axes, trial.keys))


class _Grid:
    """Every combination once, in an order shuffled by the seed: any part of a grid covers the whole of it."""

    def __init__(self, space: Space, seed: int) -> None:
        with _translated():
            points = space.grid()
        self.points = [points[i] for i in trial_rng(seed, 0).permutation(len(points))]

    def open(self, view: _View) -> _Batch:
        return self

    def ask(self, number: int) -> _Trial:
        return _Trial(self.points[number], {}, {})

    def add(self, number: int, trial: _Trial) -> None:
        pass


class _GaussianProcess:
    """Optuna's Gaussian process sampler on a study made anew for each batch. Pruned trials count with their last value,
    diverged ones as badly as the worst others."""

    def __init__(self, space: Space, seed: int, sign: float) -> None:
        self._space, self._seed, self._sign = space, seed, sign
        self._distributions = {} if space.is_function else space.distributions()
        self._study = _quiet_study(None)
        self._placed = 0

    def open(self, view: _View) -> _Batch:
        self._study, self._placed = _quiet_study(None), view.start
        scores = [view.trials[i].outcome.score for i in view.visible]  # type: ignore[union-attr]
        worst = _cap(np.array([self._sign * score for score in scores if score is not None]))
        for number, trial in enumerate(view.trials):
            outcome = trial.outcome if number in view.visible else None
            if outcome is None:
                self._add(trial, OptunaState.RUNNING)
            elif outcome.score is None and not outcome.blew_up:
                self._add(trial, OptunaState.FAIL)
            else:
                value = worst if outcome.score is None else min(self._sign * outcome.score, worst)
                self._add(trial, OptunaState.COMPLETE, value)
        return self

    def ask(self, number: int) -> _Trial:
        seed = int(trial_rng(self._seed, number).integers(2**31 - 1))
        self._study.sampler = optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        self._placed = number + 1
        trial = self._study.ask()
        params = self._space.suggest(trial)
        return _Trial(params, dict(trial.params), dict(trial.distributions))

    def add(self, number: int, trial: _Trial) -> None:
        if number >= self._placed:
            self._add(trial, OptunaState.RUNNING)
            self._placed = number + 1

    def _add(self, trial: _Trial, state: OptunaState, value: float | None = None) -> None:
        distributions = trial.distributions or {name: self._distributions[name] for name in trial.keys}
        self._study.add_trial(
            optuna.create_trial(state=state, value=value, params=trial.keys, distributions=distributions)
        )


class _CmaEs:
    """Optuna's CMA-ES on one study. Its state lives in the trials it was asked for, so a restored sweep asks again for
    every recorded trial, with the recorded parameters given."""

    def __init__(self, space: Space, seed: int, sign: float, horizon: Callable[[int], int]) -> None:
        self._space, self._seed, self._sign, self._horizon = space, seed, sign, horizon
        self._study = _quiet_study(None)
        self._placed = 0
        self._told: set[int] = set()
        self._worst = 0.0

    def open(self, view: _View) -> _Batch:
        while self._placed < view.start:
            number = self._placed
            self._learn(number, view)
            self.add(number, view.trials[number])
        self._learn(view.start, view)
        return self

    def ask(self, number: int) -> _Trial:
        seed = int(trial_rng(self._seed, number).integers(2**31 - 1))
        self._study.sampler = optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        self._placed = number + 1
        trial = self._study.ask()
        _ = trial.relative_params  # sampled when first read, which given parameters never do: CMA-ES moves on here
        params = self._space.suggest(trial)
        return _Trial(params, dict(trial.params), dict(trial.distributions))

    def add(self, number: int, trial: _Trial) -> None:
        if number >= self._placed:
            self._study.enqueue_trial(trial.keys)
            self.ask(number)

    def _learn(self, number: int, view: _View) -> None:
        """Tell the results that the suggestion of trial ``number`` sees."""
        for i in sorted(view.visible - self._told):
            outcome = view.trials[i].outcome
            if i >= self._horizon(number) or outcome is None:
                continue
            self._told.add(i)
            if outcome.score is None and not outcome.blew_up:
                self._study.tell(i, state=OptunaState.FAIL)
                continue
            value = self._worst if outcome.score is None else self._sign * outcome.score
            self._worst = max(self._worst, value)
            self._study.tell(i, value)


class _Guide(optuna.samplers.BaseSampler):
    """Gives a function space the values of a point, and random ones for what it suggests beyond."""

    def __init__(self, keys: Params, distributions: Mapping[str, BaseDistribution], rng: np.random.Generator) -> None:
        self._keys, self._rng = keys, rng
        self._distributions = {name: distributions[name] for name in keys}

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Params:
        return self._keys

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        axis = Axis.of(param_name, param_distribution)
        return axis.decode(float(axis.from_uniform(self._rng.random(1))[0]))


@contextmanager
def _translated() -> Iterator[None]:
    """A space's complaint as what the user has to correct."""
    try:
        yield
    except SpaceError as error:
        key = f"space.{error.key}" if error.key and not error.file else error.key
        raise SpecError(error.problem, file=error.file, key=key or "space", remedy=error.remedy) from error


def _axes(distributions: Mapping[str, BaseDistribution]) -> tuple[Axis, ...]:
    return tuple(Axis.of(name, distribution) for name, distribution in distributions.items())


def _cap(values: Array) -> float:
    """The value as which everything worse is told: twice as far above the median as the best lies below it.

    One exploded loss would otherwise leave a Gaussian process no resolution for the good ones.
    """
    if not len(values):
        return 0.0
    median = float(np.median(values))
    return min(float(values.max()), median + 2 * (median - float(values.min())))


def _quiet_study(sampler: optuna.samplers.BaseSampler | None) -> optuna.Study:
    """A study in memory that minimises; creating it prints nothing."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = sampler or optuna.samplers.RandomSampler(seed=0)
        return optuna.create_study(sampler=sampler, pruner=optuna.pruners.NopPruner())
    finally:
        optuna.logging.set_verbosity(verbosity)
