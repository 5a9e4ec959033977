"""Pictures of the finals: standings with intervals, and what the search saw against what fresh seeds say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sweeper.insight import captions
from sweeper.insight.finals import FinalsOutcome, percent
from sweeper.report.svg import BLUE, GREY, INK, ORANGE, Plot, draw
from sweeper.text import number

SHOWN = 20  # finalists that a picture has room for


def standings(finals: FinalsOutcome) -> Plot | None:
    """Every finalist's mean on the test rows with its interval, over the values of its seeds."""
    places = [p for p in finals.standings if math.isfinite(p.mean)][:SHOWN]
    if not places:
        return None

    def paint(figure: Figure) -> None:
        axes: Any = figure.add_subplot()
        for y, place in enumerate(reversed(places)):
            leads = place.trial in finals.leaders
            values = [v for v in place.values if math.isfinite(v)]
            axes.scatter(values, [y] * len(values), s=14, color=GREY, alpha=0.5, linewidths=0)
            colour = BLUE if leads else INK
            if math.isfinite(place.low):
                axes.plot([place.low, place.high], [y, y], color=colour, linewidth=2.2)
            axes.plot(place.mean, y, marker="o" if leads else "D", color=colour, markersize=7)
        names = [f"trial {p.trial} ({percent(p.probability_best)})" for p in reversed(places)]
        axes.set_yticks(range(len(places)), names)
        axes.set_ylim(-0.6, len(places) - 0.4)
        axes.set_xlabel(finals.metric)
        axes.grid(visible=False, axis="y")

    caption = captions.standings(len(finals.seeds), finals.rows, finals.interval)
    alt = "Finals: " + "; ".join(captions.finalist(p.trial, p.mean, p.low, p.high) for p in places) + "."
    return draw("finals", captions.STANDINGS, caption, alt, 0.36 * len(places) + 0.9, paint)


def selection_bias(finals: FinalsOutcome, metric: str) -> Plot | None:
    """The objective that the search saw, and its mean over the fresh seeds, for every finalist."""
    known = [p for p in finals.standings if math.isfinite(p.search_value) and math.isfinite(p.validation_mean)][:SHOWN]
    if not known:
        return None

    def paint(figure: Figure) -> None:
        axes: Any = figure.add_subplot()
        y = np.arange(len(known))[::-1]
        seen = [p.search_value for p in known]
        fresh = [p.validation_mean for p in known]
        axes.hlines(y, seen, fresh, color=GREY, linewidth=2)
        axes.scatter(seen, y, s=48, facecolors="none", edgecolors=ORANGE, linewidths=1.8, label="seen by the search")
        axes.scatter(fresh, y, s=44, color=BLUE, marker="s", label="mean over fresh seeds")
        axes.set_yticks(y, [f"trial {p.trial}" for p in known])
        axes.set_ylim(-0.6, len(known) - 0.4)
        axes.set_xlabel(f"{metric} (validation split)")
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper right", ncols=2)

    caption = "The search picked the finalists by the open circles. Where the square lies further towards the "
    caption += f"{'high' if finals.minimize else 'low'} end, the trial was also lucky."
    parts = (f"trial {p.trial} {number(p.search_value)}, then {number(p.validation_mean)}" for p in known)
    alt = f"{metric} as the search saw it, and as the mean over fresh seeds: {'; '.join(parts)}."
    return draw("bias", "What the search saw, and what fresh seeds say", caption, alt, 0.32 * len(known) + 1.1, paint)
