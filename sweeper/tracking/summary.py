"""What is known only of a whole sweep, as metrics and words of MLflow runs: its winner, its finals, its front."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sweeper.insight.baselines import read_baselines
from sweeper.insight.calibration import read_calibration
from sweeper.insight.ensemble import read_ensemble
from sweeper.insight.finals import FinalistRow, read_finals
from sweeper.insight.pareto import best_first
from sweeper.insight.test_rows import WinnerTest, read_test
from sweeper.models.metric_names import TRAINED
from sweeper.records import SweepRecord, TrialRecord
from sweeper.text import from_to, number, shown
from sweeper.tracking.entries import Point, clean_key, milliseconds
from sweeper.tracking.view import FINAL_METRICS

if TYPE_CHECKING:
    from sweeper.spec.parse import SweepSpec


def finalists(sweep: SweepRecord) -> list[int]:
    """The trials that were trained again, those that lead first."""
    finals = read_finals(sweep)
    return [] if finals is None else list(dict.fromkeys([*finals.leaders, *(row.trial for row in finals.standings)]))


def best_of(trials: Iterable[TrialRecord], spec: SweepSpec) -> TrialRecord | None:
    """The first of ``pareto.best_first``, without keeping the others."""
    best: list[TrialRecord] = []
    for trial in trials:
        best = best_first([*best, trial], spec)[:1]
    return best[0] if best else None


def final_points(sweep: SweepRecord) -> Iterator[tuple[int, list[Point]]]:
    """What each finalist's run gets besides: mean and interval of the test metric for new rows."""
    finals = read_finals(sweep)
    for row in () if finals is None else finals.standings:
        yield row.trial, _points(sweep, _final_metrics(row))


def sweep_points(sweep: SweepRecord, best: TrialRecord | None) -> list[Point]:
    """The parent run's summary metrics: time, the winner's last metrics, and how the leader did in the finals."""
    values: dict[str, Any] = {"seconds": sweep.seconds}
    if best is not None:
        values |= {f"winner_{name}": value for name, value in best.metrics.items()}
    finals = read_finals(sweep)
    if finals is not None and best is not None and (row := finals.row(best.number)) is not None:
        values |= _final_metrics(row)
    if (ensemble := read_ensemble(sweep)) is not None:
        values |= {"ensemble_size": ensemble.size, "ensemble_gain": ensemble.gain}
    if (calibration := read_calibration(sweep)) is not None:
        values |= {"winner_temperature": calibration.temperature}
    if (baselines := read_baselines(sweep)) is not None:
        values |= {f"winner_test_{name}": value for name, value in baselines.test.items() if name not in TRAINED}
        shown = {baselines.metric, *TRAINED}
        for simple in baselines.rows:
            values |= {f"baseline_{simple.method}_{name}": simple.test[name] for name in shown if name in simple.test}
    return _points(sweep, values)


def description(sweep: SweepRecord, spec: SweepSpec, best: TrialRecord | None, shown: str = "") -> str:
    """The parent run's description in Markdown: the answer, and where to look.

    ``shown`` says which trials have runs, where not all have.
    """
    counts = ", ".join(f"{count:,} {state}" for state, count in sweep.counts.items() if count)
    lines = [f"**{sweep.name}**: {counts} of {sweep.requested:,} trials."]
    if best is not None and best.value is not None:
        lines += ["", f"Best: trial {best.number}, {spec.objective.metric} = {best.value:.6g}", ""]
        lines += ["| parameter | value |", "|---|---|"]
        lines += [f"| {_cell(name)} | {_cell(value)} |" for name, value in (best.params or {}).items()]
    if (finals := read_finals(sweep)) is not None:
        lines += ["", f"Finals on fresh seeds and {finals.rows:,} test rows: {_cell(finals.sentence)}."]
    if (ensemble := read_ensemble(sweep)) is not None:
        shares = ", ".join(f"{member.trial} ({member.share:.0%})" for member in ensemble.members)
        lines += ["", f"{_cell(ensemble.sentence)}. Members: {shares}."]
    if (calibration := read_calibration(sweep)) is not None:
        lines += ["", f"{_cell(calibration.sentence)}."]
    if (tested := read_test(sweep)) is not None:
        lines += ["", f"The kept model on {tested.rows:,} test rows: {', '.join(_scored(tested))}."]
    if (baselines := read_baselines(sweep)) is not None:
        lines += ["", _cell(baselines.sentence) + "."]
    lines += ["", shown] if shown else []
    lines += ["", f"The runs below it are its trials; the view *{sweep.name} ({sweep.sweep})* compares them."]
    return "\n".join(lines)


def _scored(tested: WinnerTest) -> list[str]:
    """Each score that has an interval, with it."""
    return [f"{name} {number(tested.scores[name])} ({from_to(*bounds)})" for name, bounds in tested.intervals.items()]


def _final_metrics(row: FinalistRow) -> dict[str, float]:
    return {name: getattr(row, name.removeprefix("final_")) for name in FINAL_METRICS}


def _points(sweep: SweepRecord, values: Mapping[str, Any]) -> list[Point]:
    """One value each, at the sweep's end: written again, they are the same."""
    at = milliseconds(sweep.ended_at or sweep.created_at)
    kept = {name: float(value) for name, value in values.items() if value is not None}
    return [Point(clean_key(name), value, at, 0) for name, value in kept.items() if math.isfinite(value)]


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return shown(text, 300).replace("|", "\\|").rstrip(".")
