"""The report in a real browser, light and dark: every picture is drawn, nothing is loaded, nothing is complained of."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.ledger_memory import MemoryLedger
from sweeper.records import SweepChanged, TrialRecord
from sweeper.report import write_report
from sweeper.states import SweepState, TrialState
from tests.ended_sweeps import BEGAN, end_trials, new_sweep, spec_of

pytestmark = [pytest.mark.browser, pytest.mark.slow]
TRIALS = 300
HEADINGS = [
    "Answer",
    "Questions",
    "What to try next",
    "How the sweep went",
    "What the parameters do",
    "Gradient norms",
    "Trials",
    "Reproduce",
]
# For every picture: its box, and how many drawn parts of it have an extent.
BOXES = """() => [...document.querySelectorAll("svg")].map(svg => {
    const box = svg.getBoundingClientRect();
    const parts = [...svg.querySelectorAll("path, use, text")].filter(part => {
        const own = part.getBoundingClientRect(); return own.width + own.height > 0; });
    return {width: box.width, height: box.height, parts: parts.length, label: svg.getAttribute("aria-label")};
})"""
# The contrast (WCAG 2) of the text of the page, and of a picture, with the background.
CONTRAST = """() => {
    const luminance = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const paper = luminance(getComputedStyle(document.body).backgroundColor);
    const ratio = colour => { const l = luminance(colour);
        return (Math.max(l, paper) + 0.05) / (Math.min(l, paper) + 0.05); };
    return {paper, page: ratio(getComputedStyle(document.querySelector("p")).color),
        picture: ratio(getComputedStyle(document.querySelector("svg text")).fill)};
}"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a sweep of 300 trials, some pruned and some failed, in which Adam is best at low learning rates."""
    ledger, spec = MemoryLedger(), spec_of(trials=TRIALS)
    sweep = new_sweep(ledger, spec).sweep
    states = dict.fromkeys(range(0, TRIALS, 7), TrialState.PRUNED) | dict.fromkeys(
        range(1, TRIALS, 50), TrialState.FAILED
    )
    end_trials(ledger, sweep, range(TRIALS), states)
    ledger.commit(sweep, [SweepChanged(state=SweepState.COMPLETE, at=BEGAN + 1000)])
    trials = [replace(t, value=planted(t)) if t.value is not None else t for t in ledger.trials(sweep)]
    out = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(ledger.sweep(sweep), spec, trials, ledger.reports(sweep), out)


def planted(trial: TrialRecord) -> float:
    """The trial's value, with an interaction of the optimizer with the learning rate."""
    assert trial.params is not None
    assert trial.value is not None
    adam = trial.params["optimizer"] == "adam"
    return trial.value * math.exp(adam * (math.log10(trial.params["learning_rate"]) + 2.5))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 400])
def test_the_page_shows_its_sections_and_pictures(report: Path, browser: Any, scheme: str, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert page.locator("h1").inner_text() == "demo"
    assert page.locator("h2").all_inner_texts() == HEADINGS
    assert "adam beats sgd below learning_rate" in page.locator("#questions").inner_text()
    assert "is the best of" in page.locator(".verdict").inner_text()
    boxes = page.evaluate(BOXES)
    assert len(boxes) == 8
    for box in boxes:
        assert box["label"]
        assert box["width"] > 600
        assert box["height"] > 0.1 * box["width"]
        assert box["parts"] > 20
    contrast = page.evaluate(CONTRAST)
    assert (contrast["paper"] > 0.5) == (scheme == "light")
    assert contrast["page"] > 7
    assert contrast["picture"] > 7
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    if folder := os.environ.get("SWEEPER_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"report-{scheme}-{width}.png"), full_page=True)
    context.close()
