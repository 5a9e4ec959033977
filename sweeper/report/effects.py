"""Pictures of what parameters do: slices, importance, effects of choices and interactions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sweeper.insight import captions
from sweeper.insight.contrasts import ChoiceEffects, Interaction
from sweeper.insight.factors import Array, Factor, Scale, Table
from sweeper.insight.importance import Importance
from sweeper.report.plots import MAX_POINTS, chosen, value_axis
from sweeper.report.svg import BLUE, COLOURS, DASHES, INK, ORANGE, Plot, draw, plain_log
from sweeper.text import number

COLUMNS = 3
BINS = 8
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def slices(table: Table) -> Plot | None:
    """Each parameter against the value, nothing adjusted: what was tried and what came out."""
    if not table.factors or len(table.scores) < 2:
        return None
    scale = table.scale
    values = np.array([scale.shown(score) for score in table.scores])
    order = np.argsort(table.scores, kind="stable").tolist()
    shown = np.array(chosen(len(values), order, MAX_POINTS // 2))
    rows = math.ceil(len(table.factors) / COLUMNS)

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True)
        for k, axes in enumerate(panels.flat):
            if k >= len(table.factors):
                axes.set_visible(False)
                continue
            factor = table.factors[k]
            _slice_of_choice(axes, factor, values, shown) if factor.is_choice else _slice(axes, factor, values, shown)
            axes.set_title(factor.name)
        value_axis(panels[0, 0], scale.metric, values)
        for axes in panels[1:, 0]:
            axes.set_ylabel(scale.metric)

    sampled = f" {len(shown)} of {len(values):,} trials are drawn." if len(shown) < len(values) else ""
    caption = "Each point is a trial; orange is the median (of eighths of the range, for numbers). Nothing is adjusted "
    caption += f"here: trials in one panel differ in all other parameters too.{sampled}"
    names = ", ".join(f.name for f in table.factors)
    alt = f"{scale.metric} against each parameter in panels of their own: {names}."
    return draw("slices", captions.SLICES, caption, alt, 2.3 * rows + 0.2, paint)


def importance_bars(importance: Importance) -> Plot | None:
    """The share of each parameter with its interval."""
    entries = importance.parameters[::-1]
    if not entries:
        return None

    def paint(figure: Figure) -> None:
        axes, y = figure.add_subplot(), np.arange(len(entries))
        shares = np.array([100 * e.share for e in entries])
        low = shares - [100 * e.interval.low for e in entries]
        high = np.array([100 * e.interval.high for e in entries]) - shares
        axes.barh(y, shares, color=BLUE, height=0.6)
        axes.errorbar(shares, y, xerr=[low, high], fmt="none", ecolor=ORANGE, capsize=3, linewidth=1.6)
        axes.set_yticks(y, [e.parameter for e in entries])
        axes.set_xlabel("share of importance (%)")
        axes.set_xlim(0, None)
        axes.grid(visible=False, axis="y")

    caption = (
        "What a random forest loses on held-out trials when a parameter is shuffled, as a share of all such losses. "
    )
    caption += "Whiskers: 95% interval over ten forests, each on other trials."
    alt = "Importance: " + ", ".join(f"{e.parameter} {e.share:.0%}" for e in importance.parameters) + "."
    return draw("importance", "Which parameters matter", caption, alt, 0.32 * len(entries) + 0.9, paint)


def choice_bars(choices: Sequence[ChoiceEffects], scale: Scale) -> Plot | None:
    """Every choice against the average of its parameter's choices, with intervals.

    A parameter whose effects the trials do not determine (it was always changed together with another) is left out.
    """
    choices = [c for c in choices if all(math.isfinite(e.interval.high) for e in c.effects)]
    if not choices:
        return None
    heights = [len(c.effects) for c in choices]

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(len(choices), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for axes, choice in zip(panels, choices, strict=True):
            _effects_of(axes, choice, scale)
        if scale.log:
            panels[-1].set_xscale("log")
            plain_log(panels[-1].xaxis)
            panels[-1].set_xlabel(f"{scale.metric} as a multiple of the average over the choices")
        else:
            panels[-1].set_xlabel(f"difference in {scale.metric} from the average over the choices")

    better = "left" if scale.sign > 0 else "right"
    caption = (
        f"Further {better} is better. Effects at equal settings of the other parameters, averaged over the settings "
    )
    caption += "tried; whiskers are 95% intervals. Sentences compare pairs, which is a sharper test than two whiskers."
    parts = (f"{c.parameter}: " + ", ".join(f"{e.level} {number(e.value, 2)}" for e in c.effects) for c in choices)
    alt = f"Adjusted effects on {scale.metric}. {'; '.join(parts)}."
    return draw(
        "effects", "Effect of each choice", caption, alt, 0.27 * sum(heights) + 0.35 * len(heights) + 0.7, paint
    )


def interaction_panels(found: Sequence[Interaction], scale: Scale) -> Plot | None:
    """The adjusted value of each choice along the parameter it interacts with."""
    if not found:
        return None
    columns = min(2, len(found))
    rows = math.ceil(len(found) / columns)

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(rows, columns, squeeze=False)
        for k, axes in enumerate(panels.flat):
            if k >= len(found):
                axes.set_visible(False)
                continue
            _interaction_panel(axes, found[k], scale)
            axes.set_ylabel(f"{scale.metric}, adjusted" if k % columns == 0 else "")

    caption = (
        "Predicted values at equal settings of the other parameters, drawn where at least three trials (five, for "
    )
    caption += "pairs of choices) support them. Bands and whiskers are 95% intervals."
    names = "; ".join(f"{i.parameter} along {i.along}" for i in found)
    sentences = ". ".join(c.sentence for i in found for c in i.conditions[:1])
    return draw("interactions", "Interactions", caption, f"Interactions: {names}. {sentences}", 3.2 * rows + 0.2, paint)


def _slice(axes: Any, factor: Factor, values: Array, shown: Array) -> None:
    x = 10.0**factor.codes if factor.log else factor.codes
    axes.scatter(x[shown], values[shown], s=9, color=BLUE, alpha=0.5, linewidths=0)
    known = np.flatnonzero(~np.isnan(factor.codes))
    edges = np.linspace(factor.codes[known].min(), factor.codes[known].max(), BINS + 1)
    which = np.clip(np.searchsorted(edges, factor.codes[known], side="right") - 1, 0, BINS - 1)
    for b in range(BINS):
        members = known[which == b]
        if len(members) >= 3:
            ends = [factor.number(edges[b]), factor.number(edges[b + 1])]
            axes.plot(ends, [np.median(values[members])] * 2, color=ORANGE, linewidth=2.4, solid_capstyle="butt")
    if factor.log:
        axes.set_xscale("log")
        plain_log(axes.xaxis)


def _slice_of_choice(axes: Any, factor: Factor, values: Array, shown: Array) -> None:
    assert factor.levels is not None
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(values))
    axes.scatter((factor.codes + jitter)[shown], values[shown], s=9, color=BLUE, alpha=0.5, linewidths=0)
    for code in range(len(factor.levels)):
        members = values[factor.codes == code]
        if len(members):
            axes.plot([code - 0.32, code + 0.32], [np.median(members)] * 2, color=ORANGE, linewidth=2.4)
    long = len(factor.levels) > 3 or max(map(len, factor.levels)) > 10
    axes.set_xticks(
        range(len(factor.levels)), factor.levels, rotation=30 if long else 0, ha="right" if long else "center"
    )
    axes.set_xlim(-0.6, len(factor.levels) - 0.4)
    axes.grid(visible=False, axis="x")


def _effects_of(axes: Any, choice: ChoiceEffects, scale: Scale) -> None:
    effects = choice.effects[::-1]
    y = np.arange(len(effects))
    for k, effect in enumerate(effects):
        axes.plot([effect.interval.low, effect.interval.high], [k, k], color=BLUE, linewidth=1.6)
        axes.plot(effect.value, k, marker="o", color=BLUE, markersize=5)
    axes.axvline(scale.neutral, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(y, [f"{e.level} ({e.trials})" for e in effects])
    axes.set_ylim(-0.6, len(effects) - 0.4)
    axes.set_title(f"{choice.parameter} (trials)")
    axes.grid(visible=False, axis="y")


def _interaction_panel(axes: Any, found: Interaction, scale: Scale) -> None:
    categorical = isinstance(found.points[0], str)
    x = np.arange(len(found.points)) if categorical else np.array(found.points, dtype=np.float64)
    for i, curve in enumerate(found.curves):
        middle = np.array([math.nan if m is None else m for m in curve.middle], dtype=np.float64)
        known = ~np.isnan(middle)
        low, high = np.array(curve.low), np.array(curve.high)
        colour, dash, marker = COLOURS[i % 7], DASHES[i % 7], MARKERS[i % 7]
        if categorical:
            at = (x + 0.12 * (i - (len(found.curves) - 1) / 2))[known]
            errors = [middle[known] - low[known], high[known] - middle[known]]
            axes.errorbar(at, middle[known], yerr=errors, fmt=marker, color=colour, label=curve.level, capsize=2, ms=5)
        else:
            axes.plot(x, middle, color=colour, linestyle=dash, label=curve.level)
            axes.fill_between(x, low, high, where=known.tolist(), color=colour, alpha=0.12, linewidth=0)
    if categorical:
        axes.set_xticks(x, [str(p) for p in found.points], rotation=20 if len(x) > 3 else 0)
    elif found.log:
        axes.set_xscale("log")
        plain_log(axes.xaxis)
    if scale.log:
        axes.set_yscale("log")
        plain_log(axes.yaxis)
    axes.set_xlabel(found.along)
    axes.set_title(f"{found.parameter} along {found.along}")
    axes.legend(fontsize=8, ncols=2)
