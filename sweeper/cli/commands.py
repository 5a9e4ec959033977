"""What each verb of the command line prints, wherever the sweeps are."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.cli import render
from sweeper.cli.progress import LineProgress, LiveProgress, Tally, constants_of, short
from sweeper.cli.streams import as_text
from sweeper.errors import SpecError, nearest
from sweeper.flow import flags
from sweeper.insight.pareto import NONE_FEASIBLE, feasible, violations
from sweeper.insight.results import (
    best_row,
    best_trials,
    constraint_warnings,
    edge_warnings,
    front_of,
    stopped_warnings,
    sweep_row,
    trial_frame,
    trial_row,
    why_none_succeeded,
)
from sweeper.insight.winner_again import read_again
from sweeper.places.here import Here
from sweeper.places.place import Place
from sweeper.records import SweepRecord, TrialRecord
from sweeper.settings import SERVER_VARIABLE, Settings
from sweeper.spec.parse import DATASETS, SweepSpec, load_spec, spec_from_options
from sweeper.spec.phases import history_in, phases_in_words
from sweeper.spec.stored import spec_of
from sweeper.states import SweepState, TrialState

WATCH_SECONDS = 2.0
_given = ""  # the server that --server named


def use_server(url: str) -> None:
    """Let every verb of this process go to the server at ``url``; empty: to this machine."""
    global _given  # noqa: PLW0603 - the command line's own state: one process runs one command
    _given = os.environ[SERVER_VARIABLE] = url


def find_place() -> Place:
    """The server that --server or SWEEPER_SERVER names, else this machine."""
    settings = Settings.from_env()
    if settings.server is None:
        return Here(settings)
    from sweeper.places.there import There

    return There(settings, f" --server {_given}" if _given else "")


def on_a_cluster() -> bool:
    """Whether sweeps run elsewhere than on this machine alone."""
    settings = Settings.from_env()
    return settings.server is not None or settings.ray_address is not None


def show(data: Any, as_json: bool) -> None:
    """One JSON object, or readable rows."""
    if as_json:
        print(json.dumps(data))
    else:
        render.mapping(data)


def read_spec(
    spec: str | None,
    dataset: str | None,
    space: str | None,
    trials: int | None,
    seed: int | None,
    name: str | None,
    timeout: str | None,
    sets: Sequence[str],
) -> SweepSpec:
    """The spec that the options of ``run`` and ``plan`` describe; warnings go to stderr."""
    if spec is None and dataset is None:
        remedy = "Name a sweep file, or --dataset digits --space mlp. `sweeper init` writes a sweep file"
        raise SpecError("there is nothing to run", remedy=remedy)
    if spec is None:
        assert dataset is not None
        options = {"trials": trials, "seed": seed, "name": name, "timeout": timeout, "sets": sets}
        parsed = spec_from_options(dataset, space, **options)  # type: ignore[arg-type]
    else:
        for option, value in (("--dataset", dataset), ("--space", space)):
            if value is not None:
                key = option.removeprefix("--")
                remedy = f"Write it into {spec}, or use --set {key}=... instead"
                raise SpecError(f"{option} cannot be combined with a sweep file", key=option, remedy=remedy)
        parsed = load_spec(spec, sets, trials=trials, seed=seed, name=name, timeout=timeout)
    for warning in parsed.warnings:
        print(f"sweeper: warning: {warning}", file=sys.stderr)
    return parsed


def _progress(record: SweepRecord) -> Any:
    """Live on a terminal, lines otherwise. Trials that are stopped run again when the sweep does."""
    counts = {state: count for state, count in record.counts.items() if state != TrialState.STOPPED}
    tally = Tally(record.requested, counts, constants_of(record.spec))
    if sys.stderr.isatty():
        return LiveProgress(tally, f"sweep {record.sweep} ({record.name})")
    return LineProgress(tally)


def run(spec: SweepSpec, workers: str | None, as_json: bool, priority: int | None = None) -> dict[str, Any]:
    """Run a new sweep and print its summary."""
    place = find_place()
    return _close(place, place.run(spec, workers, _progress, priority), as_json)


def resume(ref: str, workers: str | None, trials: int | None, as_json: bool) -> dict[str, Any]:
    """Go on with a sweep, to ``trials`` in all if that is given, and print its summary."""
    place = find_place()
    return _close(place, place.resume(ref, workers, _progress, trials), as_json)


def retry(ref: str, workers: str | None, as_json: bool) -> dict[str, Any]:
    """Run the failed trials again and print the sweep's summary."""
    place = find_place()
    return _close(place, place.retry(ref, workers, _progress), as_json)


def _close(place: Place, sweep: str, as_json: bool) -> dict[str, Any]:
    summary = place.summary(sweep)
    if as_json:
        print(json.dumps(summary))
    else:
        record, best = place.ledger.sweep(sweep), summary["best"]
        spec = spec_of(record)
        warnings = [*constraint_warnings(spec, best["metrics"]), *edge_warnings(spec, best["params"])] if best else []
        warnings += stopped_warnings(spec, best) if best else []
        if (again := read_again(record)) is not None:
            warnings.append(again.sentence)
        render.closing(summary, spec, place.ledger.trials(sweep), warnings, place.view(record), place.option)
    return summary


