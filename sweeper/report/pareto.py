"""Picture of the compromises that a sweep with several objectives found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sweeper.insight.factors import spread
from sweeper.insight.goals_view import Goals
from sweeper.insight.pareto import best_first, feasible
from sweeper.records import TrialRecord
from sweeper.report.plots import MAX_POINTS, chosen
from sweeper.report.svg import BLUE, GREY, ORANGE, Plot, draw, plain_log
from sweeper.spec.goals import ObjectiveSpec, values_of
from sweeper.spec.parse import SweepSpec

LABELS = 12  # points of the front that are named in the picture


def front_picture(spec: SweepSpec, trials: Sequence[TrialRecord], goals: Goals) -> Plot | None:
    """The first objective against each other one; the front as a line from trial to trial."""
    if not goals.front:
        return None
    known = [(t, v) for t in best_first(trials, spec) if (v := values_of(t.metrics, spec.objectives))]
    values = np.array([v for _, v in known])  # (n, M)
    allowed = np.array([feasible(t, spec) for t, _ in known])
    members = {t.number for t in goals.front}
    place = {t.number: i for i, (t, _) in enumerate(known)}
    front = [place[t.number] for t in goals.front]
    shown = np.array(chosen(len(known), front, MAX_POINTS))
    others = spec.objectives[1:]

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(1, len(others), squeeze=False)[0]
        for k, axes in enumerate(panels):
            pair = values[:, [k + 1, 0]]
            rest = np.array([i for i in shown if known[i][0].number not in members], dtype=int)
            within, beyond = rest[allowed[rest]], rest[~allowed[rest]]
            if len(within):
                axes.scatter(*pair[within].T, s=13, color=BLUE, alpha=0.45, linewidths=0, label="dominated")
            if len(beyond):
                axes.scatter(*pair[beyond].T, s=15, marker="x", color=GREY, linewidths=1, label="breaks a constraint")
            line = pair[front]
            axes.plot(*line.T, color=ORANGE, linewidth=1.4, marker="o", markersize=5, label="Pareto front")
            for i in np.unique(np.linspace(0, len(front) - 1, LABELS).round().astype(int)):
                axes.annotate(str(known[front[i]][0].number), line[i], (4, 4), textcoords="offset points", fontsize=7.5)
            _axis(axes, "x", others[k], pair[:, 0])
            _axis(axes, "y", spec.objectives[0], pair[:, 1])
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)

    caption = "Each point is a complete trial. No trial is better than one of the front in every objective; numbers "
    caption += "are trials."
    if len(others) > 1:
        caption += " With more than two objectives a trial of the front may look dominated in one panel."
    alt = f"Scatter of {', '.join(o.metric for o in spec.objectives)}. {goals.verdict(spec)}"
    return draw("front", "Pareto front", caption, alt, 3.8, paint)


def _axis(axes: Any, which: str, objective: ObjectiveSpec, values: Any) -> None:
    axis, end = getattr(axes, f"{which}axis"), "less" if objective.direction == "minimize" else "more"
    axis.set_label_text(f"{objective.metric} ({end} is better)")
    if spread(values):
        getattr(axes, f"set_{which}scale")("log")
        plain_log(axis)
