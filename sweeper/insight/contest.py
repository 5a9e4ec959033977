"""The winners of several sweeps on test rows that no search saw: who is better, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.insight.certainty import Finalist, judge
from sweeper.insight.test_rows import Outputs, WinnerTest, evidence_on_test
from sweeper.models.metric_names import larger_is_better
from sweeper.text import counted, from_to, number

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.training.scoring import Scoring

NAMES = "ABCDEFGH"  # what sweeps are called beside each other
HALF = 1.96  # deviations in half a 95% interval


@dataclass(frozen=True)
class Score:
    """A winner's mean on the test rows, with its 95% interval for new rows (None: nothing varies, there is none)."""

    letter: str
    mean: float
    low: float | None
    high: float | None

    @property
    def bounds(self) -> str:
        """The interval in words."""
        return _in_words(self.low, self.high)


@dataclass(frozen=True)
class Duel:
    """Two winners: the mean of ``first - second`` with its interval; ``different``: it cannot be chance."""

    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    different: bool

    @property
    def bounds(self) -> str:
        """The interval in words."""
        return _in_words(self.low, self.high)


@dataclass(frozen=True)
class Contest:
    """The winners on test rows that no search saw. ``paired``: all on the same rows and the same ``seeds``."""

    metric: str
    minimize: bool
    paired: bool
    rows: int
    seeds: tuple[int, ...]
    scores: tuple[Score, ...]
    duels: tuple[Duel, ...]
    sentence: str


def paired_contest(
    metric: str,
    dataset: Dataset,
    made: Mapping[str, Sequence[Outputs]],
    seeds: Sequence[int],
    seed: int,
    scoring: Scoring | None,
) -> Contest:
    """Judge winners on common test rows and common ``seeds`` by the statistics of finals.

    ``made`` are each winner's outputs on the test rows of the ``dataset``, one for every seed, in its units;
    ``metric`` is the plain name.
    """
    letters, minimize = tuple(made), _is_minimized(metric)
    evidence = evidence_on_test(metric, dataset, list(made.values()), seed, scoring)
    finalists = [Finalist(i, tuple(map(float, values))) for i, values in enumerate(evidence.values)]
    judgement = judge(finalists, evidence, "minimize" if minimize else "maximize", seed)
    scores = [
        Score(letters[s.trial], s.mean, _finite(s.interval.low), _finite(s.interval.high))
        for s in judgement.standings
        if s.interval is not None
    ]
    duels = [
        Duel(
            letters[c.first],
            letters[c.second],
            c.difference,
            _finite(c.interval.low),
            _finite(c.interval.high),
            c.different,
        )
        for c in judgement.comparisons
    ]
    return _contest(metric, scores, duels, len(dataset.y_test), seeds)


def unpaired_contest(tested: Mapping[str, WinnerTest | None], metric: str) -> Contest | None:
    """Judge the kept models of sweeps, each on test rows of its own, by their intervals for new rows.

    By ``metric`` (plain name) where all have it, else by another that they have in common; None: there is none.
    """
    known = [set() if test is None else set(test.intervals) for test in tested.values()]
    common = sorted(set.intersection(*known))
    if not common:
        return None
    judged = metric if metric in common else common[0]
    better = 1 if _is_minimized(judged) else -1
    scores = [
        Score(letter, test.scores[judged], *map(_finite, test.intervals[judged]))
        for letter, test in tested.items()
        if test is not None
    ]
    scores.sort(key=lambda score: better * score.mean)
    pairs = [(a, b) for i, a in enumerate(scores) for b in scores[i + 1 :]]
    return _contest(judged, scores, [_independent(a, b, len(pairs)) for a, b in pairs], 0, ())


def _is_minimized(metric: str) -> bool:
    return metric == "loss" or not larger_is_better(metric)


def _contest(metric: str, scores: Sequence[Score], duels: Sequence[Duel], rows: int, seeds: Sequence[int]) -> Contest:
    name, minimize = f"test_{metric}", _is_minimized(metric)
    sentence = contest_sentence(name, minimize, scores, duels, rows, seeds)
    return Contest(name, minimize, rows > 0, rows, tuple(seeds), tuple(scores), tuple(duels), sentence)


def _independent(a: Score, b: Score, pairs: int) -> Duel:
    """Two scores on different rows: the variances add up. Corrected for the number of pairs (Bonferroni)."""
    from scipy import stats

    gap = a.mean - b.mean
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return Duel(a.letter, b.letter, gap, None, None, False)
    deviation = math.hypot((a.high - a.low) / (2 * HALF), (b.high - b.low) / (2 * HALF))
    half = float(stats.norm.isf(0.025 / pairs)) * deviation
    return Duel(a.letter, b.letter, gap, gap - half, gap + half, abs(gap) > half)


def contest_sentence(
    metric: str, minimize: bool, scores: Sequence[Score], duels: Sequence[Duel], rows: int, seeds: Sequence[int]
) -> str:
    """Who is better on new rows; ``scores`` come with the best first, and each duel with its better side first."""
    best = scores[0].letter
    against = [duel for duel in duels if best in (duel.first, duel.second)]
    beaten = [duel for duel in against if duel.different]
    where = f"{counted(rows, 'test row')} and {counted(len(seeds), 'fresh seed')} that they share" if seeds else ""
    where = f" on {where}" if where else ", each on its own test rows"
    if not beaten:
        others = " and ".join(score.letter for score in scores[1:])
        duel = min(against, key=lambda d: abs(d.difference))
        gap = f"{metric} differs by {number(abs(duel.difference), 2)} ({_bounds(duel, minimize)})"
        return f"On new rows {best} cannot be told apart from {others}: {gap}{where}."
    parts = []
    for duel in beaten:
        other = duel.second if duel.first == best else duel.first
        word = "lower" if minimize else "higher"
        gap = f"{metric} {number(abs(duel.difference), 2)} {word} ({_bounds(duel, minimize)})"
        parts.append(f"{best} beats {other}: {gap}")
    left = [score.letter for score in scores[1:] if all(score.letter not in (d.first, d.second) for d in beaten)]
    tail = f" It cannot be told apart from {' and '.join(left)}." if left else ""
    return f"On new rows {'; '.join(parts)}{where}.{tail}"


def _bounds(duel: Duel, minimize: bool) -> str:
    """The interval of how much better the first of a duel is."""
    if duel.low is None or duel.high is None:
        return _in_words(None, None)
    low, high = (-duel.high, -duel.low) if minimize else (duel.low, duel.high)
    return f"95%: {from_to(low, high, 2)}"


def _in_words(low: float | None, high: float | None) -> str:
    return "no interval: nothing varies" if low is None or high is None else from_to(low, high)


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None
