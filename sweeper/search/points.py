"""Searches a space by points on its axes: random, Sobol' and TPE, and the grid of all combinations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sweeper.search.axes import Array, Axis, alike, decode_point, encode_point, points_from_uniform, shown_together
from sweeper.search.optuna_samplers import guided
from sweeper.search.ranking import Key, Outcome, fractions, rank, ranks
from sweeper.search.samplers import Known, PointBatch, open_random, open_sobol, open_tpe, trial_rng
from sweeper.search.standings import Having, Rows, Standings
from sweeper.search.suggestions import Batch, Params, Reader, SearchTrial, Setting, View, space_errors
from sweeper.search.tpe import n_good, n_good_of_front
from sweeper.search_spaces import Space

OPENERS: dict[str, Callable[[Known], PointBatch]] = {
    "random": open_random,
    "pbt": open_random,
    "sobol": open_sobol,
    "tpe": open_tpe,
}


class Points:
    """Parameters become axes, points become parameters; ``opener`` is the sampler of points."""

    def __init__(self, space: Space, opener: Callable[[Known], PointBatch], setting: Setting, batch: int) -> None:
        self._space, self._opener, self._setting, self._size = space, opener, setting, batch
        self._earlier = list(setting.prior.earlier)
        self._distributions = {} if space.is_function else space.distributions()
        self.axes = _axes(self._distributions)
        self._groups = _groups(space, self.axes)
        self._sets: dict[frozenset[str], None] = {}  # of parameters that trials of a function space had
        self._rows = Rows(len(self.axes))  # of the earlier sweep's trials and those before the current batch
        self._with = Having()
        self._seen = 0  # trials whose distributions are known
        self._reader, self._standings, self._revision = Reader(), self._fresh(), 0
        parents = {parent for parameter in space.parameters for parent, _ in parameter.when}
        self._parents = [d for d, axis in enumerate(self.axes) if axis.name in parents]
        self._masks: dict[tuple[float, ...], NDArray[np.bool_]] = {}

    def open(self, view: View) -> Batch:
        """The batch that begins at ``view.start``."""
        shift, end = len(self._earlier), len(self._earlier) + view.start
        if self._space.is_function:
            self._discover(view)
        for row in range(len(self._rows), end):
            trial = self._earlier[row] if row < shift else view.trials[row - shift]
            self._rows.append(encode_point(self.axes, trial.keys))
        points, standings = self._rows.array, self._standing(view)
        applies = self._applies if self._parents else None
        several = len(self._setting.signs) > 1
        known = Known(
            view.start,
            self._size,
            self._setting.seed,
            self.axes,
            points,
            standings,
            applies,
            several,
            self._groups,
            self._with,
        )
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

    def _standing(self, view: View) -> Standings:
        """How the rows stand whose results may be seen. With one objective each result is looked at once only."""
        prior, shift, signs = self._setting.prior, len(self._earlier), self._setting.signs
        if len(signs) > 1 or (self._earlier and not prior.comparable):
            keys = self._keys(view)
            return Standings(keys, (n_good_of_front if len(signs) > 1 else n_good)(len(keys)), self._having)
        if view.revision != self._revision:
            self._forget(view.revision)
        if not self._standings:
            for row, outcome in prior.outcomes.items():
                self._standings.add(row, self._learnable(self._earlier[row], rank(outcome, signs[0])))
        for number, outcome in self._reader.fresh(view, view.horizon):
            self._standings.add(shift + number, self._learnable(view.trials[number], rank(outcome, signs[0])))
        return self._standings

    def _learnable(self, trial: SearchTrial, key: Key | None) -> Key | None:
        """The key, unless the trial has no point on the axes."""
        return key if trial.keys or not self.axes else None

    def _forget(self, revision: int) -> None:
        """Read every outcome again."""
        self._reader, self._standings, self._revision = Reader(), self._fresh(), revision

    def _fresh(self) -> Standings:
        return Standings(groups=self._having)

    def _having(self, row: int) -> list[int]:
        """Which groups of axes a row has."""
        known = ~np.isnan(self._rows.array[row])
        return [g for g, group in enumerate(self._groups) if known[list(group)].any()]

    def _keys(self, view: View) -> dict[int, Key | None]:
        """The ranking of all rows whose results may be seen."""
        prior, shift, trials = self._setting.prior, len(self._earlier), [*self._earlier, *view.trials[: view.start]]
        earlier, own = prior.outcomes, {shift + number: outcome for number, outcome in view.outcomes.items()}
        if prior.comparable or not earlier:
            keys = self._ranks({**earlier, **own})
        else:
            keys = fractions(self._ranks(earlier)) | fractions(self._ranks(own))
        return {row: self._learnable(trials[row], key) for row, key in keys.items()}

    def _ranks(self, outcomes: Mapping[int, Outcome]) -> dict[int, Key | None]:
        enough = (n_good_of_front if len(self._setting.signs) > 1 else n_good)(len(outcomes))
        return ranks(outcomes, self._setting.signs, enough)

    def _discover(self, view: View) -> None:
        """A function space's axes are those that its trials showed so far, each as it was last suggested."""
        shift, end = len(self._earlier), len(self._earlier) + view.start
        for row in range(self._seen, end):
            trial = self._earlier[row] if row < shift else view.trials[row - shift]
            self._distributions = {**self._distributions, **trial.distributions}
            if trial.distributions:
                self._sets[frozenset(trial.distributions)] = None
        self._seen = end
        axes = _axes(self._distributions)
        groups = shown_together(axes, self._sets)
        if axes != self.axes or groups != self._groups:
            self.axes, self._groups, self._rows, self._with = axes, groups, Rows(len(axes)), Having()
            self._forget(view.revision)

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


def _groups(space: Space, axes: Sequence[Axis]) -> tuple[tuple[int, ...], ...]:
    """Axes under the same conditions."""
    conditions = {parameter.name: repr(parameter.when) for parameter in space.parameters}
    return alike(axes, lambda name: conditions[name])


def _axes(distributions: Mapping[str, object]) -> tuple[Axis, ...]:
    return tuple(Axis.of(name, distribution) for name, distribution in distributions.items())
