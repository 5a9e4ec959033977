"""What each verb of the command line does on this machine, and how its answer is printed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper import render
from sweeper.errors import SpecError, SweepBusy, SweeperError, nearest
from sweeper.leases import holder
from sweeper.ledger_protocol import Ledger
from sweeper.progress import LineProgress, LiveProgress, Tally
from sweeper.records import Ended, Reopened, Requeued, SweepChanged, SweepRecord
from sweeper.results import (
    best_row,
    direction_of,
    edge_warnings,
    run_summary,
    sweep_row,
    trial_frame,
    trial_row,
    why_none_succeeded,
)
from sweeper.settings import Settings
from sweeper.spec import DATASETS, SweepSpec, load_spec, spec_from_options
from sweeper.states import SweepState, TrialState

UI_PORT = 5000
WAIT_SECONDS = 30.0  # how long a command waits for the controller to act on a request


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
        parsed = spec_from_options(dataset, space or "mlp", **options)  # type: ignore[arg-type]
    else:
        for option, value in (("--dataset", dataset), ("--space", space)):
            if value is not None:
                key = option.removeprefix("--")
                remedy = f"Write it into {spec}, or use --set {key}=... instead"
                raise SpecError(f"{option} goes without a sweep file", key=option, remedy=remedy)
        parsed = load_spec(spec, sets, trials=trials, seed=seed, name=name, timeout=timeout)
    for warning in parsed.warnings:
        print(f"sweeper: warning: {warning}", file=sys.stderr)
    return parsed


def _ledger() -> tuple[Ledger, Settings]:
    from sweeper.local import open_home_ledger

    settings = Settings.from_env()
    return open_home_ledger(settings), settings


class _Sink:
    """Live on a terminal, lines otherwise."""

    def __new__(cls, record: SweepRecord) -> Any:
        tally = Tally(record.requested, record.counts)
        if sys.stderr.isatty():
            return LiveProgress(tally, f"sweep {record.sweep} ({record.name})")
        return LineProgress(tally)


def run(spec: SweepSpec, workers: str, as_json: bool) -> dict[str, Any]:
    """Run a new sweep and print its summary."""
    from sweeper import local

    settings = Settings.from_env()
    record = local.run_new(spec, settings, workers, _Sink)
    return _close(record.sweep, settings, as_json)


def resume(ref: str, workers: str, as_json: bool) -> dict[str, Any]:
    """Go on with a sweep and print its summary."""
    from sweeper import local

    settings = Settings.from_env()
    record = local.run_again(ref, settings, workers, _Sink)
    return _close(record.sweep, settings, as_json)


def retry(ref: str, workers: str, as_json: bool) -> dict[str, Any]:
    """Reopen the failed trials, here or in the controller that runs the sweep."""
    ledger, _ = _ledger()
    record = ledger.sweep(ref)
    failed = ledger.trials(record.sweep, state=TrialState.FAILED)
    if holder(ledger, record.sweep) is not None:
        ledger.request(record.sweep, "retry")
        raise SweepBusy(f"sweep {record.sweep} is running: its controller was asked to run {len(failed)} trials again")
    changes = [Reopened(trial.number, "retried by the user") for trial in failed]
    ledger.commit(record.sweep, [SweepChanged(state=SweepState.RUNNING, reason="retry", at=time.time()), *changes])
    return resume(record.sweep, workers, as_json)


def _close(sweep: str, settings: Settings, as_json: bool) -> dict[str, Any]:
    from sweeper.api import tracking_uri

    ledger, _ = _ledger()
    summary = run_summary(ledger, sweep, tracking_uri(settings))
    if as_json:
        print(json.dumps(summary))
    else:
        spec = SweepSpec.from_json({k: v for k, v in ledger.sweep(sweep).spec.items() if k != "fingerprint"})
        best = summary["best"]
        warnings = edge_warnings(spec, best["params"]) if best else []
        render.closing(summary, spec, ledger.trials(sweep), warnings, view_link(ledger.sweep(sweep), settings))
    return summary


def advice(sweep: str) -> str:
    """What to do about a sweep in which nothing succeeded."""
    ledger, _ = _ledger()
    spec = SweepSpec.from_json({k: v for k, v in ledger.sweep(sweep).spec.items() if k != "fingerprint"})
    return why_none_succeeded(spec, ledger.trials(sweep))


def view_link(record: SweepRecord, settings: Settings) -> str:
    """The sweep's comparison view: on the MLflow server in use, or where ``sweeper ui`` will start one."""
    from sweeper.tracking_ui import is_server, sweep_link

    uri = settings.mlflow_tracking_uri or ""
    return sweep_link(uri.rstrip("/") if is_server(uri) else f"http://127.0.0.1:{UI_PORT}", record)


