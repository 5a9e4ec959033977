"""The search of an objective of the user's own, whose space is known only from the trials that have ended.

Trial n's suggestions follow from the seed, its number and the trials 0..k-1 that its window lets it see
(``scheduling.window``), as they ended: their parameters, the ranges of these and their outcomes. What is between k
and n is not known at all, not even its parameters, which depend on when it runs. The study says which values trial n
is given by name; a parameter that no visible trial has shown is drawn at random where the trial runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import json_to_distribution
from optuna.trial import TrialState as OptunaState
from threadpoolctl import ThreadpoolController

from sweeper.scheduling.window import batch_start, told_before
from sweeper.search.axes import Axis, decode_point, encode_point, shown_together
from sweeper.search.ranking import Outcome, ranks
from sweeper.search.samplers import Known, PointBatch, open_sobol, open_tpe, trial_rng
from sweeper.search.standings import Standings
from sweeper.search.suggestions import Params, SearchTrial
from sweeper.search_spaces.optuna_bridge import quiet_study
from sweeper.spec.goals import Direction
from sweeper.states import TrialState

Sampler = optuna.samplers.BaseSampler
_POINTS: dict[str, Callable[[Known], PointBatch]] = {"tpe": open_tpe, "sobol": open_sobol}


class ObjectiveStudy:
    """One sweep's search, with the calls of ``Study``; ``describe`` says what a trial's parameters have become.

    ``make`` gives an Optuna sampler for a seed: that of sampler ``gp`` or of the user's own.
    """

    size: int | None = None

    def __init__(
        self,
        sampler: str,
        seed: int,
        direction: Direction,
        batch: int,
        window: int,
        *,
        deterministic: bool = True,
        first: Sequence[Mapping[str, Any]] = (),
        make: Callable[[int], Sampler] | None = None,
    ) -> None:
        told_before(0, window, batch)  # refuses a batch outside the window
        self._sampler, self._seed, self._sign = sampler, seed, -1.0 if direction == "maximize" else 1.0
        self._size, self._window, self._deterministic = batch, window, deterministic
        self._first, self._make = [dict(point) for point in first], make
        self._trials: list[SearchTrial] = []
        self._described: dict[int, SearchTrial] = {}
        self._libraries = ThreadpoolController()
        self._batch: tuple[int, _Suggests] | None = None

    @property
    def asked(self) -> int:
        """How many trials have been asked for: 0..asked-1."""
        return len(self._trials)

    def ask(self, numbers: Sequence[int]) -> list[Params]:
        """The values that the next trials are given, by name.

        Raises:
            RuntimeError: the numbers do not continue.
        """
        if list(numbers) != list(range(self.asked, self.asked + len(numbers))):
            raise RuntimeError(f"{list(numbers)} were asked, but the next trial is {self.asked}")
        return [self._next(number) for number in numbers]

    def describe(self, number: int, params: Params, distributions: Mapping[str, str]) -> None:
        """The parameters that a trial has suggested so far, and Optuna's distributions of them as JSON."""
        known = {name: json_to_distribution(text) for name, text in distributions.items() if name in params}
        self._described[number] = SearchTrial(params, {name: params[name] for name in known}, known)

    def tell(self, number: int, outcome: Outcome) -> None:
        """How a trial ended, with the parameters that were described last."""
        trial = self._described.get(number, SearchTrial({}, {}, {}))
        self._trials[number] = SearchTrial(trial.params, trial.keys, trial.distributions, outcome)

    def restore(self, trials: Iterable[tuple[Mapping[str, Any], Outcome | None]]) -> None:
        """Take over the trials 0, 1, ... of an interrupted sweep, which have been described before."""
        for number, (_, outcome) in enumerate(trials):
            self._trials.append(SearchTrial({}, {}, {}))
            if outcome is not None:
                self.tell(number, outcome)

    def _next(self, number: int) -> Params:
        begin = batch_start(number, self._size)
        with self._libraries.limit(limits=1, user_api="blas"):
            if self._batch is None or self._batch[0] != begin:
                self._batch = (begin, self._open(begin))
                for earlier in range(begin, number):
                    self._batch[1].pick(earlier)
            fixed = self._first[number] if number < len(self._first) else {}
            given = {**self._batch[1].pick(number), **fixed}
        self._trials.append(SearchTrial({}, {}, {}))
        return given

    def _open(self, begin: int) -> _Suggests:
        """The sampler with what the batch that begins there may see."""
        end = told_before(begin, self._window, self._size) if self._deterministic else begin
        seen = [trial for trial in self._trials[:end] if trial.outcome is not None]
        if self._make is not None:
            return _Optuna(self._make, self._seed, self._sign, seen)
        if self._sampler in _POINTS and any(trial.distributions for trial in seen):
            return _Points(_POINTS[self._sampler], begin, self._size, self._seed, self._sign, seen)
        return _Nothing()


