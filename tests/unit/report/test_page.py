"""The report is one well-formed page that loads nothing, escapes everything and stays small."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sweeper.cli import commands
from sweeper.errors import SweeperError
from sweeper.insight.advice import ranked
from sweeper.insight.pareto import pareto_front
from sweeper.ledger.memory import MemoryLedger
from sweeper.ledger.opening import open_home_ledger
from sweeper.records import EpochReport, SweepChanged, SweepRecord, TrialRecord
from sweeper.report.page import verdict_of, write_report
from sweeper.settings import Settings
from sweeper.spec.parse import SweepSpec
from sweeper.states import Cause, SweepState, TrialState
from tests.ended_sweeps import BEGAN, EPOCHS, end_trials, new_sweep, spec_of
from tests.finals_outcome import outcome

VOID = {"meta", "link", "br", "img", "input", "hr"}
Ended = tuple[SweepRecord, SweepSpec, list[TrialRecord], dict[int, list[EpochReport]]]


class Page(HTMLParser):
    """Collects elements and refuses a page whose tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def ended(count: int, epochs: int = EPOCHS, **sections: object) -> Ended:
    """A sweep of so many trials, some of them pruned, failed and stopped."""
    ledger, spec = MemoryLedger(), spec_of(trials=count, **sections)
    sweep = new_sweep(ledger, spec).sweep
    states = dict.fromkeys(range(0, count, 7), TrialState.PRUNED) | dict.fromkeys(
        range(1, count, 50), TrialState.FAILED
    )
    end_trials(ledger, sweep, range(count), states | {2: TrialState.STOPPED}, epochs)
    ledger.commit(sweep, [SweepChanged(state=SweepState.COMPLETE, at=BEGAN + 1000)])
    return ledger.sweep(sweep), spec, ledger.trials(sweep), ledger.reports(sweep)


def written(sweep: Ended, folder: Path) -> str:
    return write_report(*sweep, folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("count", [10, 10_000])
def test_small_and_large_sweeps_give_a_well_formed_page_with_described_pictures(count: int, tmp_path: Path) -> None:
    text = written(ended(count, epochs=4), tmp_path)
    page = Page(text)
    pictures = [attrs for tag, attrs in page.elements if tag == "svg"]
    assert len(pictures) >= 5
    assert all(attrs["role"] == "img" and len(attrs["aria-label"] or "") > 20 for attrs in pictures)
    assert not [tag for tag, _ in page.elements if tag in ("img", "script", "iframe", "object")]
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for tag, attrs in page.elements if tag == "a"]
    assert all(link is not None and link.removeprefix("#") in ids for link in links)
    assert len(text.encode()) < 2_000_000
    for title in ("Answer", "Questions", "What to try next", "How the sweep went", "Reproduce"):
        assert f">{title}</h2>" in text


def test_the_page_loads_nothing_from_a_network(tmp_path: Path) -> None:
    text = written(ended(60), tmp_path)
    page = Page(text)
    for tag, attrs in page.elements:
        for name in ("src", "href", "xlink:href", "data", "srcset"):
            value = attrs.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_answer_comes_first_and_is_the_ledgers_best(tmp_path: Path) -> None:
    sweep = ended(60)
    text = written(sweep, tmp_path)
    best = min((t for t in sweep[2] if t.state is TrialState.COMPLETE), key=lambda t: t.value or 0.0)
    verdict = verdict_of(sweep[0], sweep[1], sweep[2])
    assert verdict == f"Trial {best.number} is the best of 48 complete trials: val_loss {best.value:.4g}."
    assert text.index(verdict) < text.index("<svg")
    assert "not re-tested" in text


def test_finals_give_the_first_sentence_and_the_winner(tmp_path: Path) -> None:
    record, spec, trials, reports = ended(60)
    ranking = [t.number for t in ranked(spec, trials)]
    finals = outcome({ranking[0]: [0.30, 0.31, 0.32, 0.30], ranking[3]: [0.10, 0.11, 0.12, 0.10]})
    record = replace(record, summary={"finals": finals})
    text = written((record, spec, trials, reports), tmp_path)
    Page(text)
    verdict = verdict_of(record, spec, trials)
    assert verdict.startswith(f"Trial {ranking[3]} wins: test_loss 0.1075")
    assert text.index(verdict) < text.index("<svg")
    assert f"<h3>Trial {ranking[3]}: parameters" in text
    assert f"The best trial of the search, {ranking[0]}, comes second." in text
    assert f"<td>{ranking[3]}</td><td>{ranking[0]}</td><td>-0.2</td>" in text
    assert f"Sweep file of the winner alone (trial {ranking[3]}, seed" in text


def test_with_replicates_the_values_are_said_to_be_means(tmp_path: Path) -> None:
    sweep = ended(20, training={"replicates": 3})
    text = written(sweep, tmp_path)
    assert "every value is the mean over 3 seeds" in text
    assert "mean val_loss of 3 seeds" in verdict_of(*sweep[:3])


