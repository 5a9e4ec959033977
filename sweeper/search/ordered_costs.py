"""The costs of trials that have ended, kept in order: a pruner's decision does not look at each of them again."""

from __future__ import annotations

import numpy as np

from sweeper.search.pruning import Costs, Group, Objective, Peers


class OrderedCosts:
    """The costs of trials that have ended, in order, by epoch and group of trials; ``curves`` has those of each."""

    def __init__(self, curves: Peers) -> None:
        self._curves = curves
        self._known: dict[tuple[int, int, int], tuple[int, Costs]] = {}

    def before(self, end: int, goal: Objective, epochs: int, least: int, group: int, within: Group | None) -> Costs:
        """(N,) those of the trials 0..end-1, all of which have ended; only what came or went since is looked at."""
        key = (epochs, least, group)
        start, known = self._known.get(key, (0, np.empty(0)))
        numbers = range(min(start, end), max(start, end))
        changed = [self._curves[n] for n in numbers if n in self._curves and (within is None or within(n))]
        fresh = goal.costs(changed, epochs, least)
        places = np.searchsorted(known, fresh)
        if end < start:  # of equal costs each has a place of its own
            known = np.delete(known, places + np.arange(len(fresh)) - np.searchsorted(fresh, fresh))
        else:
            known = np.insert(known, places, fresh)
        self._known[key] = (end, known)
        return known

    def forget(self, number: int) -> None:
        """The trial waits again: what it had does not count."""
        self._known = {key: (end, known) for key, (end, known) in self._known.items() if end <= number}
