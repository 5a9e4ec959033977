"""The ready-made comparison view in a real browser: MLflow documents its format nowhere, so only this guards it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweeper.ledger.memory import MemoryLedger
from sweeper.records import SweepChanged, SweepRecord
from sweeper.settings import Settings
from sweeper.states import SweepState, TrialState
from sweeper.tracking.tracker import Tracker
from sweeper.tracking.ui import UiServer, serve_ui, sweep_link
from tests.ended_sweeps import BEGAN, TableStub, end_trials, new_sweep, spec_of
from tests.finals_outcome import outcome

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TRIALS = 300
WAIT = 120_000  # milliseconds


@dataclass(frozen=True)
class Shown:
    sweep: SweepRecord
    best: str
    server: UiServer


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """A sweep with everything a sweep can have, in a running MLflow UI.

    300 trials with a conditional parameter and two objectives, some pruned and some failed, and finals.
    """
    home = tmp_path_factory.mktemp("home")
    ledger = MemoryLedger()
    spec = spec_of(trials=TRIALS, objectives=[{"metric": "val_loss"}, {"metric": "parameters"}])
    sweep = new_sweep(ledger, spec).sweep
    states = dict.fromkeys(range(0, TRIALS, 7), TrialState.PRUNED) | dict.fromkeys(
        range(1, TRIALS, 50), TrialState.FAILED
    )
    end_trials(ledger, sweep, range(TRIALS), states)
    best = ledger.best(sweep, 5)
    finals = outcome({t.number: [(t.value or 0.0) + noise for noise in (0.02, 0.03, 0.05)] for t in best})
    ledger.commit(sweep, [SweepChanged(state=SweepState.COMPLETE, at=BEGAN + 1000, summary={"finals": finals})])
    tracker = Tracker(Settings(home=home), ledger.sweep(sweep), spec, TableStub(), ledger)
    tracker.start()
    tracker.log_report("<!doctype html><title>r</title><h1>The report of the sweep</h1>")
    tracker.trials_ended()
    tracker.sweep_ended()
    assert tracker.flush(600) == []
    tracker.close()
    server = serve_ui(None, home)
    yield Shown(ledger.sweep(sweep), f"trial-{best[0].number:04d}", server)
    server.close()


@pytest.fixture(scope="module")
def page(browser: Any) -> Any:
    page = browser.new_page(viewport={"width": 1800, "height": 1400})
    page.set_default_timeout(WAIT)
    return page


def keep(page: Any, name: str) -> None:
    """A picture for people, where SWEEPER_SCREENSHOTS asks for it."""
    if folder := os.environ.get("SWEEPER_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def runs_page(shown: Shown, run: str, tab: str = "") -> str:
    return f"{shown.server.url}/#/experiments/{shown.sweep.mlflow_experiment_id}/runs/{run}{tab}"


def test_the_views_link_shows_ranked_trials_and_every_kind_of_chart(shown: Shown, page: Any) -> None:
    page.goto(sweep_link(shown.server.url, shown.sweep))
    page.get_by_text("Listed trials: parameters and result").wait_for()
    page.get_by_text(shown.best).first.wait_for()
    page.locator("svg.parcoords-svg, .parcoords, .js-plotly-plot").first.wait_for()
    if (assistant := page.get_by_role("button", name="Close")).count():
        assistant.first.click()
    keep(page, "view-top")
    names = page.locator("text=/^trial-\\d{4}$/").all_inner_texts()
    assert names[0] == shown.best
    for section, chart in {
        "Finals: the test rows over fresh seeds": "final_mean",
        "Best 20 trials: one objective against another": "parameters vs. val_loss",
        "Best 20 trials: one parameter against the result": "momentum vs. val_loss",
    }.items():
        page.get_by_text(section).scroll_into_view_if_needed()
        page.get_by_text(chart, exact=True).first.scroll_into_view_if_needed()
        page.locator(".js-plotly-plot .points path, .js-plotly-plot .barlayer path").first.wait_for()
    keep(page, "view-middle")
    page.get_by_text("Best 20 trials: learning curves").scroll_into_view_if_needed()
    page.locator(".js-plotly-plot .scatterlayer path.js-line").first.wait_for()
    keep(page, "view-curves")


def test_the_views_table_has_states_parameters_results_and_finals(shown: Shown, page: Any) -> None:
    page.goto("about:blank")
    page.goto(sweep_link(shown.server.url, shown.sweep).replace("=CHART", "=TABLE"))
    page.set_viewport_size({"width": 4800, "height": 1000})
    page.get_by_text(shown.best).first.wait_for()
    shown_columns = {"objective", "parameters", "final_mean", "final_low", "final_high", "best_val_loss", "momentum"}
    for column in (*shown_columns, "trial.state", "trial.pareto", "trial.reason"):
        page.get_by_role("columnheader").get_by_text(column, exact=True).first.wait_for()
    assert page.get_by_text("front", exact=True).count() > 0
    keep(page, "view-table")
    page.set_viewport_size({"width": 1800, "height": 1400})


def test_the_parent_run_shows_the_answer_and_the_report(shown: Shown, page: Any) -> None:
    run = shown.sweep.mlflow_run_id
    assert run is not None
    page.goto(runs_page(shown, run))
    page.get_by_text(re.compile("Best: trial")).first.wait_for()
    for metric in ("winner_val_loss", "final_mean", "trials_pruned"):
        page.get_by_text(metric, exact=True).first.wait_for()
    keep(page, "parent")
    page.goto(runs_page(shown, run, "/artifacts/report.html"))
    page.frame_locator("iframe").get_by_text("The report of the sweep").wait_for()
    keep(page, "parent-report")
