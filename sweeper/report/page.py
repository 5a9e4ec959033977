"""The report of a sweep: one HTML file that needs no network, the answer first."""

from __future__ import annotations

import math
import platform
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from sweeper.errors import SweeperError
from sweeper.insight.advice import ranked
from sweeper.insight.answers import Reports
from sweeper.insight.baselines import CALLED, BaselineOutcome, read_baselines
from sweeper.insight.calibration import read_calibration
from sweeper.insight.data_notes import read_notes
from sweeper.insight.ensemble import EnsembleOutcome, read_ensemble
from sweeper.insight.factors import Table, build_table, label
from sweeper.insight.finals import FinalistRow, FinalsOutcome, Spread, percent, read_finals
from sweeper.insight.findings import Insight, study_trials
from sweeper.insight.fused import how_trained
from sweeper.insight.goals_view import Goals, goals_in_words, read_goals
from sweeper.insight.headline import Headline, duration, headline
from sweeper.insight.noise import noise_in
from sweeper.insight.test_rows import read_test
from sweeper.insight.winner_again import read_again
from sweeper.insight.winner_check import Check
from sweeper.records import FlowReport, SweepRecord, TrialRecord
from sweeper.report import effects, pareto
from sweeper.report import finals as final_plots
from sweeper.report import plots as drawings
from sweeper.report.gradients import gradient_section
from sweeper.report.schedule import schedule_picture
from sweeper.report.svg import Plot
from sweeper.report.winner import winner_plots, winner_sentences
from sweeper.spec.goals import values_of
from sweeper.spec.parse import SweepSpec
from sweeper.spec.phases import phases_in_words, schedule_in
from sweeper.spec.stored import fingerprint_of, sweep_file_of
from sweeper.states import TrialState
from sweeper.text import from_to, number

Flows = Mapping[int, Sequence[FlowReport]]
BEST_ROWS = 10
MAX_REASONS = 20
MAX_PAIRS = 15  # of finalists in a table; of more, those with the first
BETTER = {"winner": "the winner", "baseline": "the simple model", "neither": "cannot be told apart"}
PACKAGES = ("sweeper", "torch", "optuna", "ray", "mlflow", "sqlalchemy", "numpy", "scipy", "scikit-learn", "matplotlib")


@dataclass(frozen=True)
class Report:
    """Everything that the page shows, before it is HTML."""

    record: SweepRecord
    spec: SweepSpec
    head: Headline
    insight: Insight
    plots: Mapping[str, Plot]
    best: tuple[TrialRecord, ...]
    reasons: tuple[tuple[str, str, int], ...]
    finals: FinalsOutcome | None = None
    goals: Goals | None = None
    check: Check | str | None = None
    flow: Mapping[str, Any] | None = None
    baselines: BaselineOutcome | None = None
    ensemble: EnsembleOutcome | None = None
    fused: str = ""


def write_report(
    record: SweepRecord,
    spec: SweepSpec,
    trials: Sequence[TrialRecord],
    reports: Reports,
    out: Path,
    *,
    check: Check | str | None = None,
    flows: Flows | None = None,
) -> Path:
    """Write the report of a sweep to ``out`` and return it; folders are made as needed.

    ``reports`` and ``flows`` may be those of a sample of the trials. ``check`` is how the winner predicts, or why that
    is not known.

    Raises:
        SweeperError: the file cannot be written.
    """
    text = render_report(build_report(record, spec, trials, reports, check, flows))
    try:
        write_page(out, text)
    except OSError as error:
        raise SweeperError(f"the report cannot be written to {out}: {error.strerror}. Choose another --out") from error
    return out


def write_page(out: Path, text: str) -> None:
    """Write a page so that whoever reads the file at that time sees the old one or the new one, whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.exists() and not out.is_file():  # a pipe, or /dev/stdout
        out.write_text(text, encoding="utf-8")
        return
    part = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def verdict_of(record: SweepRecord, spec: SweepSpec, trials: Sequence[TrialRecord]) -> str:
    """The report's first sentence."""
    return headline(record, spec, trials, ranked(spec, trials), build_table(spec, trials)).verdict


