"""A sweep for other programs: its trials as CSV or as a study in an Optuna database, its winner as a folder."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.errors import NoTrialSucceeded, SpecError
from sweeper.insight.calibration import read_calibration
from sweeper.insight.ensemble import read_ensemble
from sweeper.insight.results import best_trials, finals_winner, trial_frame
from sweeper.ledger.protocol import LedgerReader
from sweeper.spec.stored import spec_of
from sweeper.text import listed

if TYPE_CHECKING:
    pass


def to_csv(ledger: LedgerReader, ref: str, file: str) -> None:
    """One row per trial; an existing file is replaced once the new one is whole. ``-`` is stdout."""
    text = trial_frame(ledger.trials(ledger.sweep(ref).sweep)).to_csv(index=False)
    if file == "-":
        sys.stdout.write(text)
        return
    path = Path(file)
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=path.name, delete=False, encoding="utf-8"
        ) as scratch:
            scratch.write(text)
        os.chmod(scratch.name, 0o644)
        os.replace(scratch.name, path)
    except OSError as error:
        problem = f"it cannot be written ({error.strerror or error})"
        raise SpecError(problem, file=file, key="--csv", remedy="Choose another file") from error


def to_optuna(ledger: LedgerReader, ref: str, url: str) -> int:
    """The number of trials written to a study named after the sweep."""
    from sweeper.export.optuna_study import export_study

    record = ledger.sweep(ref)
    return export_study(record, spec_of(record), ledger.trials(record.sweep), ledger.reports(record.sweep), url)


def to_model(ledger: LedgerReader, ref: str, out: str) -> dict[str, Any]:
    """Write the winner's model to a new or empty folder; it is trained again for that, from the same data.

    Raises:
        NoTrialSucceeded: no trial has an answer.
        SpecError: the folder is not empty or cannot be written, or the data has changed.
    """
    record, folder = ledger.sweep(ref), Path(os.path.abspath(out))
    if spec_of(record).objective.function is not None:
        remedy = "Keep the model with trial.log_artifact(path): MLflow has it with the trial"
        raise SpecError("only the function of this sweep knows its model", key="--model", remedy=remedy)
    check_empty(folder)
    leader = finals_winner(record)
    found = best_trials(ledger, record, 1) if leader is None else [ledger.trial(record.sweep, leader)]
    if not found:
        raise NoTrialSucceeded(f"sweep {record.sweep} has no trial with an answer, so there is no model to export")
    from sweeper.data.loading import load_same
    from sweeper.export.model_folder import model_files
    from sweeper.export.retraining import train_ensemble, train_winner

    spec = spec_of(record)
    dataset = load_same(record, spec)
    ensemble = read_ensemble(record)
    if ensemble is not None and spec.winner == "ensemble":
        members = [(ledger.trial(record.sweep, member.trial), member.share) for member in ensemble.members]
        winner = train_ensemble(spec, dataset, found[0], members)
    else:
        dataset = dataset.prepared(spec.inputs_of(found[0].params or {}))
        winner = train_winner(spec, dataset, found[0])
    calibration = read_calibration(record)
    if calibration is not None:
        winner = replace(winner, calibration=calibration, model=winner.model.cooled(calibration.temperature))
    write_folder(folder, model_files(record, spec, dataset, winner))
    if winner.other:
        which = "the winner" if not winner.members else f"of the ensemble {listed([str(n) for n in winner.other], 10)}"
        warning = f"trained again, {which} came to another value than in the sweep: see model_card.md"
        print(f"sweeper: warning: {warning}", file=sys.stderr)
    metrics = {**winner.validation, **winner.test}
    return {"sweep": record.sweep, "trial": found[0].number, "model": str(folder), "metrics": metrics}


def check_empty(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        SpecError: it does, or cannot be looked at.
    """
    try:
        problem = None
        if folder.exists() and not folder.is_dir():
            problem = "there is a file of that name"
        elif folder.is_dir() and any(folder.iterdir()):
            problem = "the folder is not empty"
    except OSError as error:
        raise _no_folder(folder, error) from error
    if problem is not None:
        raise SpecError(problem, file=str(folder), key="--model", remedy="Name a new folder")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """All files, or none when one cannot be written.

    Raises:
        SpecError: one cannot.
    """
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            written.append(folder / name)
            written[-1].write_bytes(content)
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise _no_folder(folder, error) from error


def _no_folder(folder: Path, error: OSError) -> SpecError:
    problem = f"it cannot be written ({error.strerror or error})"
    return SpecError(problem, file=str(folder), key="--model", remedy="Choose another folder")
