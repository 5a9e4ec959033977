"""A result in a notebook: escaped HTML, and every picture as a figure that can be drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Text

from sweeper.api import Result
from sweeper.errors import SweeperError
from sweeper.ledger.memory import MemoryLedger
from sweeper.records import SweepChanged
from sweeper.report.figures import PICTURES
from sweeper.report.notebook import result_html
from sweeper.report.svg import LINE, PAPER
from sweeper.settings import Settings
from sweeper.states import SweepState, TrialState
from tests.ended_sweeps import BEGAN, end_trials, new_sweep, spec_of

TRIALS = 160


@pytest.fixture(scope="module")
def result() -> Result:
    ledger, spec = MemoryLedger(), spec_of(trials=TRIALS)
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(TRIALS), {3: TrialState.PRUNED, 5: TrialState.FAILED})
    ledger.commit(sweep, [SweepChanged(state=SweepState.COMPLETE, at=BEGAN + 100)])
    return Result(sweep, ledger.sweep(sweep), ledger, Settings(home=Path("nowhere")))


def test_a_result_shows_verdict_counts_and_the_best_trials(result: Result) -> None:
    html = result._repr_html_()
    assert result.best is not None
    assert f"Trial {result.best['trial']} is the best" in html
    assert "158 complete, 1 pruned, 1 failed of 160 trials" in html
    assert html.count("<tr>") == 6
    assert len(html) < 5000


def test_what_users_wrote_is_escaped_and_a_sweep_without_trials_has_no_table(result: Result) -> None:
    record = replace(result.record, name="<script>alert(1)</script>")
    trials = [replace(t, params={"a<b": "<i>"}) for t in result.records()]
    html = result_html(record, result.spec, trials)
    assert "<script>" not in html
    assert "<i>" not in html
    assert "<table>" not in result_html(record, result.spec, [])


@pytest.mark.parametrize("name", [*PICTURES])
def test_every_picture_is_a_figure_in_plain_colours(result: Result, name: str) -> None:
    figure = getattr(result, f"plot_{name}")()
    png = figure._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 5000
    assert figure.axes
    boxes = [text.get_bbox_patch() for text in figure.findobj(Text)]
    assert PAPER not in {to_hex(box.get_facecolor()) for box in boxes if box is not None}
    assert LINE not in {to_hex(line.get_color()) for axes in figure.axes for line in axes.get_xgridlines()}


def test_a_picture_of_nothing_is_refused(result: Result) -> None:
    ledger, spec = MemoryLedger(), spec_of()
    sweep = new_sweep(ledger, spec)
    empty = Result(sweep.sweep, sweep, ledger, Settings(home=Path("nowhere")))
    for name in PICTURES:
        with pytest.raises(SweeperError, match="too few"):
            getattr(empty, f"plot_{name}")()
