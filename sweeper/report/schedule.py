"""The schedule of a member of a population: how its hyperparameters changed while its row trained."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from sweeper.models.changes import CHANGEABLE
from sweeper.records import TrialRecord
from sweeper.report.svg import COLOURS, DASHES, Plot, draw, plain_log
from sweeper.spec.phases import schedule_in


def schedule_picture(winner: TrialRecord | None) -> Plot | None:
    """Each hyperparameter that changed, divided by what the row began with; None: none has."""
    phases = () if winner is None else schedule_in(winner.attributes)
    if winner is None or len(phases) < 2:
        return None
    first = phases[0].params
    names = [n for n in CHANGEABLE if first.get(n) and any(phase.params.get(n) != first[n] for phase in phases)]
    if not names:
        return None
    starts = [phase.epoch + 1 for phase in phases]

    def paint(figure: Figure) -> None:
        axes: Any = figure.add_subplot()
        for i, name in enumerate(names):
            values = [phase.params[name] / first[name] for phase in phases]
            style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)], "where": "post"}
            axes.step(
                [*starts, winner.epochs], [*values, values[-1]], label=f"{name}, first {first[name]:.3g}", **style
            )
        if all(phase.params[name] > 0 for phase in phases for name in names):
            axes.set_yscale("log")
            plain_log(axes.yaxis)
        axes.set_xlabel("epoch")
        axes.set_ylabel("value / first value")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

    caption = f"What the row of trial {winner.number} was trained with, from its first ancestor's initial weights on."
    alt = f"Steps of {', '.join(names)} over {winner.epochs} epochs, each relative to its first value."
    return draw("schedule", "The winner's schedule", caption, alt, 2.6, paint)