def run_detached(spec: SweepSpec, workers: str, as_json: bool) -> None:
    """Start the sweep in a process of its own and print its id once it is in the ledger."""
    import subprocess
    import tempfile

    settings = Settings.from_env()
    settings.ensure_home()
    with tempfile.NamedTemporaryFile("w", dir=settings.home, suffix=".json", delete=False) as file:
        json.dump(spec.to_json(), file)
    logs = settings.home / "logs"
    logs.mkdir(exist_ok=True)
    key = Path(file.name).stem
    with (logs / f"{key}.log").open("w") as log:
        command = [sys.executable, "-m", "sweeper", "run", file.name, "--workers", workers]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    from sweeper.local import open_home_ledger

    ledger = open_home_ledger(settings)
    before = {record.sweep for record in ledger.sweeps(name=spec.name)}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        new = [r for r in ledger.sweeps(name=spec.name) if r.sweep not in before]
        if new:
            answer = {"sweep": new[0].sweep, "name": new[0].name, "log": log.name}
            print(json.dumps(answer) if as_json else new[0].sweep)
            return
        if process.poll() is not None:
            text = Path(log.name).read_text().strip().splitlines()
            raise SweeperError(text[-1].removeprefix("sweeper: ") if text else "the sweep did not start")
        time.sleep(0.2)
    raise SweeperError(f"the sweep did not start within two minutes; see {log.name}")


def list_sweeps(as_json: bool) -> None:
    """Print all sweeps."""
    ledger, _ = _ledger()
    rows = [sweep_row(record) for record in ledger.sweeps()]
    if as_json:
        print(json.dumps({"sweeps": rows}))
    elif not rows:
        print("no sweeps yet. Start one with: sweeper run --dataset digits --space mlp")
    else:
        render.table(rows)


def status(ref: str, watch: bool, as_json: bool) -> None:
    """Print how far a sweep is."""
    ledger, _ = _ledger()
    while True:
        record = ledger.sweep(ref)
        owner = holder(ledger, record.sweep)
        best = ledger.best(record.sweep, 1, direction_of(record))
        states = {str(state): int(record.counts.get(state, 0)) for state in TrialState}
        data = {
            **sweep_row(record),
            **states,
            "reason": record.reason or _reason(record, owner is not None),
            "controller": owner,
            "seconds": round(record.seconds, 1),
            "best": best_row(best[0]) if best else None,
        }
        show(data, as_json)
        if not watch or record.state.terminal or record.state is SweepState.PAUSED:
            return
        time.sleep(2.0)


def _reason(record: SweepRecord, held: bool) -> str:
    if record.state is SweepState.RUNNING and not held:
        return f"no controller runs it: go on with `sweeper resume {record.sweep}`"
    return ""


def list_trials(ref: str, state: str | None, sort: str | None, csv: bool, as_json: bool) -> None:
    """Print a sweep's trials."""
    ledger, _ = _ledger()
    record = ledger.sweep(ref)
    if state is not None and state not in set(TrialState):
        raise SpecError(f"{state!r} is no state", key="--state", remedy=nearest(state, TrialState))
    found = ledger.trials(record.sweep, state=TrialState(state) if state else None, sort=sort)
    if as_json:
        print(json.dumps({"sweep": record.sweep, "trials": [trial_row(trial) for trial in found]}))
    elif csv:
        print(trial_frame(found).to_csv(index=False), end="")
    else:
        render.trials(found, record.spec["objective"]["metric"])


def best(ref: str, k: int, as_json: bool) -> None:
    """Print the best trials."""
    ledger, _ = _ledger()
    record = ledger.sweep(ref)
    found = ledger.best(record.sweep, k, direction_of(record))
    if as_json:
        print(json.dumps({"sweep": record.sweep, "best": [best_row(trial) for trial in found]}))
    elif not found:
        print("no trial is complete yet")
    else:
        render.trials(found, record.spec["objective"]["metric"])


def why(ref: str, number: int, as_json: bool) -> None:
    """Print what happened to one trial."""
    ledger, _ = _ledger()
    record = ledger.sweep(ref)
    trial = ledger.trial(record.sweep, number)
    attempts = [
        {"attempt": a.attempt, "worker": a.worker, "outcome": a.outcome or "running"}
        for a in ledger.attempts(record.sweep, number)
    ]
    data = {**trial_row(trial), "seed": trial.seed, "notes": list(trial.notes), "history": attempts}
    if trial.state is TrialState.WAITING:
        asked = trial.params is not None
        data["reason"] = trial.reason or ("waiting for a worker" if asked else "the sampler has not suggested it yet")
    show(data, as_json)


