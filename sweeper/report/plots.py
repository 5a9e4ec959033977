"""Pictures of how a sweep went: its history, learning curves and gradients, and all trials as lines.

Names of dimensions: n trials, E epochs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from sweeper.insight import captions
from sweeper.insight.advice import TOP
from sweeper.insight.answers import Reports
from sweeper.insight.factors import Array, Factor, Table, spread
from sweeper.insight.pareto import feasible
from sweeper.records import TrialRecord
from sweeper.report.svg import BLUE, COLOURS, DASHES, GREY, INK, ORANGE, PAPER, RED, Plot, draw, plain_log
from sweeper.spec.parse import SweepSpec
from sweeper.states import TrialState
from sweeper.text import number

MAX_POINTS = 1000  # of a scatter; more are sampled, the best always shown
MAX_LINES = 250  # of parallel coordinates
ALWAYS = 50  # this many of the best are never left out
MAX_AXES = 9
MAX_CURVES = 2000  # trials from which bands of curves are taken


def value_axis(axes: Any, metric: str, values: Sequence[float] | Array) -> None:
    """The y axis of the objective: logarithmic, or linear."""
    axes.set_ylabel(metric)
    if spread(values):
        axes.set_yscale("log")
        plain_log(axes.yaxis)


def chosen(count: int, best: Sequence[int], limit: int, seed: int = 0) -> list[int]:
    """Indices of at most ``limit`` of ``count`` things, in order: the ``best`` ones and a sample of the rest."""
    if count <= limit:
        return list(range(count))
    first = list(best[:ALWAYS])
    rest = np.setdiff1d(np.arange(count), first)
    picked = np.random.default_rng(seed).choice(rest, limit - len(first), replace=False)
    return sorted([*first, *picked.tolist()])


def history(spec: SweepSpec, trials: Sequence[TrialRecord], best_first: Sequence[TrialRecord]) -> Plot:
    """Every trial's value in the order of the trials, and the best so far."""
    metric, maximize = spec.objective.metric, spec.objective.direction == "maximize"
    in_order = sorted(best_first, key=lambda t: t.number)
    numbers = np.array([t.number for t in in_order])
    values = np.array([t.value for t in in_order], dtype=np.float64)
    allowed = np.array([feasible(t, spec) for t in in_order])
    judged = np.where(allowed | ~allowed.any(), values, -math.inf if maximize else math.inf)
    running = np.maximum.accumulate(judged) if maximize else np.minimum.accumulate(judged)
    begins = int(np.argmax(np.isfinite(running)))
    position = {t.number: i for i, t in enumerate(in_order)}
    shown = chosen(len(in_order), [position[t.number] for t in best_first[:ALWAYS]], MAX_POINTS)
    pruned = [(t.number, t.metrics.get(metric, math.nan)) for t in trials if t.state is TrialState.PRUNED]
    pruned = [pruned[i] for i in chosen(len(pruned), [], MAX_POINTS // 2)]
    failed = [t.number for t in trials if t.state is TrialState.FAILED]
    failed = [failed[i] for i in chosen(len(failed), [], MAX_POINTS // 2)]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        within, beyond = [i for i in shown if allowed[i]], [i for i in shown if not allowed[i]]
        axes.scatter(
            numbers[within], values[within], s=13, color=BLUE, alpha=0.6, linewidths=0, label=captions.COMPLETE
        )
        if beyond:
            style: Mapping[str, Any] = {"s": 15, "marker": "+", "color": GREY, "linewidths": 1}
            axes.scatter(numbers[beyond], values[beyond], label=captions.BEYOND, **style)
        if pruned:
            x, y = zip(*pruned, strict=True)
            axes.scatter(x, y, s=13, facecolors="none", edgecolors=GREY, label=captions.PRUNED)
        axes.step(
            numbers[begins:], running[begins:], where="post", color=ORANGE, linewidth=2, label=captions.BEST_SO_FAR
        )
        value_axis(axes, metric, values)
        if failed:
            top = np.full(len(failed), 1.02)
            axes.scatter(
                failed,
                top,
                s=16,
                marker="x",
                color=RED,
                label="failed",
                transform=axes.get_xaxis_transform(),
                clip_on=False,
            )
        axes.set_xlabel("trial")
        figure.legend(loc="outside upper right", ncols=5)

    winner = best_first[0]
    sampled = f" {len(shown):,} of {len(values):,} complete trials are drawn." if len(shown) < len(values) else ""
    caption = f"One point per trial; the line is the best value up to then.{sampled}"
    alt = f"Scatter of {metric} by trial number with the best so far as a step line: it ends at {winner.value:.4g}, "
    return draw("history", captions.HISTORY, caption, f"{alt}reached by trial {winner.number}.", 3.2, paint)


def learning_curves(spec: SweepSpec, best_first: Sequence[TrialRecord], reports: Reports) -> Plot | None:
    """The objective by epoch: the best trial, the median trial and the band of the middle 80%."""
    metric = spec.objective.metric
    numbers = [t.number for t in best_first if t.number in reports]
    if not numbers:
        return None
    picked = [numbers[i] for i in chosen(len(numbers), [0], MAX_CURVES)]
    curves = _stack(reports, picked, metric)
    if not np.isfinite(curves).any():
        return None
    low, median, high = np.nanquantile(curves, [0.1, 0.5, 0.9], axis=0)
    epochs = np.arange(1, curves.shape[1] + 1)
    best = reports[numbers[0]]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.fill_between(epochs, low, high, color=BLUE, alpha=0.18, linewidth=0, label=captions.BAND)
        axes.plot(epochs, median, color=BLUE, label=captions.MEDIAN)
        own = [r.metrics.get(metric, math.nan) for r in best]
        axes.plot([r.epoch + 1 for r in best], own, color=ORANGE, linewidth=2.2, label=captions.best_trial(numbers[0]))
        if metric == "val_loss":
            train = [r.metrics.get("train_loss", math.nan) for r in best]
            axes.plot([r.epoch + 1 for r in best], train, color=ORANGE, linestyle=":", label=captions.TRAIN)
        judged = np.concatenate([low, high, own])
        value_axis(axes, metric, judged)
        _frame(axes, judged)
        _epochs(axes)
        figure.legend(loc="outside upper right", ncols=4)

    sampled = f" ({len(picked):,} of {len(best_first):,} were looked at)" if len(picked) < len(best_first) else ""
    caption = f"{metric} after each epoch. The band holds the middle 80% of the complete trials{sampled}."
    alt = f"Learning curves of {metric}: the median trial ends at {number(median[-1], 3)}, "
    alt += f"the best, trial {numbers[0]}, at {number(best[-1].metrics.get(metric, math.nan), 3)}."
    return draw("curves", captions.CURVES, caption, alt, 3.2, paint)


def gradient_norms(table: Table, reports: Reports) -> Plot | None:
    """The gradient norm by epoch, split by activation and by initialization."""
    factors = [f for name in ("activation", "initialization") if (f := table.factor(name)) is not None]
    groups = {f.name: _grouped(table, f, reports) for f in factors}
    groups = {name: curves for name, curves in groups.items() if curves}
    if not groups:
        return None

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for axes, (name, curves) in zip(panels, groups.items(), strict=True):
            for i, (level, values) in enumerate(curves.items()):
                low, median, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
                epochs = np.arange(1, len(median) + 1)
                colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
                axes.plot(epochs, median, color=colour, linestyle=dash, label=level)
                if len(curves) <= 3:
                    axes.fill_between(epochs, low, high, color=colour, alpha=0.13, linewidth=0)
            axes.set_yscale("log")
            plain_log(axes.yaxis)
            axes.set_title(f"by {name}")
            _epochs(axes)
            axes.legend(loc="upper right", fontsize=8)
        panels[0].set_ylabel("gradient norm before clipping")

    starts = "; ".join(
        f"by {name}: " + ", ".join(f"{level} {number(np.nanmedian(v[:, 0]), 2)}" for level, v in curves.items())
        for name, curves in groups.items()
    )
    caption = (
        "Median over the trials of each choice of the mean gradient norm of an epoch, before clipping; with three "
    )
    caption += "choices or fewer, the middle half as a band. Trials differ in everything else as well."
    alt = f"Gradient norm by epoch. Medians in the first epoch, {starts}."
    return draw("gradients", "Gradient norms", caption, alt, 3.4, paint)


def parallel_coordinates(spec: SweepSpec, table: Table) -> Plot | None:
    """Each trial as a line through its parameters to its value, the best tenth in colour."""
    factors = [f for f in table.factors if not np.isnan(f.codes).any()][: MAX_AXES - 1]
    if not factors or len(table.scores) < 2:
        return None
    order = np.argsort(table.scores, kind="stable")
    shown = chosen(len(order), order.tolist(), MAX_LINES)
    rank = np.empty(len(order))
    rank[order] = np.linspace(1.0, 0.0, len(order))  # 1: best
    jitter = np.random.default_rng(0).uniform(-0.03, 0.03, (len(order), len(factors)))
    heights = np.column_stack([f.heights for f in factors])  # (n, F)
    heights += jitter * [f.is_choice for f in factors]
    heights = np.column_stack([heights, rank])

    def paint(figure: Figure) -> None:
        axes, best = figure.add_subplot(), int(order[0])
        styled: Sequence[tuple[list[int], dict[str, Any]]] = (
            ([i for i in shown if rank[i] < 1 - TOP], {"color": GREY, "alpha": 0.3, "linewidth": 0.9}),
            ([i for i in shown if rank[i] >= 1 - TOP and i != best], {"color": BLUE, "alpha": 0.8, "linewidth": 0.9}),
            ([best], {"color": RED, "linewidth": 2.6}),
        )
        for some, style in styled:
            lines = [np.column_stack([range(heights.shape[1]), heights[i]]) for i in some]
            axes.add_collection(LineCollection(lines, **style))
        axes.autoscale_view()
        names = [*(f.name for f in factors), f"rank by\n{spec.objective.metric}"]
        axes.set_xticks(range(len(names)), names, fontweight="bold")
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        for k, factor in enumerate(factors):
            axes.axvline(k, color=INK, linewidth=0.8)
            for height, text in factor.marks:
                axes.text(k + 0.03, height, text, fontsize=7.5, va="center", bbox=_halo())
        axes.axvline(len(factors), color=INK, linewidth=0.8)
        for height, text in ((1.0, "best"), (0.0, "worst")):
            axes.text(len(factors) + 0.03, height, text, fontsize=7.5, va="center")
        axes.set_xlim(-0.1, len(factors) + 0.35)

    sampled = f" {len(shown)} of {len(order):,} trials are drawn." if len(shown) < len(order) else ""
    caption = "Each line is a trial, from its parameters to its rank: the best tenth blue, the winner red and thick."
    caption += f" Choices are spread a little so that lines do not cover each other.{sampled}"
    names = ", ".join(f.name for f in factors)
    alt = f"Parallel coordinates of {len(shown)} trials over {names} and the rank by {spec.objective.metric}."
    return draw("parallel", captions.PARALLEL, caption, alt, 3.8, paint)


def _epochs(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _frame(axes: Any, values: Array) -> None:
    """Show the range of these values and let other curves leave it."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if axes.get_yscale() == "log":
        axes.set_ylim(low / 1.2, high * 1.2)
        plain_log(axes.yaxis)
    elif high > low:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def _halo() -> dict[str, Any]:
    return {"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": "none"}


def _stack(reports: Reports, numbers: Sequence[int], metric: str) -> Array:
    """(n, E) a metric by epoch, NaN where a trial has no such epoch or the value is not finite."""
    length = max(reports[n][-1].epoch + 1 for n in numbers)
    curves = np.full((len(numbers), length), np.nan)
    for row, n in enumerate(numbers):
        for report in reports[n]:
            value = report.metrics.get(metric, math.nan)
            curves[row, report.epoch] = value if math.isfinite(value) else math.nan
    return curves


def _grouped(table: Table, factor: Factor, reports: Reports) -> dict[str, Array]:
    """(n, E) gradient norms of the trials of each choice."""
    groups = {}
    for code, level in enumerate(factor.levels or ()):
        pairs = zip(table.numbers, factor.codes, strict=True)
        numbers = [n for n, c in pairs if c == code and reports.get(n)]
        if numbers:
            curves = _stack(reports, numbers, "grad_norm")
            curves[curves <= 0] = np.nan
            if np.isfinite(curves).any(axis=0).all():
                groups[level] = curves
    return groups