def build_report(
    record: SweepRecord,
    spec: SweepSpec,
    trials: Sequence[TrialRecord],
    reports: Reports,
    check: Check | str | None = None,
    flows: Flows | None = None,
) -> Report:
    """What there is to say and to show of a sweep."""
    best_first, table = ranked(spec, trials), build_table(spec, trials)
    finals, goals = read_finals(record), read_goals(spec, trials)
    insight = study_trials(spec, trials, reports, noise=noise_in(record))
    head = headline(record, spec, trials, best_first, table)
    plots = [*_plots(spec, trials, best_first, table, insight, reports), schedule_picture(head.winner)]
    if finals is not None:
        plots += [final_plots.standings(finals), final_plots.selection_bias(finals, spec.objective.metric)]
    if goals is not None:
        plots.append(pareto.front_picture(spec, trials, goals))
    if check is not None and not isinstance(check, str):
        plots += winner_plots(check)
    flow = gradient_section(record, spec, trials, flows or {})
    if flow is not None:
        plots += flow["plots"]
    return Report(
        record,
        spec,
        head,
        insight,
        {plot.name: plot for plot in plots if plot is not None},
        tuple(best_first[:BEST_ROWS]),
        _reasons(trials),
        finals,
        goals,
        check,
        flow,
        read_baselines(record),
        read_ensemble(record),
        "" if spec.model is None else how_trained(trials),
    )


def template_of(name: str, **functions: Any) -> Template:
    """A page's template, to which these functions are known. Every text is escaped."""
    loader = PackageLoader("sweeper.report", "")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= functions
    return environment.get_template(name)


