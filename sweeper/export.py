"""A sweep's trials for other programs: a CSV file, or a study in an Optuna database."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from sweeper.errors import SpecError
from sweeper.ledger_protocol import Ledger
from sweeper.results import trial_frame
from sweeper.settings import Settings
from sweeper.spec import SweepSpec


def export(ref: str, csv: str | None, optuna: str | None, as_json: bool) -> None:
    """Write a sweep's trials to exactly one place and say what was written.

    Raises:
        SpecError: no place or two, or one that cannot be written.
        SweepNotFound: there is no such sweep.
    """
    from sweeper.local import open_home_ledger

    if (csv is None) == (optuna is None):
        remedy = "Use --csv FILE (- for stdout) or --optuna URL"
        raise SpecError("give exactly one place to export to", key="export", remedy=remedy)
    ledger = open_home_ledger(Settings.from_env())
    if csv is not None:
        to_csv(ledger, ref, csv)
    else:
        assert optuna is not None
        written = to_optuna(ledger, ref, optuna)
        sweep = ledger.sweep(ref).sweep
        done = f"{written} trials are study {sweep}. Open it with: optuna-dashboard {optuna}"
        print(json.dumps({"sweep": sweep, "study": sweep, "trials": written}) if as_json else done)


def to_csv(ledger: Ledger, ref: str, file: str) -> None:
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


def to_optuna(ledger: Ledger, ref: str, url: str) -> int:
    """The number of trials written to a study named after the sweep."""
    from sweeper.export_optuna import export_study

    record = ledger.sweep(ref)
    spec = SweepSpec.from_json({k: v for k, v in record.spec.items() if k != "fingerprint"})
    return export_study(record, spec, ledger.trials(record.sweep), ledger.reports(record.sweep), url)
