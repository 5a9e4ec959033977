"""Searches a space by points on its axes: random, Sobol' and TPE, and the grid of all combinations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sweeper.search.axes import Array, Axis, decode_point, encode_point, points_from_uniform
from sweeper.search.optuna_samplers import guided
from sweeper.search.ranking import Key, Outcome, fractions, ranks
from sweeper.search.samplers import Known, PointBatch, open_random, open_sobol, open_tpe, trial_rng
from sweeper.search.suggestions import Batch, Params, SearchTrial, Setting, View, space_errors
from sweeper.search.tpe import n_good, n_good_of_front
from sweeper.search_spaces import Space

OPENERS: dict[str, Callable[[Known], PointBatch]] = {"random": open_random, "sobol": open_sobol, "tpe": open_tpe}


class Points:
    """Parameters become axes, points become parameters; ``opener`` is the sampler of points."""

    def __init__(self, space: Space, opener: Callable[[Known], PointBatch], setting: Setting, batch: int) -> None:
        self._space, self._opener, self._setting, self._size = space, opener, setting, batch
        self._earlier = list(setting.prior.earlier)
        self._distributions = {} if space.is_function else space.distributions()
        self.axes = _axes(self._distributions)
        self._points: list[Array] = []  # of the earlier sweep's trials and those before the current batch, on the axes
        self._seen = 0  # trials whose distributions are known
        parents = {parent for parameter in space.parameters for parent, _ in parameter.when}
        self._parents = [d for d, axis in enumerate(self.axes) if axis.name in parents]
        self._masks: dict[tuple[float, ...], NDArray[np.bool_]] = {}

    def open(self, view: View) -> Batch:
        """The batch that begins at ``view.start``."""
        trials = [*self._earlier, *view.trials]
        if self._space.is_function:
            self._discover(trials)
        for trial in trials[len(self._points) :]:
            self._points.append(encode_point(self.axes, trial.keys))
        points = np.array(self._points, dtype=np.float64).reshape(len(trials), len(self.axes))
        keys = self._keys(trials, view.outcomes)
        applies = self._applies if self._parents else None
        several = len(self._setting.signs) > 1
        known = Known(view.start, self._size, self._setting.seed, self.axes, points, keys, applies, several)
        return _BatchOfPoints(self, self._opener(known))

    def realise(self, number: int, point: Array) -> SearchTrial:
        """The trial that a point stands for, with the values that are given for it."""
        seed, fixed = self._setting.seed, self._setting.prior.fixed(number)
        if fixed:  # a value that the sampler left out may be needed by one that is given
            rest = np.random.default_rng([seed, number, 1]).random((1, len(self.axes)))
            point = np.where(np.isnan(point), points_from_uniform(self.axes, rest)[0], point)
        keys = decode_point(self.axes, point)
        if self._space.is_function:
            return guided(self._space, keys, self._distributions, trial_rng(seed, number), fixed)
        keys |= fixed
        params = self._space.active(keys)
        return SearchTrial(params, {name: value for name, value in keys.items() if name in params}, {})

    def _keys(self, trials: list[SearchTrial], outcomes: Mapping[int, Outcome]) -> dict[int, Key | None]:
        """The ranking of the rows whose results may be seen."""
        prior, shift = self._setting.prior, len(self._earlier)
        earlier, own = prior.outcomes, {shift + number: outcome for number, outcome in outcomes.items()}
        if prior.comparable or not earlier:
            keys = self._ranks({**earlier, **own})
        else:
            keys = fractions(self._ranks(earlier)) | fractions(self._ranks(own))
        return {row: key if trials[row].keys or not self.axes else None for row, key in keys.items()}

    def _ranks(self, outcomes: Mapping[int, Outcome]) -> dict[int, Key | None]:
        enough = (n_good_of_front if len(self._setting.signs) > 1 else n_good)(len(outcomes))
        return ranks(outcomes, self._setting.signs, enough)

    def _discover(self, trials: list[SearchTrial]) -> None:
        """A function space's axes are those that its trials showed so far, each as it was last suggested."""
        for trial in trials[self._seen :]:
            self._distributions = {**self._distributions, **trial.distributions}
        self._seen = len(trials)
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

    def __init__(self, owner: Points, points: PointBatch) -> None:
        self._owner, self._axes, self._points = owner, owner.axes, points

    def ask(self, number: int) -> SearchTrial:
        """As ``Batch``."""
        return self._owner.realise(number, self._points.pick(number))

    def add(self, number: int, trial: SearchTrial) -> None:
        """As ``Batch``."""
        self._points.add(encode_point(self._axes, trial.keys))


class Grid:
    """Every combination once, in an order shuffled by the seed: any part of a grid covers the whole of it.

    Given points come first, each as the first combination that has its values.
    """

    def __init__(self, space: Space, setting: Setting) -> None:
        with space_errors():
            points = space.grid()
        rest = [points[i] for i in trial_rng(setting.seed, 0).permutation(len(points))]
        self.points: list[Params] = []
        for given in setting.prior.first:
            found = next((point for point in rest if given.items() <= space.encode(point).items()), None)
            if found is not None:
                rest.remove(found)
                self.points.append(found)
        self.points += rest

    def open(self, view: View) -> Batch:
        """The batch that begins at ``view.start``."""
        return self

    def ask(self, number: int) -> SearchTrial:
        """As ``Batch``."""
        return SearchTrial(self.points[number], {}, {})

    def add(self, number: int, trial: SearchTrial) -> None:
        """As ``Batch``."""


def _axes(distributions: Mapping[str, object]) -> tuple[Axis, ...]:
    return tuple(Axis.of(name, distribution) for name, distribution in distributions.items())
