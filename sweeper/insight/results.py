"""The outcome of a sweep, as the plain data that the CLI prints and the Python API returns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from sweeper.insight.data_notes import read_notes
from sweeper.insight.winner_again import SUMMARY as AGAIN
from sweeper.ledger.protocol import Direction, LedgerReader
from sweeper.records import SweepRecord, TrialRecord
from sweeper.spec.goals import values_of_folds
from sweeper.spec.stored import spec_of
from sweeper.states import Cause, SweepState, TrialState

if TYPE_CHECKING:
    import pandas as pd

    from sweeper.spec.parse import SweepSpec

COUNTED = ("complete", "pruned", "failed", "stopped")


def direction_of(record: SweepRecord) -> Direction:
    """The direction of a sweep's objective."""
    direction: Direction = record.spec["objective"]["direction"]
    return direction


def best_trials(ledger: LedgerReader, record: SweepRecord, k: int) -> list[TrialRecord]:
    """The k best trials on the first objective: complete ones, or where there are none those that were stopped with a
    value. Those that satisfy the constraints come first.

    Where none does, the first is the one that is least beyond them: see ``pareto.feasible``.
    """
    if not record.spec.get("constraints"):
        return ledger.best(record.sweep, k, direction_of(record))
    from sweeper.insight.pareto import best_first

    return best_first(_with_answer(ledger, record), spec_of(record))[:k]


def _with_answer(ledger: LedgerReader, record: SweepRecord) -> list[TrialRecord]:
    """Trials among which are those with an answer."""
    complete = ledger.trials(record.sweep, state=TrialState.COMPLETE)
    return complete or ledger.trials(record.sweep, state=TrialState.STOPPED)


def end_of_search(ledger: LedgerReader, record: SweepRecord) -> str | None:
    """Why the search of a complete sweep has ended before its trials had: search.stop, or time that its finals need.

    None: it has not.
    """
    if record.state is not SweepState.COMPLETE or not record.counts.get(TrialState.STOPPED, 0):
        return None
    return why_enough(record, ledger.trial(record.sweep, record.requested - 1))


def why_enough(record: SweepRecord, last: TrialRecord) -> str | None:
    """The same, by the last trial."""
    stopped = record.state is SweepState.COMPLETE and last.state is TrialState.STOPPED
    return last.reason if stopped and last.cause is not Cause.EXHAUSTED else None


def finals_winner(record: SweepRecord) -> int | None:
    """The trial that leads in the finals: the one whose model is kept. None: there were no finals."""
    from sweeper.insight.finals import read_finals

    finals = read_finals(record)
    return None if finals is None or finals.winner is None else finals.winner.trial


def front_of(ledger: LedgerReader, record: SweepRecord) -> list[TrialRecord]:
    """The Pareto front of a sweep with several objectives; empty for one objective."""
    if "objectives" not in record.spec:
        return []
    from sweeper.insight.pareto import pareto_front

    return pareto_front(_with_answer(ledger, record), spec_of(record))


def clean(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list | tuple) else value


def trial_row(trial: TrialRecord) -> dict[str, Any]:
    """One entry of ``trials --json``."""
    return {
        "number": trial.number,
        "state": str(trial.state),
        "reason": trial.reason,
        "value": clean(trial.value),
        "attempts": trial.attempt,
        "epochs": trial.epochs,
        "params": dict(trial.params or {}),
        "metrics": clean(dict(trial.metrics)),
        "folds": clean(values_of_folds(trial.metrics)),
        "mlflow_run_id": trial.mlflow_run_id,
        "seconds": round(trial.seconds, 4),
    }


def best_row(trial: TrialRecord) -> dict[str, Any]:
    """A winner, as in ``run --json``; one that was stopped says so, with the epochs that it had."""
    row = trial_row(trial)
    found = {"trial": trial.number, "value": row["value"], "params": row["params"], "metrics": row["metrics"]}
    stopped = trial.state is TrialState.STOPPED
    return {**found, "state": row["state"], "epochs": row["epochs"]} if stopped else found


def stopped_warnings(spec: SweepSpec, best: Mapping[str, Any]) -> list[str]:
    """What to know of a winner, as ``best_row`` has it, that was stopped before it had all its epochs."""
    if best.get("state") != TrialState.STOPPED:
        return []
    of = f"{best['epochs']} of {spec.training.epochs} epochs"
    return [f"no trial was complete in time: the winner is the best of those under way, after {of}"]


def sweep_row(record: SweepRecord) -> dict[str, Any]:
    """One entry of ``list --json``."""
    row = {"sweep": record.sweep, "name": record.name, "state": str(record.state), "requested": record.requested}
    return {**row, **{state: int(record.counts.get(state, 0)) for state in COUNTED}}


