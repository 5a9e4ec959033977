"""The report's pictures as matplotlib figures, for notebooks and for files."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from sweeper.errors import SweeperError
from sweeper.insight.advice import ranked
from sweeper.insight.factors import build_table
from sweeper.insight.findings import study_trials
from sweeper.report import effects, plots
from sweeper.report.svg import PAPER, STYLE, WIDTH, Plot

if TYPE_CHECKING:
    from sweeper.api import Result
    from sweeper.spec.parse import SweepSpec

INK_ON_WHITE, RULE, BACKGROUND = "#202020", "#d8d8d8", "#ffffff"
_PLAIN: Any = {
    "text.color": INK_ON_WHITE,
    "axes.labelcolor": INK_ON_WHITE,
    "xtick.color": INK_ON_WHITE,
    "ytick.color": INK_ON_WHITE,
    "axes.edgecolor": INK_ON_WHITE,
    "grid.color": RULE,
    "figure.facecolor": BACKGROUND,
    "savefig.facecolor": BACKGROUND,
}


class Picture(Figure):
    """A figure that a notebook shows by itself, whether pyplot was imported or not."""

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png")
        return stream.getvalue()


def figure_of(plot: Plot) -> Picture:
    """A plot of the report on a white background."""
    with mpl.rc_context({**STYLE, **_PLAIN}):
        picture = Picture(figsize=(WIDTH, plot.height), layout="constrained")
        canvas = FigureCanvasAgg(picture)
        plot.painter(picture)
        for text in picture.findobj(Text):
            box = text.get_bbox_patch()
            if box is not None and to_hex(box.get_facecolor()) == PAPER:
                box.set_facecolor(BACKGROUND)
        canvas.draw()  # ticks take their style when they are first drawn
    return picture


def history(result: Result, spec: SweepSpec) -> Plot | None:
    """Values by trial."""
    trials = result.records()
    best_first = ranked(spec, trials)
    return plots.history(spec, trials, best_first) if best_first else None


def curves(result: Result, spec: SweepSpec) -> Plot | None:
    """The objective by epoch."""
    best_first = ranked(spec, result.records())
    return plots.learning_curves(spec, best_first, result.reports()) if best_first else None


def parallel(result: Result, spec: SweepSpec) -> Plot | None:
    """Trials as lines."""
    return plots.parallel_coordinates(spec, build_table(spec, result.records()))


def gradients(result: Result, spec: SweepSpec) -> Plot | None:
    """Gradient norms by epoch."""
    return plots.gradient_norms(build_table(spec, result.records()), result.reports())


def slices(result: Result, spec: SweepSpec) -> Plot | None:
    """One parameter at a time."""
    return effects.slices(build_table(spec, result.records()))


def importance(result: Result, spec: SweepSpec) -> Plot | None:
    """Which parameters matter."""
    return effects.importance_bars(study_trials(spec, result.records(), {}).importance)


def choices(result: Result, spec: SweepSpec) -> Plot | None:
    """The effect of each choice."""
    insight = study_trials(spec, result.records(), {})
    return effects.choice_bars(insight.choices, insight.scale)


def interactions(result: Result, spec: SweepSpec) -> Plot | None:
    """Where the better choice depends on another parameter."""
    insight = study_trials(spec, result.records(), {})
    return effects.interaction_panels(insight.interactions, insight.scale)


PICTURES: dict[str, Callable[[Result, SweepSpec], Plot | None]] = {
    "history": history,
    "curves": curves,
    "parallel": parallel,
    "gradients": gradients,
    "slices": slices,
    "importance": importance,
    "choices": choices,
    "interactions": interactions,
}


def picture(result: Result, name: str) -> Picture:
    """One of ``PICTURES`` of a sweep.

    Raises:
        SweeperError: the sweep has not enough trials for it.
    """
    plot = PICTURES[name](result, result.spec)
    if plot is None:
        raise SweeperError(f"sweep {result.sweep} has too few different complete trials for this picture. Run more")
    return figure_of(plot)
