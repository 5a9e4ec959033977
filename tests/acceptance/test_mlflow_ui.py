"""The ready-made comparison view in a real browser: MLflow documents its format nowhere, so only this guards it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sweeper.ledger_memory import MemoryLedger
from sweeper.records import SweepChanged, SweepRecord
from sweeper.settings import Settings
from sweeper.states import SweepState, TrialState
from sweeper.tracking import Tracker
from sweeper.tracking_ui import UiServer, serve_ui, sweep_link
from sweeper.tracking_view import runs_url
from tests.ended_sweeps import BEGAN, TableStub, end_trials, new_sweep, spec_of

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
    """A sweep of 300 trials, some pruned and some failed, in a running MLflow UI."""
    home = tmp_path_factory.mktemp("home")
    ledger, spec = MemoryLedger(), spec_of(trials=TRIALS)
    sweep = new_sweep(ledger, spec).sweep
    states = dict.fromkeys(range(0, TRIALS, 7), TrialState.PRUNED) | dict.fromkeys(
        range(1, TRIALS, 50), TrialState.FAILED
    )
    end_trials(ledger, sweep, range(TRIALS), states)
    ledger.commit(sweep, [SweepChanged(state=SweepState.COMPLETE, at=BEGAN + 1000)])
    tracker = Tracker(Settings(home=home), ledger.sweep(sweep), spec, TableStub(), ledger)
    tracker.start()
    tracker.sweep_ended()
    assert tracker.flush(600) == []
    tracker.close()
    server = serve_ui(None, home)
    yield Shown(ledger.sweep(sweep), f"trial-{ledger.best(sweep)[0].number:04d}", server)
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


def test_the_views_link_shows_ranked_trials_and_all_three_kinds_of_charts(shown: Shown, page: Any) -> None:
    page.goto(sweep_link(shown.server.url, shown.sweep))
    page.get_by_text("All trials: parameters and result").wait_for()
    page.get_by_text(shown.best).first.wait_for()
    page.locator("svg.parcoords-svg, .parcoords, .js-plotly-plot").first.wait_for()
    keep(page, "view-top")
    names = page.locator("text=/^trial-\\d{4}$/").all_inner_texts()
    assert names[0] == shown.best
    assert page.locator("text=/Best 20 trials: learning curves/").count() == 1
    page.get_by_text("Best 20 trials: learning curves").scroll_into_view_if_needed()
    page.locator(".js-plotly-plot .scatterlayer path.js-line").first.wait_for()
    keep(page, "view-curves")


def test_the_filtered_link_lists_the_sweeps_trials_without_any_view(shown: Shown, page: Any) -> None:
    sweep = shown.sweep
    assert sweep.mlflow_experiment_id is not None
    assert sweep.mlflow_run_id is not None
    link = runs_url(shown.server.url, sweep.mlflow_experiment_id, sweep.mlflow_run_id, "objective", maximize=False)
    page.goto("about:blank")
    page.goto(link)
    page.get_by_text(shown.best).first.wait_for()
    names = page.locator("text=/^trial-\\d{4}$/").all_inner_texts()
    assert re.fullmatch(r"trial-\d{4}", names[0])
    assert names[0] == shown.best
    keep(page, "filtered")
