"""The report in a real browser, light and dark: every picture is drawn, nothing is loaded, nothing is complained of."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sweeper.insight.advice import ranked
from sweeper.ledger.memory import MemoryLedger
from sweeper.records import EpochReport, FlowReport, SweepChanged, SweepRecord, TrialRecord
from sweeper.report.page import write_report
from sweeper.spec.parse import SweepSpec
from sweeper.states import SweepState, TrialState
from tests.ended_sweeps import BEGAN, end_trials, new_sweep, spec_of
from tests.finals_outcome import outcome
from tests.winners import trained

pytestmark = [pytest.mark.browser, pytest.mark.slow]
COMMON = ["How the winner predicts", "Questions", "What to try next", "How the sweep went", "What the parameters do"]
HEADINGS = {
    "answered": ["Answer", "Finals", *COMMON, "Gradient flow", "Trials", "Reproduce"],
    "compromise": ["Answer", "Objectives", *COMMON, "Gradient norms", "Trials", "Reproduce"],
}
SAID = {
    "answered": {
        ".verdict": "cannot be told apart",
        "#finals": "This is selection bias",
        "#winner": "Expected calibration error",
        "#questions": "adam beats sgd below learning_rate",
        "#gradients": "the first layer gets",
    },
    "compromise": {
        ".verdict": "are the best compromises of val_loss and parameters",
        "#goals": "complete trials satisfy every constraint",
        "#winner": "Root mean squared error",
    },
}
PICTURES = {
    "answered": [
        *("Standings", "What the search saw, and what fresh seeds say", "Confusion matrix", "Calibration"),
        *("The first layer's gradient by epoch", "Dead and saturated units, clipped steps"),
    ],
    "compromise": ["Pareto front", "Residuals"],
}
LEVELS = "() => [...document.querySelectorAll('h1, h2, h3, h4')].map(heading => heading.tagName)"
# For every picture: its box, and how many drawn parts of it have an extent.
BOXES = """() => [...document.querySelectorAll("svg")].map(svg => {
    const box = svg.getBoundingClientRect();
    const parts = [...svg.querySelectorAll("path, use, text")].filter(part => {
        const own = part.getBoundingClientRect(); return own.width + own.height > 0; });
    let heading = svg.closest("figure");
    while (heading && !/^H[23]$/.test(heading.tagName)) heading = heading.previousElementSibling;
    return {width: box.width, height: box.height, parts: parts.length, label: svg.getAttribute("aria-label"),
        title: heading && heading.innerText};
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
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two sweeps, some of whose trials were pruned and some failed.

    In the first of 300 trials Adam is best at low learning rates, and it had finals; the second has two objectives, a
    constraint and a regression to look at.
    """
    folder = tmp_path_factory.mktemp("report")
    record, spec, trials, reports = ended(300)
    reports = {t.number: along(t, reports.get(t.number, [])) for t in trials}
    trials = [replace(t, value=planted(t)) if t.value is not None else t for t in trials]
    first, second, third = (t.number for t in ranked(spec, trials)[:3])
    finals = outcome({first: [0.10, 0.12, 0.11, 0.13], second: [0.11, 0.10, 0.12, 0.12], third: [0.3, 0.32, 0.31, 0.3]})
    record = replace(record, summary={"finals": finals})
    check = trained("digits").check(finals["leaders"][0])
    flows = {t.number: [flow(t, epoch) for epoch in range(3)] for t in trials}
    answered = write_report(record, spec, trials, reports, folder / "answered.html", check=check, flows=flows)
    record, spec, trials, reports = ended(
        60, objectives=[{"metric": "val_loss"}, {"metric": "parameters"}], constraints=["val_accuracy >= 0.85"]
    )
    trials = [
        replace(t, metrics={**t.metrics, "parameters": 1000.0 + 50_000 / (1 + 10 * t.metrics["val_loss"])})
        for t in trials
        if t.metrics
    ]
    check = trained("diabetes").check(ranked(spec, trials)[0].number)
    compromise = write_report(record, spec, trials, reports, folder / "compromise.html", check=check)
    return {"answered": answered, "compromise": compromise}


def ended(count: int, **sections: Any) -> tuple[SweepRecord, SweepSpec, list[TrialRecord], dict[int, Any]]:
    ledger, spec = MemoryLedger(), spec_of(trials=count, **sections)
    sweep = new_sweep(ledger, spec).sweep
    states = dict.fromkeys(range(0, count, 7), TrialState.PRUNED) | dict.fromkeys(
        range(1, count, 50), TrialState.FAILED
    )
    end_trials(ledger, sweep, range(count), states)
    ledger.commit(sweep, [SweepChanged(state=SweepState.COMPLETE, at=BEGAN + 1000)])
    return ledger.sweep(sweep), spec, ledger.trials(sweep), ledger.reports(sweep)


def flow(trial: TrialRecord, epoch: int) -> FlowReport:
    """Three layers, of which the first gets little when the initialization is too small."""
    assert trial.params is not None
    share = 1e-5 if trial.params["initialization"] == "normal" else 0.5
    lost = {"relu": "dead"}.get(trial.params["activation"], "saturated")
    same = {"weight_norm": 5.0, "update_ratio": 1e-3, "activation_mean": 0.1, "activation_std": 0.5}
    hidden = {**same, lost: 0.1 + 0.01 * epoch}
    layers = ({"grad_norm": share, **hidden}, {"grad_norm": 0.7, **hidden}, {"grad_norm": 1.0, **same})
    return FlowReport(epoch, layers, clip_rate=0.2)


def along(trial: TrialRecord, reports: list[EpochReport]) -> list[EpochReport]:
    """The trial's epochs, so that they lead to its planted value."""
    if trial.value is None:
        return reports
    share = planted(trial) / trial.value
    return [replace(r, metrics={**r.metrics, "val_loss": r.metrics["val_loss"] * share}) for r in reports]


def planted(trial: TrialRecord) -> float:
    """The trial's value, with an interaction of the optimizer with the learning rate."""
    assert trial.params is not None
    assert trial.value is not None
    adam = trial.params["optimizer"] == "adam"
    return trial.value * math.exp(adam * (math.log10(trial.params["learning_rate"]) + 2.5))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 400])
@pytest.mark.parametrize("name", ["answered", "compromise"])
def test_the_page_shows_its_sections_and_pictures(
    pages: dict[str, Path], browser: Any, name: str, scheme: str, width: int
) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(pages[name].as_uri())
    assert page.locator("h1").inner_text() == "demo"
    assert page.locator("h2").all_inner_texts() == HEADINGS[name]
    levels = [int(tag[1]) for tag in page.evaluate(LEVELS)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for place, words in SAID[name].items():
        assert words in page.locator(place).inner_text()
    boxes = page.evaluate(BOXES)
    assert [box["title"] for box in boxes if box["title"] in PICTURES[name]] == PICTURES[name]
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
        page.screenshot(path=str(Path(folder) / f"report-{name}-{scheme}-{width}.png"), full_page=True)
    context.close()