def render_report(report: Report) -> str:
    """The page. Every text is escaped; only the plots are markup."""
    template = template_of("page.html.j2", number=number, from_to=from_to)
    record, spec, winner = report.record, report.spec, report.head.winner
    sweep_file = sweep_file_of(record.spec)
    return template.render(
        report=report,
        record=record,
        data=read_notes(record),
        spec=spec,
        metric=spec.objective.metric,
        svg={name: Markup(plot.svg) for name, plot in report.plots.items()},  # noqa: S704 drawn by report_svg, escaped there
        winner=winner,
        winner_params={} if winner is None else {k: _shown(v) for k, v in (winner.params or {}).items()},
        winner_metrics={} if winner is None else {k: _shown(v) for k, v in winner.metrics.items()},
        schedule=[] if winner is None else phases_in_words(schedule_in(winner.attributes)),
        columns=_columns(report.best),
        rows=[_row(trial, _columns(report.best)) for trial in report.best],
        finals=None if report.finals is None else _finals(report.finals, spec),
        baselines=None if report.baselines is None else _baselines(report.baselines, _kept(report, report.baselines)),
        check=_check(report.check),
        tested=read_test(record),
        calibration=read_calibration(record),
        again=read_again(record),
        aim=goals_in_words(spec),
        front=[] if report.goals is None else _front(report.goals, spec),
        sweep_file=_yaml(sweep_file),
        winner_file="" if winner is None or schedule_in(winner.attributes) else _yaml(_winner_file(sweep_file, winner)),
        fingerprint=fingerprint_of(record) or "",
        versions={"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        written=_when(time.time()),
        began="" if record.started_at is None else _when(record.started_at),
        duration=duration,
    )


def _plots(
    spec: SweepSpec,
    trials: Sequence[TrialRecord],
    best_first: Sequence[TrialRecord],
    table: Table,
    insight: Insight,
    reports: Reports,
) -> list[Plot | None]:
    """Those that the sweep has data for."""
    if not best_first:
        return []
    return [
        drawings.history(spec, trials, best_first),
        drawings.learning_curves(spec, best_first, reports),
        drawings.parallel_coordinates(spec, table),
        drawings.gradient_norms(table, reports),
        effects.slices(table),
        effects.importance_bars(insight.importance),
        effects.choice_bars(insight.choices, insight.scale),
        effects.interaction_panels(insight.interactions, insight.scale),
    ]


def _reasons(trials: Sequence[TrialRecord]) -> tuple[tuple[str, str, int], ...]:
    """(state, reason, count) of trials that are not complete, the most frequent first."""
    unfinished = [t for t in trials if t.state is not TrialState.COMPLETE]
    counts = Counter((str(t.state), t.reason or "not ended") for t in unfinished)
    return tuple((state, reason, count) for (state, reason), count in counts.most_common(MAX_REASONS))


def _columns(best: Sequence[TrialRecord]) -> list[str]:
    """Parameters that differ among the best, in the order of the space."""
    names = dict.fromkeys(name for trial in best for name in trial.params or {})
    return [name for name in names if len({label((t.params or {}).get(name)) for t in best}) > 1]


def _row(trial: TrialRecord, columns: Sequence[str]) -> dict[str, Any]:
    params = trial.params or {}
    cells = [_shown(params[name]) if name in params else "–" for name in columns]
    return {"number": trial.number, "value": _shown(trial.value), "cells": cells, "seconds": number(trial.seconds, 2)}


def _finals(finals: FinalsOutcome, spec: SweepSpec) -> dict[str, Any]:
    """The tables of the finals as texts, and what they say of the search."""
    pairs = [pair for pair in finals.comparisons if pair.first == finals.standings[0].trial]
    names = list(dict.fromkeys(name for place in finals.standings for name in place.metrics))
    return {
        "bias": finals.bias(spec.objective.metric),
        "next_step": finals.next_step,
        "metrics": names,
        "standings": [_standing(place, names) for place in finals.standings],
        "pairs": finals.comparisons if len(finals.comparisons) <= MAX_PAIRS else pairs,
        "all_pairs": len(finals.comparisons),
    }


def _kept(report: Report, outcome: BaselineOutcome) -> str:
    """What the model that is kept is called."""
    return f"trial {outcome.trial}, the winner" if report.ensemble is None else "the kept model, an ensemble"


def _baselines(outcome: BaselineOutcome, winner: str) -> dict[str, Any]:
    """The table of the winner beside simple models as texts."""
    shown = [name for name in dict.fromkeys((outcome.metric, "accuracy", "rmse", "r2")) if name in outcome.test]
    pairs = {pair.method: pair for pair in outcome.pairs}

    def cells(validation: Mapping[str, float], test: Mapping[str, float]) -> list[str]:
        return [number(scores[name]) if name in scores else "–" for name in shown for scores in (validation, test)]

    rows = [{"name": winner, "cells": cells(outcome.validation, outcome.test)}]
    rows[0] |= dict.fromkeys(("seconds", "difference", "interval", "better"), "")
    for row in outcome.rows:
        pair = pairs.get(row.method)
        known = pair is not None and math.isfinite(pair.low)
        about = {
            "name": CALLED[row.method],
            "cells": cells(row.validation, row.test),
            "seconds": number(row.seconds, 2),
        }
        about["difference"] = "–" if pair is None else number(pair.difference, 3)
        about["interval"] = from_to(pair.low, pair.high, 3) if pair is not None and known else "–"
        about["better"] = row.problem or ("–" if pair is None else BETTER[pair.better])
        rows.append(about)
    return {"names": shown, "rows": rows}


def _standing(place: FinalistRow, metrics: Sequence[str]) -> dict[str, Any]:
    found = [place.metrics.get(name, Spread(math.nan, math.nan)) for name in metrics]
    return {
        "trial": place.trial,
        "mean": _spread(place.mean, place.deviation) if math.isfinite(place.mean) else "out",
        "interval": from_to(place.low, place.high) if math.isfinite(place.low) else "–",
        "probability": percent(place.probability_best) if math.isfinite(place.mean) else "–",
        "cost": f"{place.cost:,.0f}" if math.isfinite(place.cost) else "–",
        "diverged": place.diverged,
        "searched": _spread(place.search_value, math.nan),
        "validated": _spread(place.validation_mean, math.nan),
        "metrics": [_spread(one.mean, one.deviation) for one in found],
    }


def _spread(mean: float, deviation: float) -> str:
    """A mean with its standard deviation, if there is one: one seed has none."""
    if not math.isfinite(mean):
        return "–"
    return f"{number(mean)} ± {number(deviation, 2)}" if math.isfinite(deviation) else number(mean)


def _front(goals: Goals, spec: SweepSpec) -> list[dict[str, Any]]:
    """The rows of the front's table: objectives, then the parameters that differ among its trials."""
    columns = _columns(goals.shown)
    rows = [_row(trial, columns) for trial in goals.shown]
    values = [values_of(trial.metrics, spec.objectives) for trial in goals.shown]
    return [
        {**row, "columns": columns, "values": [number(value) for value in found]}
        for row, found in zip(rows, values, strict=True)
    ]


def _check(check: Check | str | None) -> dict[str, Any] | None:
    if check is None or isinstance(check, str):
        return None if check is None else {"trial": None, "sentences": [check]}
    return {"trial": check.trial, "sentences": winner_sentences(check)}


def _shown(value: Any) -> str:
    return number(value) if isinstance(value, float) else label(value)


def _winner_file(sweep_file: Mapping[str, Any], winner: TrialRecord) -> dict[str, Any]:
    """A sweep file that trains the winner alone: its parameters, its seed."""
    search = {"trials": 1, "sampler": "random", "seed": winner.seed}
    if sweep_file["objective"].get("function") is not None:
        return {**sweep_file, "search": {**search, "enqueue": [dict(winner.params or {})]}}
    return {**sweep_file, "space": dict(winner.params or {}), "search": search, "finals": None}


def _yaml(data: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)
    return text


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
