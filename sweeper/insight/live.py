"""The pictures of the live page, as few numbers however many trials there are: history, curves, lines and slices.

What is drawn of many trials is a sample that stays as it is while trials are added: those whose numbers have the
smallest hashes. Names of dimensions: n trials, E epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sweeper.insight import captions
from sweeper.insight.advice import TOP
from sweeper.insight.course import Course, Flags, Numbers
from sweeper.insight.factors import Array, Factor, spread
from sweeper.insight.finals import FinalsOutcome, percent
from sweeper.insight.pictures import (
    Axis,
    Bin,
    Curve,
    Curves,
    Finalist,
    Frame,
    History,
    Line,
    Parallel,
    Point,
    Slice,
    Slices,
    Standings,
)
from sweeper.models.metric_names import larger_is_better
from sweeper.records import EpochReport
from sweeper.search_spaces.vocabulary import FloatRange, IntRange
from sweeper.spec.parse import SweepSpec
from sweeper.text import number

MAX_POINTS, MAX_PRUNED = 1000, 300  # of a scatter
MAX_STEPS = 200  # of the line of the best so far
ALWAYS = 20  # so many of the best are in every sample
MAX_LINES, MAX_AXES = 200, 8  # of parallel coordinates, besides the rank
BINS = 20
MAX_LEVELS = 20  # choices of a slice
MAX_EPOCHS = 100  # points of a curve
MAX_REPORTS = 20_000  # that a band is made of
MIN_CURVES = 100
MAX_FINALISTS, MAX_VALUES = 20, 50  # and values of each
BEST = 5  # trials whose curves are drawn
TAIL = 0.1  # the share of the worst trials that may lie beyond the frame
WAITS = "No trial is complete yet."

Part = tuple[str, float | None, float | None, Flags]  # a bin's label and ends, and which trials it holds
CurveReader = Callable[[Sequence[int], Sequence[int]], Mapping[int, Sequence[Point]]]


def history(course: Course) -> History:
    """Every trial's value by its number, and the best so far."""
    spec, numbers, values = course.spec, course.numbers, course.values
    complete, pruned, beyond = course.complete, course.pruned, course.beyond > 0
    words = {"points": captions.COMPLETE, "beyond": captions.BEYOND}
    words |= {"pruned": captions.PRUNED, "best": captions.BEST_SO_FAR}
    last = int(numbers.max()) if len(numbers) else 0
    ranked = course.best_first()
    if not len(ranked):
        ended = _pairs(course, _sample(numbers, np.flatnonzero(pruned), MAX_PRUNED))
        frame = _frame(spec, values[pruned])
        return History(captions.HISTORY, WAITS, WAITS, *_goal(spec), frame, last, (), (), ended, (), words)
    judged = complete & ~beyond if (complete & ~beyond).any() else complete
    steps = _steps(numbers[judged], course.scores[judged], values[judged])
    shown = _sample(numbers, ranked, MAX_POINTS)
    allowed, broken = [i for i in shown if not beyond[i]], [i for i in shown if beyond[i]]
    caption = "One point per trial; the line is the best value up to then."
    if len(shown) < len(ranked):
        caption += f" {len(shown):,} of {len(ranked):,} complete trials are drawn."
    trial, value = int(numbers[ranked[0]]), float(values[ranked[0]])
    alt = f"{spec.objective.metric} by trial number with the best so far as a step line: it ends at {number(value)}, "
    return History(
        captions.HISTORY,
        caption,
        f"{alt}reached by trial {trial}.",
        *_goal(spec),
        frame=_frame(spec, values[complete], [value for _, value in steps[len(steps) // 2 :]]),
        last=last,
        points=_pairs(course, allowed),
        beyond=_pairs(course, broken),
        pruned=_pairs(course, _sample(numbers, np.flatnonzero(pruned), MAX_PRUNED)),
        best=steps,
        words=words,
    )


def curves(course: Course, under_way: Sequence[int], best: Sequence[EpochReport], read: CurveReader) -> Curves:
    """The objective by epoch of the complete trials; while there is none, of the trials ``under_way``.

    ``best`` are the reports of the best trial, or of the first one under way; ``read`` gives the objective of trials at
    epochs (from 0), as ``Ledger.curves`` does.
    """
    spec, metric = course.spec, course.spec.objective.metric
    ranked = [int(n) for n in course.numbers[course.best_first()]]
    waits = "No trial has reported yet."
    words = {"band": captions.BAND, "median": captions.MEDIAN, "train": captions.TRAIN}
    numbers = ranked or list(under_way)
    epochs = _thinned([report.epoch for report in best if metric in report.metrics], MAX_EPOCHS)
    if not numbers or not epochs:
        return Curves(captions.CURVES, waits, waits, *_goal(spec), None, 0, (), (), (), (), (), None, words)
    limit = max(MIN_CURVES, MAX_REPORTS // len(epochs))
    everyone = np.array(numbers, dtype=np.int64)
    sampled = [int(everyone[i]) for i in _sample(everyone, np.arange(len(everyone)), limit, BEST)]
    found = read(sampled, epochs)
    low, median, high = _quantiles(found, epochs)
    lines = tuple(_curve(n, found[n]) for n in numbers[:BEST] if n in found)
    trained = [(r.epoch, r.metrics["train_loss"]) for r in best if r.epoch in epochs and "train_loss" in r.metrics]
    train = _curve(numbers[0], trained) if metric == "val_loss" and trained and ranked else None
    drawn = [*low, *high, *(lines[0].values if lines else ())]
    who = "complete trials" if ranked else "trials under way"
    looked = f" ({len(found):,} of {len(numbers):,} were looked at)" if len(found) < len(numbers) else ""
    caption = f"{metric} after each epoch. The band holds the middle 80% of the {who}{looked}."
    if lines:
        words["best"] = captions.best_trial(lines[0].trial) if ranked else f"trial {lines[0].trial}"
    alt = f"Learning curves of {metric}: the median trial ends at {_said(median)}"
    alt += f", the best, trial {lines[0].trial}, at {_said(lines[0].values)}." if lines and ranked else "."
    shown = tuple(epoch + 1 for epoch in epochs)
    frame = _frame(spec, np.array([v for v in drawn if v is not None], dtype=np.float64))
    goal = _goal(spec)
    return Curves(
        captions.CURVES, caption, alt, *goal, frame, len(found), shown, low, median, high, lines, train, words
    )


def parallel(course: Course) -> Parallel:
    """A sample of the complete and pruned trials as lines through their parameters to their rank."""
    spec, finite = course.spec, np.isfinite(course.values)
    words = {"winner": captions.WINNER, "top": captions.BEST_TENTH, "others": captions.OTHERS}
    factors = [f for f in course.factors() if not np.isnan(f.codes[finite]).any()][:MAX_AXES]
    places = _ranked(course)
    if not factors or len(places) < 2:
        return Parallel(captions.PARALLEL, WAITS, WAITS, *_goal(spec), (), (), 1 - TOP, words)
    numbers, values = course.numbers, course.values
    rank = np.empty(len(numbers))
    rank[places] = np.linspace(1.0, 0.0, len(places))
    shown = sorted(_sample(numbers, places, MAX_LINES), key=lambda i: float(rank[i]))
    jitter = 0.06 * (_hash(numbers) - 0.5)  # so that lines do not cover each other
    heights = np.column_stack([f.heights + (jitter if f.is_choice else 0.0) for f in factors])
    lines = (
        Line(int(numbers[i]), float(values[i]), tuple(heights[i].round(4).tolist()), round(float(rank[i]), 5))
        for i in shown
    )
    caption = "Each line is a trial, from its parameters to its rank: the best tenth blue, the winner red and thick."
    if len(shown) < len(places):
        caption += f" {len(shown)} of {len(places):,} trials are drawn."
    names = ", ".join(f.name for f in factors)
    alt = f"Parallel coordinates of {len(shown)} trials over {names} and the rank by {spec.objective.metric}."
    axes = (*(Axis(f.name, tuple(f.marks)) for f in factors), _rank_axis(spec))
    return Parallel(captions.PARALLEL, caption, alt, *_goal(spec), axes, tuple(lines), 1 - TOP, words)


def slices(course: Course) -> Slices:
    """Each parameter against the value: of every part of its range the median, the best and how many trials."""
    spec, finite = course.spec, np.isfinite(course.values)
    words = {"median": "median", "best": "best", "count": "number of trials"}
    factors = course.factors()
    if not factors or finite.sum() < 2:
        return Slices(captions.SLICES, WAITS, WAITS, *_goal(spec), None, (), words)
    allowed = course.beyond <= 0
    if not (allowed & finite).any():
        allowed = finite
    panels = tuple(_slice(spec, factor, course.values, finite, allowed) for factor in factors)
    caption = "Orange is the median and blue the best of the trials in each twentieth of the range, or of each choice; "
    caption += "bars count them. Nothing is adjusted here: trials in one panel differ in all other parameters too."
    if course.pruned.any():
        caption += " Pruned trials stand with their last value."
    shown = [v for panel in panels for b in panel.bins for v in (b.median, b.best) if v is not None]
    names = ", ".join(f.name for f in factors)
    alt = f"{spec.objective.metric} against each parameter in panels of their own: {names}."
    return Slices(captions.SLICES, caption, alt, *_goal(spec), _frame(spec, np.array(shown)), panels, words)


def standings(finals: FinalsOutcome) -> Standings:
    """The finalists on the test rows with their intervals, the best first."""
    places = [place for place in finals.standings if math.isfinite(place.mean)][:MAX_FINALISTS]
    rows = tuple(
        Finalist(
            trial=place.trial,
            mean=place.mean,
            low=_finite(place.low),
            high=_finite(place.high),
            values=tuple(value for value in place.values[:MAX_VALUES] if math.isfinite(value)),
            leads=place.trial in finals.leaders,
            probability=percent(place.probability_best),
        )
        for place in places
    )
    caption = captions.standings(len(finals.seeds), finals.rows, finals.interval)
    alt = "Finals: " + "; ".join(captions.finalist(p.trial, p.mean, p.low, p.high) for p in places) + "."
    return Standings(captions.STANDINGS, caption, alt, finals.metric, finals.direction, finals.verdict, rows)


def _goal(spec: SweepSpec) -> tuple[str, str]:
    return spec.objective.metric, spec.objective.direction


def _hash(numbers: Numbers) -> Array:
    """(n,) from 0 to 1, as if drawn at random for each number (the finalizer of SplitMix64, Steele et al. 2014)."""
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    shares: Array = (mixed ^ (mixed >> np.uint64(31))).astype(np.float64) / 2.0**64
    return shares


def _sample(numbers: Numbers, places: Numbers, limit: int, always: int = ALWAYS) -> list[int]:
    """At most ``limit`` of the positions ``places`` (the best first): the first ones, and a sample that stays."""
    if len(places) <= limit:
        return [int(i) for i in places]
    first, rest = places[:always], places[always:]
    kept = rest[np.argsort(_hash(numbers[rest]), kind="stable")[: limit - len(first)]]
    return [int(i) for i in (*first, *kept)]


def _thinned(items: Sequence[int], limit: int) -> list[int]:
    """At most ``limit`` of them, evenly, with the first and the last."""
    if len(items) <= limit:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def _pairs(course: Course, places: Sequence[int]) -> tuple[Point, ...]:
    numbers, values = course.numbers, course.values
    return tuple((int(numbers[i]), float(values[i])) for i in sorted(places, key=lambda i: int(numbers[i])))


def _steps(numbers: Numbers, scores: Array, values: Array) -> tuple[Point, ...]:
    """Where the best so far improves, in the order of the numbers."""
    order = np.argsort(numbers)
    running = np.minimum.accumulate(scores[order])
    better = np.flatnonzero(np.diff(running, prepend=np.inf) < 0).tolist()
    return tuple((int(numbers[order[i]]), float(values[order[i]])) for i in _thinned(better, MAX_STEPS))


def _ranked(course: Course) -> Numbers:
    """Positions of the complete and pruned trials with a finite value, the best first."""
    finite = np.flatnonzero(np.isfinite(course.values))
    beyond, scores, numbers = course.beyond[finite], course.scores[finite], course.numbers[finite]
    order: Numbers = finite[np.lexsort((numbers, scores, ~course.complete[finite], beyond))]
    return order


def _frame(spec: SweepSpec, values: Array, always: Sequence[float] = ()) -> Frame | None:
    """The range of these values; without the worst tenth where that would squeeze the rest into half of it."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    log = spread(finite) and not larger_is_better(spec.objective.metric)
    sign = spec.objective.sign
    costs = np.sort(sign * finite)
    best, worst = float(sign * costs[0]), float(sign * costs[-1])
    near = float(sign * costs[math.ceil((len(costs) - 1) * (1 - TAIL))])
    place: Callable[[float], float] = math.log if log else float
    if abs(place(worst) - place(best)) <= 2 * abs(place(near) - place(best)):
        near = worst
    low, high = min(best, near, *always), max(best, near, *always)
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - (abs(low) or 1.0) / 10, high + (abs(high) or 1.0) / 10)
    return Frame(low, high, log)


def _quantiles(found: Mapping[int, Sequence[Point]], epochs: Sequence[int]) -> tuple[tuple[float | None, ...], ...]:
    """(E,) the first tenth, the median and the last tenth over the trials; None where no value is finite."""
    position = {epoch: i for i, epoch in enumerate(epochs)}
    stacked = np.full((max(1, len(found)), len(epochs)), np.nan)
    for row, pairs in enumerate(found.values()):
        for epoch, value in pairs:
            stacked[row, position[epoch]] = value if math.isfinite(value) else math.nan
    known = np.isfinite(stacked).any(axis=0)
    levels = np.full((3, len(epochs)), np.nan)
    if known.any():
        levels[:, known] = np.nanquantile(stacked[:, known], [0.1, 0.5, 0.9], axis=0)
    return tuple(tuple(_finite(value) for value in level) for level in levels.tolist())


def _curve(trial: int, pairs: Sequence[Point]) -> Curve:
    kept = _thinned(range(len(pairs)), MAX_EPOCHS)
    return Curve(trial, tuple(pairs[i][0] + 1 for i in kept), tuple(_finite(pairs[i][1]) for i in kept))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _said(values: Sequence[float | None]) -> str:
    return "no number" if not values or values[-1] is None else number(values[-1], 3)


def _rank_axis(spec: SweepSpec) -> Axis:
    return Axis(f"rank by {spec.objective.metric}", ((1.0, "best"), (0.0, "worst")))


def _slice(spec: SweepSpec, factor: Factor, values: Array, finite: Flags, allowed: Flags) -> Slice:
    inside = finite & ~np.isnan(factor.codes)
    codes, values, allowed = factor.codes[inside], values[inside], allowed[inside]
    if factor.levels is not None:
        order = np.argsort(-np.bincount(codes.astype(int), minlength=len(factor.levels)), kind="stable")[:MAX_LEVELS]
        parts: list[Part] = [(factor.levels[i], None, None, codes == i) for i in sorted(order.tolist())]
        return Slice(factor.name, False, None, None, _bins(spec, parts, values, allowed))
    low, high, whole = _range(spec, factor, codes)
    if whole and len(found := np.unique(codes)) <= BINS:
        parts = [(number(factor.number(c)), factor.number(c), factor.number(c), codes == c) for c in found.tolist()]
    else:
        edges = np.linspace(low, high, BINS + 1)
        place = np.clip(np.digitize(codes, edges) - 1, 0, BINS - 1)
        ends = [factor.number(edge) for edge in edges.tolist()]
        names = [f"{number(ends[i], 3)} to {number(ends[i + 1], 3)}" for i in range(BINS)]
        parts = [(names[i], ends[i], ends[i + 1], place == i) for i in range(BINS)]
    return Slice(factor.name, factor.log, factor.number(low), factor.number(high), _bins(spec, parts, values, allowed))


def _range(spec: SweepSpec, factor: Factor, codes: Array) -> tuple[float, float, bool]:
    """The range of a number's codes, as the space has it where it does, and whether its values are whole."""
    domain = next((p.domain for p in spec.space.parameters if p.name == factor.name), None)
    if isinstance(domain, FloatRange | IntRange):
        bounds = [math.log10(b) if factor.log else float(b) for b in (domain.low, domain.high)]
        low, high = min(bounds[0], float(codes.min())), max(bounds[1], float(codes.max()))
        return low, high, isinstance(domain, IntRange)
    whole = bool((codes == codes.round()).all()) and not factor.log
    return float(codes.min()), float(codes.max()), whole


def _bins(
    spec: SweepSpec,
    parts: Sequence[Part],
    values: Array,
    allowed: Flags,
) -> tuple[Bin, ...]:
    pick = np.max if spec.objective.direction == "maximize" else np.min
    bins = []
    for name, low, high, inside in parts:
        if not inside.any():
            continue
        good = values[inside & allowed]
        best = float(pick(good)) if len(good) else None
        bins.append(Bin(name, low, high, int(inside.sum()), float(np.median(values[inside])), best))
    return tuple(bins)
