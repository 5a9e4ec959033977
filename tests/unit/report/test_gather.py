"""A report is gathered from the ledger and the sweep's folder, and whatever is missing there is told in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.errors import SweepNotFound
from sweeper.insight.basis import MAX_CURVES, sample
from sweeper.insight.winner_check import from_json
from sweeper.ledger.memory import MemoryLedger
from sweeper.records import Ended, EpochReport, Reported, Started, Suggested, SweepChanged
from sweeper.report import gather, page
from sweeper.report.gather import CHECK, FILE, make_report
from sweeper.running.open_sweep import report_at_end
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun
from sweeper.states import SweepState, TrialState
from tests.ended_sweeps import BEGAN, end_trials, new_sweep, spec_of
from tests.winners import PARAMS, Trained, trained


def sweep_with_winner(winner: Trained, fingerprint: str | None = None) -> tuple[MemoryLedger, str]:
    """A complete sweep of one trial: the given one."""
    ledger = MemoryLedger()
    stored = {**winner.spec.to_json(), "fingerprint": fingerprint or winner.dataset.fingerprint}
    sweep = ledger.create_sweep("demo", stored, 1).sweep
    last = winner.history.val_loss[-1]
    changes = [
        SweepChanged(state=SweepState.RUNNING, at=BEGAN),
        Suggested(0, PARAMS, seed=0),
        Started(0, 1, "worker-0", BEGAN),
        Reported(0, 1, (EpochReport(0, {"val_loss": last}),)),
        Ended(0, 1, TrialState.COMPLETE, "finished", last, BEGAN + 1),
        SweepChanged(state=SweepState.COMPLETE, at=BEGAN + 2),
    ]
    assert not ledger.commit(sweep, changes)
    return ledger, sweep


def text_of(ledger: MemoryLedger, folder: Path, sweep: str, **options: Any) -> str:
    file, verdict = make_report(ledger, folder, sweep, **options)
    text = file.read_text(encoding="utf-8")
    assert verdict in text
    return text


def test_without_a_kept_check_the_winner_is_trained_again(tmp_path: Path) -> None:
    ledger, sweep = sweep_with_winner(trained("iris"))
    text = text_of(ledger, tmp_path, sweep)
    assert "Trial 0 on the validation split" in text
    assert "Expected calibration error" in text
    assert "were not stored" in text_of(ledger, tmp_path, sweep, train=False)


def test_a_report_of_data_that_has_changed_shows_no_predictions(tmp_path: Path) -> None:
    ledger, sweep = sweep_with_winner(trained("iris"), fingerprint="another")
    assert "the data has changed since this sweep" in text_of(ledger, tmp_path, sweep)


def test_a_report_of_data_that_is_gone_says_so(tmp_path: Path) -> None:
    winner = trained("iris")
    gone = winner.spec.dataset.model_copy(update={"path": str(tmp_path / "gone.csv"), "name": None, "target": "y"})
    ledger, sweep = sweep_with_winner(replace(winner, spec=winner.spec.model_copy(update={"dataset": gone})))
    text = text_of(ledger, tmp_path, sweep)
    assert "Its predictions cannot be shown" in text
    assert "gone.csv" in text
    assert "is the best of 1 complete trial" in text


def test_the_epochs_of_a_large_sweep_are_sampled_and_the_best_are_among_them() -> None:
    count = MAX_CURVES + 300
    ledger, spec = MemoryLedger(), spec_of(trials=count)
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(count), epochs=2)
    record, trials = ledger.sweep(sweep), ledger.trials(sweep)
    curves = gather.drawn_reports(ledger, record, spec, trials)
    best = {trial.number for trial in ledger.best(sweep, 50)}
    assert best <= curves.keys()
    assert len(curves.keys() - best) == MAX_CURVES - len(best & {trial.number for trial in sample(trials)})
    assert all(curves[number] == ledger.reports(sweep, number)[number] for number in best)


def test_the_report_of_a_large_sweep_is_the_same_without_the_metrics_that_it_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, spec = MemoryLedger(), spec_of(trials=12)
    sweep = new_sweep(ledger, spec).sweep
    states = {3: TrialState.PRUNED, 5: TrialState.FAILED, 7: TrialState.STOPPED}
    end_trials(ledger, sweep, range(12), states)
    monkeypatch.setattr(page, "_when", lambda seconds: "now")  # a minute may begin between the two
    whole = text_of(ledger, tmp_path, sweep, train=False)
    monkeypatch.setattr(gather, "LARGE", 10)
    monkeypatch.setattr(gather, "PAGE", 5)
    found = gather.trials_of(ledger, ledger.sweep(sweep), spec)
    assert [trial.number for trial in found] == list(range(12))
    assert sum(len(trial.metrics) > 1 for trial in found) == 1, "the winner's"
    assert text_of(ledger, tmp_path, sweep, train=False) == whole


def test_an_unknown_sweep_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(SweepNotFound):
        make_report(MemoryLedger(), tmp_path, "nothing")


class Shown:
    """What a tracker was given."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def log_report(self, html: str) -> None:
        self.pages.append(html)


def ended_run(ledger: MemoryLedger, sweep: str, winner: Trained) -> SweepRun:
    run = SweepRun(ledger.sweep(sweep), winner.spec, winner.dataset, make_study(winner.spec, winner.dataset))
    run.suggested(0, PARAMS)
    return run


def test_at_the_end_the_check_is_kept_and_the_page_goes_to_mlflow(tmp_path: Path) -> None:
    winner = trained("iris")
    ledger, sweep = sweep_with_winner(winner)
    shown, events = Shown(), {}
    run = ended_run(ledger, sweep, winner)
    report_at_end(run, winner.kept(), ledger, shown, tmp_path, events.__setitem__)  # type: ignore[arg-type]
    assert list(events) == ["report.written"]
    assert events["report.written"]["file"] == str(tmp_path / FILE)
    assert shown.pages == [(tmp_path / FILE).read_text(encoding="utf-8")]
    assert from_json((tmp_path / CHECK).read_text()) == winner.check(0)
    assert "were not stored" not in text_of(ledger, tmp_path, sweep, train=False)


def test_a_report_that_fails_is_an_event_and_no_failure(tmp_path: Path) -> None:
    winner = trained("iris")
    ledger, sweep = sweep_with_winner(winner)
    (tmp_path / "file").write_text("")
    shown, events = Shown(), {}
    run = ended_run(ledger, sweep, winner)
    report_at_end(run, winner.kept(), ledger, shown, tmp_path / "file" / "in", events.__setitem__)  # type: ignore[arg-type]
    assert list(events) == ["report.failed"]
    assert events["report.failed"]["reason"]
    assert shown.pages == []


def test_a_sweep_that_goes_on_has_a_report_without_predictions(tmp_path: Path) -> None:
    ledger, spec = MemoryLedger(), spec_of(trials=6)
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4))
    text = text_of(ledger, tmp_path, sweep)
    assert "once the sweep has ended" in text
    assert "is the best of 4 complete trials" in text