class _Nothing:
    """Every parameter is random."""

    def pick(self, number: int) -> Params:
        """The values for a trial."""
        return {}


class _Points:
    """Samplers of points, on the axes that the visible trials have shown, each as it was last suggested."""

    def __init__(
        self,
        opener: Callable[[Known], PointBatch],
        begin: int,
        size: int,
        seed: int,
        sign: float,
        seen: Sequence[SearchTrial],
    ) -> None:
        shown: dict[str, Any] = {}
        for trial in seen:
            shown |= trial.distributions
        self._axes = tuple(Axis.of(name, distribution) for name, distribution in shown.items())
        points = np.array([encode_point(self._axes, trial.keys) for trial in seen]).reshape(len(seen), len(self._axes))
        keys = ranks({row: trial.outcome for row, trial in enumerate(seen) if trial.outcome is not None}, (sign,))
        known = {row: key if seen[row].keys else None for row, key in keys.items()}
        sets = dict.fromkeys(frozenset(trial.keys) for trial in seen if trial.keys)
        groups = shown_together(self._axes, sets)

        def having(row: int) -> list[int]:
            return [g for g, group in enumerate(groups) if not np.isnan(points[row, list(group)]).all()]

        standings = Standings(known, groups=having)
        self._batch = opener(Known(begin, size, seed, self._axes, points, standings, groups=groups))

    def pick(self, number: int) -> Params:
        """The values for a trial, which the next one of the batch takes into account."""
        point = self._batch.pick(number)
        self._batch.add(point)
        return decode_point(self._axes, point)


class _Optuna:
    """A sampler of Optuna's kind on a study of the visible trials, which is made anew for each trial."""

    def __init__(self, make: Callable[[int], Sampler], seed: int, sign: float, seen: Sequence[SearchTrial]) -> None:
        self._make, self._seed, self._sign, self._seen = make, seed, sign, seen
        self._shown: dict[str, Any] = {}
        for trial in seen:
            self._shown |= trial.distributions

    def pick(self, number: int) -> Params:
        """The values for a trial of all parameters that the visible trials have shown."""
        sampler = self._make(int(trial_rng(self._seed, number).integers(2**31 - 1)))
        study = quiet_study(sampler)
        for trial in self._seen:
            study.add_trial(self._frozen(trial))
        asked = study.ask()
        given = {}
        for name, distribution in self._shown.items():
            given[name] = asked._suggest(name, distribution)
        return given

    def _frozen(self, trial: SearchTrial) -> optuna.trial.FrozenTrial:
        outcome = trial.outcome
        score = None if outcome is None else outcome.score
        pruned = outcome is not None and outcome.state is TrialState.PRUNED
        state = OptunaState.FAIL if score is None else OptunaState.PRUNED if pruned else OptunaState.COMPLETE
        reports = {} if outcome is None or outcome.last is None else {outcome.last[0]: self._sign * outcome.last[1]}
        return optuna.create_trial(
            state=state,
            value=None if score is None else self._sign * score,
            params=trial.keys,
            distributions=trial.distributions,
            intermediate_values=reports,
        )


_Suggests = _Nothing | _Points | _Optuna
