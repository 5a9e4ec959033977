"""Tables and closing words on a terminal."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweeper.cli.progress import short
from sweeper.insight.baselines import CALLED, BaselineOutcome, scores_in_words
from sweeper.insight.ensemble import EnsembleOutcome
from sweeper.insight.finals import FinalsOutcome
from sweeper.insight.results import COUNTED, failures
from sweeper.records import TrialRecord
from sweeper.text import counted, from_to, number

if TYPE_CHECKING:
    from rich.console import Console

    from sweeper.spec.parse import SweepSpec

SWEEP_FILE = """\
# A sweep: which data, which search space, how to train, what to optimise.
dataset: {table}
# add task: classification or regression to dataset when the target column leaves it open
{split}
normalize: standard              # standard | minmax | quantile | robust | none
# inputs: {{numeric_embedding: piecewise_linear, bins: 16}}  # numbers as shares of bins; a space may search it, too
space: {space}  # `sweeper spaces` lists them; or your own YAML file, or my_space.py:function
training:
{training}
  clip_norm: 1.0                 # largest gradient norm; null: no clipping
  plateau: {{factor: 0.5, patience: 3, min_lr: 1.0e-6}}
objective: {{metric: val_loss, direction: minimize}}
# objectives: [{{metric: val_loss}}, {{metric: parameters}}]   # instead of objective: the trade-off between several
# constraints: ["val_accuracy >= 0.9"]                     # the winner must satisfy them
search: {{sampler: tpe, trials: 64, seed: 0}}
# more of search: `from: SWEEP` learns from an earlier sweep; `enqueue: [{{learning_rate: 3.0e-4}}]` runs points first
"""


TRAINING = """\
  epochs: 20
  batch_size: 64                 # full = batch gradient descent, 1 = stochastic; a space may search it, too"""
OWN_TRAINING = """\
  epochs: 100                    # at most; the space says the batch size
  patience: 16                   # a trial ends after so many epochs without a better one"""
SPLIT = "split: {validation: 0.2, test: 0.2, seed: 0}"
FOLDS = """\
# few rows: each of them that is no test row validates once, and a trial is the mean of its folds' five networks
split: {folds: 5, test: 0.2, seed: 0}      # or {validation: 0.2, test: 0.2, seed: 0}: one network a trial"""
OWN_WINNER = "winner: ensemble                 # several trials together; best: one of them\n"


def sweep_file(dataset: Mapping[str, str], few: bool = False) -> str:
    """A sweep file to start from, with comments, of a table of one's own with ``few`` rows in folds.

    Names and paths may hold any sign: YAML's own writer quotes them.
    """
    import yaml

    table = yaml.safe_dump(dict(dataset), default_flow_style=True, allow_unicode=True, sort_keys=False, width=10_000)
    own = "path" in dataset  # a table of one's own
    space, training = ("tabular", OWN_TRAINING) if own else ("mlp", TRAINING)
    split = FOLDS if few else SPLIT
    made = SWEEP_FILE.format(table=table.strip(), split=split, space=f"{space:24}", training=training)
    return f"{made}{OWN_WINNER}" if own else made


def _console(stream: Any = None) -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "160"))
    return Console(file=stream, width=width, highlight=False)


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows with the same keys as a table on stdout."""
    from rich.table import Table

    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for i, key in enumerate(rows[0]):
        drawn.add_column(str(key), overflow="fold", no_wrap=i == 0)  # the first one says what a row is about
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row.values()))
    _console().print(drawn)


def mapping(data: Mapping[str, Any]) -> None:
    """Keys and values, one pair a line, on stdout."""
    from rich.table import Table

    drawn = Table(box=None, show_header=False, pad_edge=False)
    drawn.add_column(style="bold")
    drawn.add_column(overflow="fold")
    for key, value in data.items():
        drawn.add_row(str(key), _cell(value))
    _console().print(drawn)


def trials(found: Sequence[TrialRecord], metric: str) -> None:
    """Trials as a table: number, state, value, epochs, parameters, reason."""
    if not found:
        print("no trials")
        return
    rows = []
    for t in found:
        row = {"trial": t.number, "state": str(t.state), metric: t.value, "epochs": t.epochs}
        rows.append({**row, "parameters": short(t.params or {}), "reason": t.reason})
    table(rows)


def front(found: Sequence[TrialRecord], spec: SweepSpec) -> None:
    """The trials of a Pareto front: their objectives, what the constraints are on, and their parameters."""
    goals = {goal.metric: goal.direction for goal in spec.objectives}
    others = [limit.metric for limit in spec.constraints if limit.metric not in goals]
    count = "one trial" if len(found) == 1 else f"{len(found)} trials"
    print(f"Pareto front: {count} that no other trial beats in all of {', '.join(goals)}")
    rows = []
    for t in found:
        metrics = {name: t.metrics.get(name) for name in (*goals, *dict.fromkeys(others))}
        rows.append({"trial": t.number, **metrics, "parameters of the trial": short(t.params or {})})
    table(rows)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return escape(short(value))
    if isinstance(value, list):
        return escape("\n".join(short(v) if isinstance(v, Mapping) else str(v) for v in value)) or "-"
    return escape(str(value))


def _finals(finals: FinalsOutcome) -> list[str]:
    """The outcome of the finals: the sentence, and every finalist with its interval."""
    where = f"{counted(len(finals.seeds), 'fresh seed')} and {counted(finals.rows, 'test row')}"
    if finals.folds is not None:
        where = f"{finals.folds} folds of {finals.rows:,} rows, {counted(len(finals.seeds), 'training')} each"
    lines = [f"finals on {where}:"]
    lines.append(f"  {finals.sentence}")
    for row in finals.standings:
        if not math.isfinite(row.mean):
            lines.append(f"  trial {row.trial:<5d} diverged on {row.diverged} of them")
            continue
        bounds = f"  95% {from_to(row.low, row.high)}" if math.isfinite(row.low) else ""
        chance = f"best with probability {row.probability_best:.2f}"
        lines.append(f"  trial {row.trial:<5d} {finals.metric} {number(row.mean)}{bounds}  {chance}")
    if finals.interval:
        lines.append(f"  intervals hold {finals.interval}")
    if finals.next_step:
        lines.append(f"  {finals.next_step}")
    return lines


def _baselines(outcome: BaselineOutcome, winner: str) -> list[str]:
    """The kept model's score on the test rows beside those of simple models, and what that means."""
    lines = [f"on the test rows: {winner:20s} {scores_in_words(outcome, outcome.test)}"]
    for row in outcome.rows:
        what = f"failed: {row.problem}" if row.problem else f"{scores_in_words(outcome, row.test)}, {row.seconds:.1f} s"
        lines.append(f"  {CALLED[row.method]:36s} {what}")
    return [*lines, f"  {outcome.sentence}"]


