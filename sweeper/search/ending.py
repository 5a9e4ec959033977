"""Whether a search has come to its end: what its last trials have gained, and at most how much is left to gain.

Trials are read in the order of their numbers as far as a horizon, so that the answer depends on nothing else. A trial
costs the same time at every length of a search.
"""

from __future__ import annotations

import math
from array import array
from bisect import insort
from collections.abc import Sequence

from sweeper.text import number

LEAST_TRIALS = 20  # complete ones, before anything is said of what is left
SURE = 0.9  # how likely the bound holds at one trial
STEADY = 50  # trials in a row at which it is low enough: a bound that is asked again and again is too low at some
SHARE, FEWEST, MOST = 10, 4, 25  # one of ten trials is among the best that tell of the optimum, within these bounds


class Ending:
    """What the trials of one search say of its end. Values are costs: less is better.

    ``patience`` and ``regret`` are those of ``search.stop``.
    """

    def __init__(self, patience: int | None, regret: float | None) -> None:
        self._patience, self._regret = patience, regret
        self._told: dict[int, tuple[float, float, int]] = {}
        self._start()

    def _start(self) -> None:
        self._reached, self._late = 0, list[int]()  # trials before it were read, but for these
        self._bests = array("d")  # after each trial that was read, in turn
        self._leaders: list[float] = []
        self._complete, self._noise, self._parameters = 0, 0.0, 1
        self._near = array("d")  # what was left at each of the last trials, as long as it was little

    def tell(self, trial: int, cost: float | None, noise: float, parameters: int) -> None:
        """How a trial has ended: its cost (None: it is no answer) and how far chance may move that.

        ``parameters`` is how many of its parameters the search could choose.
        """
        again = trial in self._told
        self._told[trial] = (math.inf if cost is None else cost, noise, parameters)
        if again:  # a user has reopened it
            self._start()

    def reason(self, horizon: int) -> str | None:
        """Why no trial should start after those before ``horizon``; None: the search goes on."""
        waiting = [*self._late, *range(self._reached, horizon)]
        self._reached = max(self._reached, horizon)
        self._late = [trial for trial in waiting if trial not in self._told]
        for trial in waiting:
            if trial in self._told:
                self._take(*self._told[trial])
        return self._stagnates() or self._is_near()

    def _take(self, cost: float, noise: float, parameters: int) -> None:
        best = self._bests[-1] if self._bests else math.inf
        if cost < best:
            self._noise = noise
        self._bests.append(min(best, cost))
        if cost < math.inf:
            self._complete += 1
            self._parameters = max(self._parameters, parameters)
            insort(self._leaders, cost)
            del self._leaders[MOST + 1 :]
        self._look()

    def _stagnates(self) -> str | None:
        if self._patience is None or len(self._bests) <= self._patience:
            return None
        gain = self._bests[-1 - self._patience] - self._bests[-1]
        if not gain <= self._noise:  # also where neither was an answer
            return None
        return gained(self._patience, gain, self._noise)

    def _look(self) -> None:
        """See whether little is left to gain after the last trial that was read."""
        if self._regret is None or self._complete < LEAST_TRIALS:
            return
        left = left_to_gain(self._leaders, self._complete, self._parameters)
        if left < self._regret:
            self._near.append(left)
            del self._near[:-STEADY]
        else:
            del self._near[:]

    def _is_near(self) -> str | None:
        if len(self._near) < STEADY:
            return None
        most = number(max(self._near), 2)
        return f"for {STEADY} trials at most {most} has been left to gain, less than search.stop.regret"


def gained(trials: int, gain: float, noise: float) -> str:
    """What so many trials have gained, beside the noise of the best value."""
    last = f"the last {trials:,} trials" if trials > 1 else "the last trial"
    if gain == 0:
        return f"{last} gained nothing"
    return f"{last} gained {number(gain, 2)}, below the noise of {number(noise, 2)}"


def left_to_gain(leaders: Sequence[float], trials: int, parameters: int) -> float:
    """An upper bound on best cost - optimum, which holds with probability ``SURE``.

    ``leaders`` are the best costs of so many ``trials`` in ascending order, D the number of ``parameters``. Near an
    optimum that is a bowl, the share of points with a cost below optimum + c grows as c^(D/2). Of the k costs before
    the one of rank k, ((best - optimum) / (rank k - optimum))^(D/2) is the least of k uniform numbers, so that

        best - optimum <= (rank k - best) r / (1 - r),   r = (1 - (1 - SURE)^(1/k))^(2/D)

    (de Haan 1981, Estimation of the minimum of a function using order statistics). A sampler that learns draws points
    from another density for every trial; near the optimum that changes how many there are, and not the power.
    """
    k = min(max(FEWEST, min(MOST, trials // SHARE)), len(leaders) - 1)
    share = (1 - (1 - SURE) ** (1 / k)) ** (2 / max(1, parameters))
    return (leaders[k] - leaders[0]) * share / (1 - share)