def advice(sweep: str) -> str:
    """What to do about a sweep in which nothing succeeded."""
    ledger = find_place().ledger
    return why_none_succeeded(spec_of(ledger.sweep(sweep)), ledger.trials(sweep))


def run_detached(spec: SweepSpec, workers: str | None, as_json: bool, priority: int | None = None) -> None:
    """Start the sweep in the background and print its id once it is in the ledger."""
    answer = find_place().detach(spec, workers, priority)
    print(json.dumps(answer) if as_json else answer["sweep"])


def status(ref: str, watch: bool, as_json: bool) -> None:
    """Print how far a sweep is."""
    place = find_place()
    ledger = place.ledger
    while True:
        record = ledger.sweep(ref)
        custody = place.custody(record)
        best = best_trials(ledger, record, 1)
        states = {str(state): int(record.counts.get(state, 0)) for state in TrialState}
        data = {
            **sweep_row(record),
            **states,
            "reason": custody.waiting or record.reason,
            "controller": custody.controller,
            "arithmetic": record.arithmetic or None,
            "seconds": round(record.seconds, 1),
            "best": best_row(best[0]) if best else None,
        }
        show(data if as_json or not best else data | {"best": _in_words(best[0], record)}, as_json)
        if not watch or record.state.terminal or record.state is SweepState.PAUSED:
            return
        time.sleep(WATCH_SECONDS)


def _in_words(trial: TrialRecord, record: SweepRecord) -> str:
    """A trial for people: its number, its value and its parameters."""
    value = "-" if trial.value is None else f"{trial.value:.6g}"
    return f"trial {trial.number}, {record.spec['objective']['metric']} {value}: {short(trial.params or {})}"


def list_trials(
    ref: str, state: str | None, sort: str | None, csv: bool, as_json: bool, limit: int | None, offset: int
) -> None:
    """Print a sweep's trials: all of them, or a page, which says of how many it is one."""
    ledger = find_place().ledger
    record = ledger.sweep(ref)
    if state is not None and state not in set(TrialState):
        raise SpecError(f"{state!r} is not a state", key="--state", remedy=nearest(state, TrialState))
    wanted = TrialState(state) if state else None
    found = ledger.trials(record.sweep, state=wanted, sort=sort, limit=limit, offset=offset)
    total = record.requested if wanted is None else record.counts.get(wanted, 0)
    paged = limit is not None or offset > 0
    if as_json:
        page = {"total": total} if paged else {}
        print(json.dumps({"sweep": record.sweep, "trials": [trial_row(trial) for trial in found], **page}))
    elif csv:
        print(trial_frame(found).to_csv(index=False), end="")
    else:
        render.trials(found, record.spec["objective"]["metric"])
        if paged and found:
            print(f"{offset + 1} to {offset + len(found)} of {total}")


def best(ref: str, k: int, as_json: bool) -> None:
    """Print the best trials."""
    ledger = find_place().ledger
    record = ledger.sweep(ref)
    found, spec = best_trials(ledger, record, k), spec_of(record)
    front = front_of(ledger, record)
    if as_json:
        answer: dict[str, Any] = {"sweep": record.sweep, "best": [best_row(trial) for trial in found]}
        if len(spec.objectives) > 1:
            answer["front"] = [best_row(trial) for trial in front]
        print(json.dumps(answer))
    elif not found:
        print("no trial is complete yet")
    elif front:
        render.front(front, spec)
    else:
        render.trials(found, spec.objective.metric)
    if found and not feasible(found[0], spec):
        print(f"sweeper: {NONE_FEASIBLE}: {'; '.join(violations(found[0], spec))}", file=sys.stderr)


def why(ref: str, number: int, as_json: bool) -> None:
    """Print what happened to one trial."""
    place = find_place()
    record = place.ledger.sweep(ref)
    trial = place.ledger.trial(record.sweep, number)
    attempts = [
        {"attempt": a.attempt, "worker": a.worker, "outcome": a.outcome or "running"}
        for a in place.ledger.attempts(record.sweep, number)
    ]
    data = {**trial_row(trial), "seed": trial.seed, "notes": list(trial.notes), "history": attempts}
    if phases := history_in(trial.attributes):
        data["phases"] = phases_in_words(phases)
    if flow := place.ledger.flow(record.sweep, number).get(number):
        data["gradients"] = flags(flow, trial.params, record.spec["training"]["batch_size"])
    if trial.state is TrialState.COMPLETE and (unmet := violations(trial, spec_of(record))):
        data["violates"] = unmet
    if trial.state is TrialState.WAITING:
        asked = trial.params is not None
        usual = "waiting for a worker" if asked else "the sampler has not suggested its parameters yet"
        data["reason"] = trial.reason or place.custody(record).waiting or usual
    show(data, as_json)


