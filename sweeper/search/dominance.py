"""Sorts vectors of costs by Pareto dominance: fronts, and how alone a vector stands in its front.

Names of dimensions: N vectors, M costs; less is better in every cost, and all are finite.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def non_dominated(costs: Array) -> NDArray[np.bool_]:
    """(N,) whether no other vector of costs (N, M) is at least as good in all costs and better in one."""
    kept = np.zeros(len(costs), dtype=bool)
    left = np.lexsort(costs.T[::-1])  # sorted by the first cost, then the second, ...: nothing is dominated by a later
    while len(left):
        first = left[0]
        kept[first] = True
        better = (costs[left] < costs[first]).any(axis=1)
        same = (costs[left] == costs[first]).all(axis=1)
        kept[left[same]] = True
        left = left[better]
    return kept


def fronts(costs: Array, enough: int | None = None) -> NDArray[np.int64]:
    """(N,) the front of each vector of costs (N, M): 0 is not dominated, 1 only by front 0, and so on.

    Once ``enough`` vectors have their front, all others share the next one (None: all are sorted). The fast
    non-dominated sorting of Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II".
    """
    ranks = np.zeros(len(costs), dtype=np.int64)
    left, front = np.arange(len(costs)), 0
    wanted = len(costs) if enough is None else enough
    while len(left):
        ranks[left] = front
        if len(costs) - len(left) >= wanted:
            break
        left = left[~non_dominated(costs[left])]
        front += 1
    return ranks


def crowding(costs: Array) -> Array:
    """(N,) the crowding distance within one front (N, M), as in NSGA-II: the more, the more alone; ends: infinite.

    Each cost counts in shares of its range in the front.
    """
    n = len(costs)
    distance = np.zeros(n)
    for column in costs.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]] if n else 0.0
        if span > 0:
            gaps = np.diff(column[order]) / span
            distance[order[1:-1]] += gaps[1:] + gaps[:-1]
            distance[order[[0, -1]]] = np.inf
    return distance