def report(ref: str, out: str | None, as_json: bool) -> None:
    """Write the report of a sweep and print where it is and what it says first."""
    from sweeper.report import verdict_of, write_report

    ledger, settings = _ledger()
    record = ledger.sweep(ref)
    spec = SweepSpec.from_json({k: v for k, v in record.spec.items() if k != "fingerprint"})
    found = ledger.trials(record.sweep)
    file = Path(out) if out is not None else settings.home / "sweeps" / record.sweep / "report.html"
    write_report(record, spec, found, ledger.reports(record.sweep), file)
    verdict = verdict_of(record, spec, found)
    if as_json:
        print(json.dumps({"sweep": record.sweep, "report": str(file.absolute()), "verdict": verdict}))
    else:
        print(f"{verdict}\nreport: {file}")


def ask_controller(ref: str, kind: str, as_json: bool) -> None:
    """Stop or pause: through the controller that runs the sweep, or right here when none does."""
    ledger, _ = _ledger()
    record = ledger.sweep(ref)
    wanted = SweepState.STOPPED if kind == "stop" else SweepState.PAUSED
    if not record.state.terminal and record.state is not wanted:
        if holder(ledger, record.sweep) is not None:
            ledger.request(record.sweep, kind)
            _wait_for(ledger, record.sweep, wanted)
        else:
            _end_here(ledger, record, wanted)
    answer = sweep_row(ledger.sweep(record.sweep))
    if as_json:
        print(json.dumps(answer))
    else:
        print(f"sweep {record.sweep} is {answer['state']}. Go on with: sweeper resume {record.sweep}")


def _wait_for(ledger: Ledger, sweep: str, wanted: SweepState) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        state = ledger.sweep(sweep).state
        if state is wanted or state.terminal:
            return
        time.sleep(0.2)
    print("sweeper: the controller was asked and has not answered yet", file=sys.stderr)


def _end_here(ledger: Ledger, record: SweepRecord, wanted: SweepState) -> None:
    """No controller is alive: what it left running is put back, or stopped."""
    now, reason = time.time(), f"{wanted} by the user"
    changes: list[Any] = []
    for trial in ledger.trials(record.sweep):
        if trial.state is TrialState.RUNNING:
            changes.append(Requeued(trial.number, trial.attempt, "its controller ended", lost=False))
        if wanted is SweepState.STOPPED and not trial.state.terminal:
            why = reason if trial.attempt else f"never started: {reason}"
            changes.append(Ended(trial.number, trial.attempt, TrialState.STOPPED, why, None, now))
    if record.state is SweepState.QUEUED and wanted is SweepState.PAUSED:
        changes.append(SweepChanged(state=SweepState.RUNNING, at=now))
    ledger.commit(record.sweep, [*changes, SweepChanged(state=wanted, reason=reason, at=now)])


def delete(ref: str, yes: bool, as_json: bool) -> None:
    """Remove a sweep from the ledger, its files, and its runs from MLflow."""
    import shutil

    from sweeper.tracking import delete_runs

    ledger, settings = _ledger()
    record = ledger.sweep(ref)
    if holder(ledger, record.sweep) is not None:
        raise SweepBusy(f"sweep {record.sweep} is running. Stop it first: sweeper stop {record.sweep}")
    if not yes:
        import typer

        typer.confirm(f"Delete sweep {record.sweep} ({record.name}) and its {record.requested} trials?", abort=True)
    delete_runs(settings, record)
    ledger.delete_sweep(record.sweep)
    shutil.rmtree(settings.home / "sweeps" / record.sweep, ignore_errors=True)
    print(json.dumps({"deleted": record.sweep}) if as_json else f"deleted sweep {record.sweep}")


def ui(ref: str | None, host: str, port: int, browser: bool) -> None:
    """Start the MLflow UI, print and open the link, and stay until Ctrl-C."""
    from sweeper.tracking import open_ui

    ledger, settings = _ledger()
    record = ledger.sweep(ref) if ref else next(iter(ledger.sweeps(limit=1)), None)
    open_ui(settings, record, host, port, browser)


def init(path: str, dataset: str | None, target: str | None) -> None:
    """Write a sweep file with comments."""
    file = Path(path)
    if file.exists():
        raise SpecError("the file exists already", file=path, remedy="Choose another name")
    if dataset is not None and dataset not in DATASETS:
        table = f"{{path: {dataset}, target: {target or 'label'}}}"
    else:
        table = f"{{name: {dataset or 'digits'}}}"
    try:
        file.write_text(render.SWEEP_FILE.format(table=table), encoding="utf-8")
    except OSError as error:
        raise SpecError(f"it cannot be written ({error.strerror})", file=path) from error
    print(f"wrote {path}. Run it with: sweeper run {path}")


def spaces(name: str | None, as_json: bool) -> None:
    """List the ready-made spaces or show one."""
    from search_spaces import SpaceError, load_space, ready_made

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
        print("\n".join(str(row) for row in space.describe()))


def datasets(as_json: bool) -> None:
    """List the built-in datasets."""
    from dataclasses import asdict

    from sweeper.datasets import built_in

    rows = [asdict(row) for row in built_in()]
    if as_json:
        print(json.dumps({"datasets": rows}))
    else:
        render.table(rows)
