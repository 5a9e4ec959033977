"""The verb ``export``: a sweep is written to one place on this machine, and the command says what was written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sweeper.errors import SpecError
from sweeper.export.writing import to_csv, to_optuna
from sweeper.places.place import Place
from sweeper.settings import Settings

ONNX_REMEDY = "Install it where the sweep ran, with: pip install 'sweeper[onnx]'"


def export(place: Place, ref: str, csv: str | None, optuna: str | None, model: str | None, as_json: bool) -> None:
    """Write a sweep to exactly one place on this machine and say what was written.

    Raises:
        SpecError: no place or several, or one that cannot be written.
        SweepNotFound: there is no such sweep.
        NoTrialSucceeded: there is no winner to export.
    """
    if sum(target is not None for target in (csv, optuna, model)) != 1:
        remedy = "Use --csv FILE (- for stdout), --optuna URL or --model FOLDER"
        raise SpecError("give exactly one place to export to", key="export", remedy=remedy)
    if csv is not None:
        to_csv(place.ledger, ref, csv)
    elif model is not None:
        answer = place.export_model(ref, model)
        done = f"the winner's model is in {answer['model']}: see model_card.md there"
        print(json.dumps(answer) if as_json else done)
        if not any(Path(answer["model"], name).exists() for name in ("model.onnx", "own_model.py")):
            print(f"sweeper: model.onnx was left out: it needs the package onnx. {ONNX_REMEDY}", file=sys.stderr)
    else:
        assert optuna is not None
        from sweeper.export.optuna_study import check_not_ours

        settings = Settings.from_env()
        check_not_ours(optuna, [settings.database_url, settings.mlflow_tracking_uri])
        written = to_optuna(place.ledger, ref, optuna)
        sweep = place.ledger.sweep(ref).sweep
        done = f"{written} trials are study {sweep}. Open it with: optuna-dashboard {optuna}"
        print(json.dumps({"sweep": sweep, "study": sweep, "trials": written}) if as_json else done)