def report(ref: str, out: str | None, as_json: bool) -> None:
    """Write the report of a sweep and print where it is and what it says first."""
    place = find_place()
    record = place.ledger.sweep(ref)
    file, verdict = place.report(record, Path(out) if out is not None else None)
    if as_json:
        print(json.dumps({"sweep": record.sweep, "report": str(file.absolute()), "verdict": verdict}))
    else:
        print(f"{verdict}\nreport: {file}")


def end(ref: str, wanted: SweepState, as_json: bool) -> None:
    """Stop or pause a sweep and print where it stands."""
    place = find_place()
    record = place.ledger.sweep(ref)
    if record.state not in (wanted, SweepState.STOPPED, SweepState.FAILED):  # of a complete one its finals may run
        place.end(record, wanted)
    record = place.ledger.sweep(record.sweep)
    answer = sweep_row(record)
    if as_json:
        print(json.dumps(answer))
    else:
        again = f"sweeper resume {record.sweep}{place.option}"
        about = f" ({record.reason})" if record.state is SweepState.COMPLETE else ""
        print(f"sweep {record.sweep} is {answer['state']}{about}. Continue with: {again}")


def budget(ref: str, trials: int | None, priority: int | None, as_json: bool) -> None:
    """Change a sweep's number of trials or its priority, and print where it stands."""
    if trials is None and priority is None:
        raise SpecError("no option was given", key="budget", remedy="Add --trials N or --priority P")
    place = find_place()
    record = place.change(place.ledger.sweep(ref), trials, priority)
    if as_json:
        print(json.dumps({**sweep_row(record), "priority": record.priority}))
    else:
        print(f"sweep {record.sweep} has {record.requested} trials and priority {record.priority}")


def export(ref: str, csv: str | None, optuna: str | None, model: str | None, as_json: bool) -> None:
    """Write a sweep's trials or its winner for other programs."""
    from sweeper.cli.export import export as write

    write(find_place(), ref, csv, optuna, model, as_json)


def delete(ref: str, yes: bool, as_json: bool) -> None:
    """Remove a sweep from the ledger, its files, and its runs from MLflow."""
    place = find_place()
    record = place.ledger.sweep(ref)
    place.check_idle(record)
    if not yes:
        import typer

        try:
            agreed = typer.confirm(f"Delete sweep {record.sweep} ({record.name}) and its {record.requested} trials?")
        except typer.Abort:  # nobody is there to answer
            agreed = False
        if not agreed:
            raise SpecError("nothing was deleted", key=record.sweep, remedy="Answer y, or add --yes")
    place.delete(record)
    print(json.dumps({"deleted": record.sweep}) if as_json else f"deleted sweep {record.sweep}")


def ui(ref: str | None, host: str, port: int, browser: bool) -> None:
    """Show a sweep, or the newest, in the MLflow UI."""
    place = find_place()
    record = place.ledger.sweep(ref) if ref else next(iter(place.ledger.sweeps(limit=1)), None)
    place.open_ui(record, host, port, browser)


def init(path: str, dataset: str | None, target: str | None) -> None:
    """Write a sweep file with comments."""
    file = Path(path)
    if file.exists():
        raise SpecError("the file exists already", file=path, remedy="Choose another name")
    from sweeper.data.loading import has_few_rows

    if dataset is not None and dataset not in DATASETS:
        folder = os.path.dirname(os.path.abspath(path))  # a sweep file's relative paths start at its own folder
        data = as_text(os.path.relpath(os.path.expanduser(dataset), folder))
        table = {"path": data, "target": target or "label"}
    else:
        table = {"name": dataset or "digits"}
    try:
        few = "path" in table and has_few_rows(os.path.expanduser(str(dataset)))
        file.write_text(render.sweep_file(table, few), encoding="utf-8")
    except OSError as error:
        raise SpecError(f"it cannot be written ({error.strerror})", file=path) from error
    guess = " for the column 'label' (change dataset.target if yours has another name)"
    said = guess if "path" in table and not target else ""
    print(f"wrote {path}{said}. Run it with: sweeper run {path}")


def spaces(name: str | None, as_json: bool) -> None:
    """List the ready-made spaces or show one."""
    from sweeper.search_spaces import SpaceError, load_space, ready_made

    if name is None:
        rows = [{"space": key, "question": text} for key, text in ready_made().items()]
        if as_json:
            print(json.dumps({"spaces": rows}))
        else:
            render.table(rows)
        return
    try:
        space = load_space(name)
    except SpaceError as error:
        raise SpecError(str(error), key="space") from error
    if as_json:
        print(json.dumps(space.to_json()))
    else:
        first = [f"tried first: {short(point)}" for point in space.enqueue]
        print("\n".join([*(str(row) for row in space.describe()), *first]))


def datasets(as_json: bool) -> None:
    """List the built-in datasets."""
    from dataclasses import asdict

    from sweeper.data.dataset import built_in

    rows = [asdict(row) for row in built_in()]
    if as_json:
        print(json.dumps({"datasets": rows}))
    else:
        render.table(rows)