def test_a_trial_that_breaks_a_constraint_does_not_win(tmp_path: Path) -> None:
    record, spec, trials, reports = ended(60, constraints=["val_accuracy <= 0.9"])
    free = [t for t in trials if t.state is TrialState.COMPLETE and t.metrics["val_accuracy"] <= 0.9]
    best = min(free, key=lambda t: t.value or 0.0)
    verdict = verdict_of(record, spec, trials)
    assert verdict.startswith(f"Trial {best.number} is the best of {len(free)} complete trials that satisfy every")
    text = written((record, spec, trials, reports), tmp_path)
    Page(text)
    assert f"{len(free)} of 48 complete trials satisfy every constraint." in text
    assert f"<td>val_accuracy &lt;= 0.9</td><td>{48 - len(free)}</td>" in text


def test_when_every_trial_breaks_a_constraint_the_closest_one_is_named(tmp_path: Path) -> None:
    sweep = ended(20, constraints=["val_accuracy >= 0.999"])
    assert "No trial satisfies every constraint. Trial " in verdict_of(*sweep[:3])
    Page(written(sweep, tmp_path))


def test_several_objectives_have_a_front_from_the_best_in_one_to_the_best_in_the_other(tmp_path: Path) -> None:
    record, spec, trials, reports = ended(60, objectives=[{"metric": "val_loss"}, {"metric": "parameters"}])
    trials = [replace(t, metrics={**t.metrics, "parameters": float(1000 + t.number)}) for t in trials]
    front = pareto_front(trials, spec)
    text = written((record, spec, trials, reports), tmp_path)
    Page(text)
    verdict = verdict_of(record, spec, trials)
    assert verdict.startswith(f"{len(front)} trials are the best compromises of val_loss and parameters: from trial ")
    assert f"to trial {front[-1].number} (" in verdict
    assert "minimize val_loss and minimize parameters" in text


def test_failures_are_counted_by_reason(tmp_path: Path) -> None:
    text = written(ended(60), tmp_path)
    assert "<td>failed</td><td>diverged: val_loss is not finite</td><td>2</td>" in text
    assert "<td>pruned</td><td>worse than the median of its rivals</td><td>9</td>" in text


def test_text_of_the_user_is_escaped(tmp_path: Path) -> None:
    record, spec, trials, reports = ended(40)
    evil = "<script>alert(1)</script>&\"'"
    record = replace(record, name=evil, spec={**record.spec, "name": evil})
    trials = [
        replace(t, reason=evil, params={**t.params, "activation": f"{evil}{t.number % 2}"}) for t in trials if t.params
    ]
    text = written(
        (record, spec.model_copy(update={"space": replace(spec.space, name=evil)}), trials, reports), tmp_path
    )
    Page(text)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in text


def test_a_sweep_without_any_complete_trial_says_so(tmp_path: Path) -> None:
    record, spec, trials, _ = ended(10)
    failed = [
        replace(t, state=TrialState.FAILED, value=None, reason="diverged: loss", cause=Cause.DIVERGED) for t in trials
    ]
    text = written((record, spec, failed, {}), tmp_path)
    Page(text)
    assert "there is no winner" in text
    assert "<svg" not in text
    assert "<td>10</td>" in text


def test_a_sweep_of_one_trial_without_reports_has_a_report(tmp_path: Path) -> None:
    record, spec, trials, _ = ended(10)
    [one] = [replace(t, number=0) for t in trials if t.number == 3]
    Page(written((record, spec, [one], {}), tmp_path))


def test_a_maximized_metric_and_a_fixed_space_have_a_report(tmp_path: Path) -> None:
    record, spec, trials, reports = ended(40, objective={"metric": "val_accuracy"})
    trials = [replace(t, value=t.metrics["val_accuracy"]) if t.value is not None else t for t in trials]
    text = written((record, spec, trials, reports), tmp_path)
    best = max(t.value for t in trials if t.value is not None)
    assert f"val_accuracy {best:.4g}." in text
    Page(text)


TWO_GOALS = {
    "objectives": [{"metric": "val_loss"}, {"metric": "parameters"}],
    "constraints": ["val_accuracy >= 0.5"],
    "finals": {"top": 3, "seeds": 4},
}


@pytest.mark.parametrize("sections", [{}, TWO_GOALS])
def test_the_sweep_file_in_the_report_is_the_sweeps(sections: dict[str, object], tmp_path: Path) -> None:
    import yaml

    from sweeper.spec.parse import load_spec

    sweep = ended(20, **sections)
    blocks = [unescape(b) for b in re.findall(r"<pre>(.*?)</pre>", written(sweep, tmp_path), flags=re.DOTALL)]
    assert len(blocks) == 2
    assert load_spec(yaml.safe_load(blocks[0])) == sweep[1]
    winner = load_spec(yaml.safe_load(blocks[1]))
    assert winner.search.trials == 1
    assert winner.space.continuous == ()


def test_the_command_writes_into_the_sweeps_folder_and_prints_one_json_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path))
    monkeypatch.delenv("SWEEPER_DATABASE_URL", raising=False)
    ledger, spec = open_home_ledger(Settings.from_env()), spec_of(trials=4)
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4))
    ledger.close()
    commands.report(sweep, None, as_json=True)
    printed = json.loads(capsys.readouterr().out)
    assert printed["sweep"] == sweep
    assert printed["report"] == str(tmp_path / "sweeps" / sweep / "report.html")
    assert printed["verdict"].startswith("Trial ")
    Page(Path(printed["report"]).read_text(encoding="utf-8"))


def test_a_report_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SweeperError, match="Choose another --out"):
        write_report(*ended(10), tmp_path / "file" / "report.html")
