"""How much of the trials' differences each parameter explains: permutation importance of a random forest.

A forest takes parameters that interact and parameters that only some trials have; shuffling a column of held-out trials
(Breiman 2001) measures what the forest loses without it. Each repeat draws another 70% of the trials and another
forest, so the interval holds for both. Repeats share trials: their variance is corrected by 1/R + n_test/n_train
(Nadeau and Bengio 2003, Inference for the Generalization Error).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.ensemble import RandomForestRegressor

from sweeper.insight.certainty import LEVEL, Interval
from sweeper.insight.factors import Array, Table

REPEATS = 10
TREES = 30  # of each forest; ten of them are averaged
HELD_OUT = 0.3
SHUFFLES = 3  # of each parameter
MIN_TRIALS = 30
MIN_EXPLAINED = 0.05
MAX_ROWS = 1000  # a forest on more trials orders the parameters no better
METHOD = "t interval over forests, corrected for shared trials"


@dataclass(frozen=True)
class ParameterImportance:
    """``share`` (0 to 1) of all importance that falls to a parameter; the shares of a sweep sum to 1."""

    parameter: str
    share: float
    interval: Interval


@dataclass(frozen=True)
class Importance:
    """Parameters from most to least important. ``explained`` is the forest's mean R^2 on held-out trials.

    Without any ``parameters``, ``sentence`` says why.
    """

    parameters: tuple[ParameterImportance, ...]
    explained: float
    sentence: str

    def of(self, name: str) -> ParameterImportance | None:
        """One parameter's entry."""
        return next((entry for entry in self.parameters if entry.parameter == name), None)


def importance(table: Table, seed: int = 0) -> Importance:
    """The importance of every factor of a table."""
    count = len(table.scores)
    if count < MIN_TRIALS or not table.factors or np.ptp(table.scores) == 0.0:
        return Importance((), math.nan, f"Importance needs {MIN_TRIALS} different trials; there are {count}.")
    rng = np.random.default_rng(seed)
    columns = np.column_stack([np.nan_to_num(f.codes, nan=_absent(f.codes)) for f in table.factors])
    drops, explained = zip(*(_repeat(columns, table.scores, rng) for _ in range(REPEATS)), strict=True)
    fit = float(np.mean(explained))
    if fit < MIN_EXPLAINED:
        text = f"The parameters explain nothing that can be shown (R² {fit:.2f} on held-out trials)."
        return Importance((), fit, text)
    positive = np.maximum(np.array(drops), 0.0)  # (R, F)
    shares = positive / np.maximum(positive.sum(axis=1, keepdims=True), 1e-12)
    correction = 1 / REPEATS + HELD_OUT / (1 - HELD_OUT)
    half = stats.t.ppf((1 + LEVEL) / 2, REPEATS - 1) * np.sqrt(shares.var(axis=0, ddof=1) * correction)
    means = shares.mean(axis=0)
    entries = [
        ParameterImportance(f.name, float(m), Interval(max(0.0, float(m - h)), min(1.0, float(m + h)), METHOD))
        for f, m, h in zip(table.factors, means, half, strict=True)
    ]
    entries.sort(key=lambda entry: -entry.share)
    first = entries[0]
    text = f"{first.parameter} matters most: {first.share:.0%} of what the parameters explain"
    text += f" ({first.interval.low:.0%} to {first.interval.high:.0%}); R² {fit:.2f} on held-out trials."
    return Importance(tuple(entries), fit, text)


def _absent(codes: Array) -> float:
    """A code below all others, for trials without the parameter."""
    low, high = float(np.nanmin(codes)), float(np.nanmax(codes))
    return low - (high - low)


def _repeat(columns: Array, scores: Array, rng: np.random.Generator) -> tuple[Array, float]:
    """(F,) drops of R^2 on held-out trials, and that R^2.

    All shuffled copies of the held-out trials are predicted in one call: scikit-learn's ``permutation_importance``
    calls the forest for each, which takes five times as long.
    """
    order = rng.permutation(len(scores))[:MAX_ROWS]
    held = max(2, round(HELD_OUT * len(order)))
    test, train = order[:held], order[held:]
    state = int(rng.integers(2**31 - 1))
    forest = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=state).fit(columns[train], scores[train])
    factors = columns.shape[1]
    copies = np.tile(columns[test], (1 + factors * SHUFFLES, 1, 1))  # the first is left as it is
    for k, copy in enumerate(copies[1:]):
        rng.shuffle(copy[:, k // SHUFFLES])
    predicted = forest.predict(copies.reshape(-1, factors)).reshape(len(copies), held)
    errors = np.square(predicted - scores[test]).sum(axis=1)
    explained = 1 - errors / max(float(np.square(scores[test] - scores[test].mean()).sum()), 1e-300)
    return explained[0] - explained[1:].reshape(factors, SHUFFLES).mean(axis=1), float(explained[0])
