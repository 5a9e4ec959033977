"""The search: asks for trials in batches, learns from told results, and is rebuilt from the ledger after a restart.

A suggestion depends on the seed, its number, the space and the results that its window lets it see (``window.py``)
and on nothing else: not on timing, on how a batch was divided, nor on whether the process was restarted in between.
Random, Sobol, grid and TPE suggestions are ours (``sweeper.search.points``); Gaussian processes and CMA-ES are Optuna's
(``sweeper.search.optuna_samplers``). Parameters are plain JSON data (see ``sweeper.search_spaces.Space``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from threadpoolctl import ThreadpoolController

from sweeper.scheduling.window import batch_start, told_before
from sweeper.search.optuna_samplers import CmaEs, GaussianProcess, replayed
from sweeper.search.points import OPENERS, Grid, Points
from sweeper.search.ranking import Outcome
from sweeper.search.suggestions import Batch, Params, Prior, SearchTrial, Setting, View, space_errors
from sweeper.search_spaces import Space, SpaceError
from sweeper.spec.goals import Direction

__all__ = ["Outcome", "SearchLike", "Study"]


class SearchLike(Protocol):
    """What the study reads of ``SearchSpec``."""

    @property
    def sampler(self) -> str: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def deterministic(self) -> bool: ...  # noqa: D102


class Study:
    """One sweep's search.

    ``ask`` takes numbers that continue those asked or restored; ``tell`` takes results in any order. ``size`` is the
    number of trials after which the space is exhausted (a grid's points; None: never).

    ``direction`` has one entry per objective where there are several. ``first`` holds points, whole or partial, that
    the first trials take. ``earlier`` holds the parameters, in this space, and outcomes of an earlier sweep's trials;
    where they are not ``comparable``, their ranks count and not their values. ``make`` gives an Optuna sampler for a
    seed: the user's own.

    Raises:
        SpecError: the sampler cannot search this space.
    """

    def __init__(
        self,
        space: Space,
        search: SearchLike,
        direction: Direction | Sequence[Direction],
        batch: int,
        window: int,
        *,
        first: Sequence[Mapping[str, Any]] = (),
        earlier: Iterable[tuple[Mapping[str, Any], Outcome]] = (),
        comparable: bool = True,
        make: Callable[[int], Any] | None = None,
    ) -> None:
        told_before(0, window, batch)  # refuses a batch outside the window
        self._space, self._batch_size, self._window = space, batch, window
        self._deterministic = search.deterministic
        self._trials: list[SearchTrial] = []
        self._libraries = ThreadpoolController()
        self._batch: tuple[int, Batch] | None = None  # the open batch and where it begins
        self._told = self._revision = 0  # trials 0.._told-1 have outcomes; see ``View``
        self.size: int | None = None
        directions = [direction] if isinstance(direction, str) else direction
        with space_errors():
            given = [space.encode(point) for point in space.points(first)]
            known = [trial for trial in (self._known(dict(params), outcome) for params, outcome in earlier) if trial]
        signs = tuple(-1.0 if one == "maximize" else 1.0 for one in directions)
        setting = Setting(search.seed, signs, Prior(given, known, comparable))
        self._open: Callable[[View], Batch]
        if search.sampler == "grid":
            grid = Grid(space, setting)
            self.size, self._open = len(grid.points), grid.open
        elif search.sampler in ("gp", "own"):
            self._open = GaussianProcess(space, setting, make).open
        elif search.sampler == "cmaes":
            self._open = CmaEs(space, setting, self._horizon).open
        else:
            self._open = Points(space, OPENERS[search.sampler], setting, batch).open

    @property
    def asked(self) -> int:
        """How many trials have parameters: 0..asked-1."""
        return len(self._trials)

    def ready(self, number: int) -> bool:
        """Whether every result that the suggestion of trial ``number`` has to see was told."""
        if not self._deterministic:
            return True
        while self._told < len(self._trials) and self._trials[self._told].outcome is not None:
            self._told += 1
        return self._told >= self._horizon(number)

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
            asked.append(trial.params)
        return asked

    def tell(self, number: int, outcome: Outcome) -> None:
        """How trial ``number`` ended. A trial that a user reopened is told again."""
        self._revision += self._trials[number].outcome is not None
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

    def _suggest(self, number: int) -> SearchTrial:
        """The trial's suggestion, from its batch as it was when its first trial was asked."""
        begin = batch_start(number, self._batch_size)
        # the matrices are small: threads of BLAS cost more than they bring, and take the workers' cores
        with space_errors(), self._libraries.limit(limits=1, user_api="blas"):
            if self._batch is None or self._batch[0] != begin:
                batch = self._open(View(begin, self._trials, self._horizon(number), self._revision))
                for member in range(begin, number):
                    batch.add(member, self._trials[member])
                self._batch = (begin, batch)
            return self._batch[1].ask(number)

    def _take(self, number: int, trial: SearchTrial) -> None:
        self._trials.append(trial)
        if self._batch is not None and self._batch[0] == batch_start(number, self._batch_size):
            self._batch[1].add(number, trial)

    def _recorded(self, number: int, params: Params) -> SearchTrial:
        """A trial of the ledger as the sampler held it."""
        with space_errors():
            keys = self._space.encode(params)
            if not self._space.is_function:
                if self._space.active(keys) != params:
                    raise SpaceError(f"the parameters of trial {number} in the ledger do not belong to this space")
                return SearchTrial(params, keys, {})
            if (trial := replayed(self._space, params, keys, number)) is not None:
                return trial
        again = self._suggest(number)
        return again if again.params == params else SearchTrial(params, {}, {})  # else it cannot be learnt from

    def _known(self, params: Params, outcome: Outcome) -> SearchTrial | None:
        """An earlier sweep's trial as a sampler holds it; None: a function space has no such point."""
        keys = self._space.encode(params)
        if not self._space.is_function:
            return SearchTrial(self._space.active(keys), keys, {}, outcome)
        trial = replayed(self._space, params, keys, 0)
        return None if trial is None else SearchTrial(trial.params, trial.keys, trial.distributions, outcome)