def _tested(scores: Mapping[str, float], intervals: Mapping[str, Sequence[float]]) -> str:
    """The kept model on the test rows, with the intervals that are known."""
    parts = []
    for name, value in scores.items():
        if name in intervals:
            low, high = intervals[name]
            parts.append(f"{name} {number(value)} ({from_to(low, high)})")
    return f"the kept model on the test rows, with 95% intervals for new rows: {', '.join(parts)}"


def closing(
    summary: Mapping[str, Any],
    spec: SweepSpec,
    found: Sequence[TrialRecord],
    warnings: Sequence[str],
    link: str,
    option: str = "",
) -> None:
    """The winner, what failed and why, and what to do next.

    ``option`` ends every command; ``link`` is empty where MLflow has no UI.
    """
    sweep, seconds = summary["sweep"], summary["seconds"]
    counts = ", ".join(f"{summary[state]} {state}" for state in COUNTED if summary[state])
    rate = sum(summary[s] for s in COUNTED) / seconds if seconds else 0.0
    lines = [f"sweep {sweep} ({summary['name']}) is {summary['state']}: {counts} of {summary['requested']} trials"]
    lines[0] += f" in {seconds:.1f} s ({rate:.1f} trials/s)"
    best = summary["best"]
    if best is not None:
        metrics = {k: v for k, v in best["metrics"].items() if v is not None}
        title = "best of the search" if summary.get("finals") else "winner"
        chosen = " (on the validation rows, which chose it)" if spec.objective.metric.startswith("val_") else ""
        lines += ["", f"{title}: trial {best['trial']}, {spec.objective.metric} = {best['value']:.6g}{chosen}"]
        width = max(map(len, best["params"]), default=0)
        lines += [f"  {name:{width}s}  {_plain(value)}" for name, value in best["params"].items()]
        lines += [f"  {short(metrics)}"]
    if (finals := summary.get("finals")) is not None:
        lines += ["", *_finals(FinalsOutcome.from_json(finals))]
    if (ensemble := summary.get("ensemble")) is not None:
        lines += ["", EnsembleOutcome.from_json(ensemble).sentence]
    if (calibration := summary.get("calibration")) is not None:
        lines += ["", calibration["sentence"]]
    if (baselines := summary.get("baselines")) is not None:
        outcome = BaselineOutcome.from_json(baselines)
        lines += ["", *_baselines(outcome, f"trial {outcome.trial}" if ensemble is None else "the kept model")]
    if (tested := summary.get("test")) is not None:
        lines += ["", _tested(tested, summary["test_intervals"])]
    failed = failures(list(found))
    if failed:
        lines += ["", "failed: " + ", ".join(f"{count} {kind}" for kind, count in failed.items())]
    lines += ["", *(f"note: {warning}" for warning in warnings)] if warnings else []
    lines += ["", "next:"]
    hints = {
        **({f"sweeper ui {sweep}{option}": "compare all trials in the MLflow UI:", f"  {link}": ""} if link else {}),
        f"sweeper report {sweep}{option}": "the full report as one HTML page",
        **({f"sweeper best {sweep}{option}": "the Pareto front of all objectives"} if len(spec.objectives) > 1 else {}),
        f"sweeper trials {sweep} --sort value{option}": "every trial, best first",
        "sweeper init sweep.yaml --dataset data.csv": "a sweep file for your own data",
    }
    lines += [f"  {command:44s} {what}".rstrip() for command, what in hints.items()]
    print("\n".join(lines))


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
