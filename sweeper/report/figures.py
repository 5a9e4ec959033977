"""The report's pictures as matplotlib figures, for notebooks and for files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from sweeper.errors import SweeperError
from sweeper.insight.advice import ranked
from sweeper.insight.answers import Reports
from sweeper.insight.factors import Table, build_table
from sweeper.insight.findings import Insight, study_trials
from sweeper.report import effects, plots
from sweeper.report.letters import escape_all
from sweeper.report.svg import PAPER, STYLE, WIDTH, Plot

if TYPE_CHECKING:
    from sweeper.records import TrialRecord
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
        escape_all(picture)
        for text in picture.findobj(Text):
            box = text.get_bbox_patch()
            if box is not None and to_hex(box.get_facecolor()) == PAPER:
                box.set_facecolor(BACKGROUND)
        canvas.draw()  # ticks take their style when they are first drawn
    return picture


@dataclass(frozen=True)
class Shown:
    """What a picture is drawn of."""

    spec: SweepSpec
    trials: Sequence[TrialRecord]
    reports: Reports

    @property
    def table(self) -> Table:
        """The trials as a table of factors."""
        return build_table(self.spec, self.trials)

    @property
    def findings(self) -> Insight:
        """What the trials teach."""
        return study_trials(self.spec, self.trials, self.reports)


def history(shown: Shown) -> Plot | None:
    """Values by trial."""
    best_first = ranked(shown.spec, shown.trials)
    return plots.history(shown.spec, shown.trials, best_first) if best_first else None


def curves(shown: Shown) -> Plot | None:
    """The objective by epoch."""
    best_first = ranked(shown.spec, shown.trials)
    return plots.learning_curves(shown.spec, best_first, shown.reports) if best_first else None


def parallel(shown: Shown) -> Plot | None:
    """Trials as lines."""
    return plots.parallel_coordinates(shown.spec, shown.table)


def gradients(shown: Shown) -> Plot | None:
    """Gradient norms by epoch."""
    return plots.gradient_norms(shown.table, shown.reports)


def slices(shown: Shown) -> Plot | None:
    """One parameter at a time."""
    return effects.slices(shown.table)


def importance(shown: Shown) -> Plot | None:
    """Which parameters matter."""
    return effects.importance_bars(shown.findings.importance)


def choices(shown: Shown) -> Plot | None:
    """The effect of each choice."""
    findings = shown.findings
    return effects.choice_bars(findings.choices, findings.scale)


def interactions(shown: Shown) -> Plot | None:
    """Where the better choice depends on another parameter."""
    findings = shown.findings
    return effects.interaction_panels(findings.interactions, findings.scale)


PICTURES: dict[str, Callable[[Shown], Plot | None]] = {
    "history": history,
    "curves": curves,
    "parallel": parallel,
    "gradients": gradients,
    "slices": slices,
    "importance": importance,
    "choices": choices,
    "interactions": interactions,
}


def picture(
    name: str,
    sweep: str,
    spec: SweepSpec,
    trials: Sequence[TrialRecord],
    reports: Reports,
) -> Picture:
    """One of ``PICTURES`` of a sweep.

    Raises:
        SweeperError: the sweep has not enough trials for it.
    """
    plot = PICTURES[name](Shown(spec, trials, reports))
    if plot is None:
        why = "has too few trials for this picture, or they show no effect"
        raise SweeperError(f"sweep {sweep} {why}. Run more trials")
    return figure_of(plot)