def run_summary(ledger: LedgerReader, sweep: str, tracking_uri: str) -> dict[str, Any]:
    """The object of ``run --json``."""
    record = ledger.sweep(sweep)
    best = best_trials(ledger, record, 1)
    experiment = record.spec.get("tracking", {}).get("experiment") or record.name
    notes = read_notes(record)
    finals, baselines = record.summary.get("finals"), record.summary.get("baselines")
    ensemble, calibration = record.summary.get("ensemble"), record.summary.get("calibration")
    ended = end_of_search(ledger, record)
    return {
        **sweep_row(record),
        **({"ended": ended} if ended else {}),
        "seconds": round(record.seconds, 3),
        "best": best_row(best[0]) if best else None,
        **({} if notes is None else {"data": notes.to_json()}),
        **({"baselines": baselines} if baselines else {}),
        **({"finals": finals} if finals else {}),
        **({"ensemble": ensemble} if ensemble else {}),
        **({"calibration": calibration} if calibration else {}),
        **_tested(record),
        **({"again": record.summary[AGAIN]} if AGAIN in record.summary else {}),
        "mlflow": {"tracking_uri": tracking_uri, "experiment": experiment, "run_id": record.mlflow_run_id},
    }


def _tested(record: SweepRecord) -> dict[str, Any]:
    """The kept model's scores on the test rows by plain metric name, and intervals for new rows of some."""
    from sweeper.insight.test_rows import read_test

    tested = read_test(record)
    if tested is None:
        return {}
    return {"test": dict(tested.scores), "test_intervals": {k: list(v) for k, v in tested.intervals.items()}}


def failures(trials: list[TrialRecord]) -> dict[str, int]:
    """Failed trials by their cause, most frequent first."""
    failed = (trial for trial in trials if trial.state is TrialState.FAILED)
    return dict(Counter(str(trial.cause or "unknown") for trial in failed).most_common())


def why_none_succeeded(spec: SweepSpec, trials: list[TrialRecord]) -> str:
    """What a user can do about a sweep without one complete trial."""
    kinds = failures(trials)
    if not kinds:
        return "no trial is complete. Continue with `sweeper resume`"
    kind, count = next(iter(kinds.items()))
    if kind != "diverged":
        return (
            f"no trial succeeded: {count} of {len(trials)} failed with '{kind}'. `sweeper why SWEEP 0` has the details"
        )
    rates = [t.params["learning_rate"] for t in trials if t.params and "learning_rate" in t.params]
    advice = [f"try learning rates below {min(rates) / 10:.1g}" if rates else "lower the learning rate"]
    if spec.training.clip_norm is None:
        advice.append("limit the gradients with training.clip_norm: 1.0")
    if spec.normalize == "none":
        advice.append("normalise the inputs with normalize: standard")
    return f"no trial succeeded: {count} of {len(trials)} diverged. To fix it, {', '.join(advice)}"


def edge_warnings(spec: SweepSpec, params: Mapping[str, Any]) -> list[str]:
    """A sentence for every parameter of the winner that lies at the edge of its range."""
    if spec.space.is_function:
        return []
    sentences = []
    for edge in spec.space.edges(params):
        name, value, side, _ = edge
        end = "lower" if side == "low" else "upper"
        place = f"{name} = {value:g} lies at the {end} edge of its range"
        sentences.append(f"{place}; the report says whether the trials improve towards it")
    return sentences


def constraint_warnings(spec: SweepSpec, metrics: Mapping[str, Any]) -> list[str]:
    """What the winner does not satisfy: then no trial satisfies all constraints, and it is the nearest to it."""
    unmet = [str(constraint) for constraint in spec.constraints if constraint.excess(metrics) > 0]
    return [f"no trial satisfies all constraints; the winner is closest, missing {', '.join(unmet)}"] if unmet else []


def trial_frame(trials: Iterable[TrialRecord]) -> pd.DataFrame:
    """One row per trial: its record, with ``params_*`` and ``metrics_*`` columns."""
    import pandas as pd

    columns: dict[str, list[Any]] = {}
    count = 0
    for trial in trials:
        row = trial_row(trial)
        params, metrics, _ = row.pop("params"), row.pop("metrics"), row.pop("folds")  # which are among the metrics
        row |= {f"params_{name}": value for name, value in params.items()}
        row |= {f"metrics_{name}": value for name, value in metrics.items()}
        for name, value in row.items():
            column = columns.setdefault(name, [])
            column.extend([math.nan] * (count - len(column)))
            column.append(value)
        count += 1
    for column in columns.values():
        column.extend([math.nan] * (count - len(column)))
    return pd.DataFrame(columns)
