"""A sweep of a model of the user's own: how its trials trained, one that fails, and the winner with its code."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from sweeper.data.loading import load
from sweeper.errors import SpecError
from sweeper.export.writing import to_model
from sweeper.insight.fused import how_trained
from sweeper.ledger.memory import MemoryLedger
from sweeper.running.controller import Controller
from sweeper.running.finals import NoSink
from sweeper.running.leases import Holds
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun
from sweeper.spec.parse import load_spec
from sweeper.spec.stored import spec_of, stored_form
from sweeper.states import Cause, SweepState, TrialState
from sweeper.training.inline_pool import InlinePool

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, data, units, rate, raises):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(data.n_inputs, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(rate))
        self.out, self.raises = nn.Linear(units, data.n_outputs), raises
    def forward(self, x):
        if self.raises:
            raise KeyError("one of three")
        return self.out(self.body(x))

def build(trial, data):
    kind = trial.suggest_categorical("kind", ["good", "bad"])
    return Net(data, trial.suggest_int("units", 4, 8, step=4), trial.suggest_float("rate", 0.1, 0.3), kind == "bad")
"""


def test_a_trial_whose_code_fails_fails_alone_and_the_winner_predicts_with_its_code(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(CODE, encoding="utf-8")
    points = [{"kind": "good", "units": 4}, {"kind": "bad"}, {"kind": "good", "units": 4}]
    spec = load_spec(
        {
            "dataset": {"name": "iris"},
            "model": f"{file}:build",
            "space": {"learning_rate": 0.05},
            "training": {"epochs": 2, "replicates": 2},
            "search": {"trials": 3, "sampler": "random", "enqueue": points},
        }
    )
    ledger, dataset = MemoryLedger(), load(spec)
    record = ledger.create_sweep(spec.name, stored_form(spec, dataset.fingerprint), 3)
    run, queue = SweepRun(record, spec, dataset, make_study(spec, dataset)), SimpleQueue[Any]()
    with contextlib.closing(InlinePool(queue.put)) as pool, contextlib.closing(Holds(ledger)) as holds:
        pool.start()
        controller = Controller(queue, pool, lambda action, fields: None)
        controller.open(run, NoSink(), ledger.trials(run.id), holds.take(run.id))
        controller.run(until=lambda: controller.state(run.id) is not SweepState.RUNNING)
        controller.close(run.id)

    good, bad, other = ledger.trials(run.id)
    assert (bad.state, bad.cause, bad.reason) == (
        TrialState.FAILED,
        Cause.CODE,
        "mine.py, line 11: KeyError: 'one of three'",
    )
    assert good.state is other.state is TrialState.COMPLETE
    assert how_trained([good, bad, other]) == "2 of 2 fused"
    assert good.metrics["parameters"] == 4 * 4 + 4 + 2 * 4 + 4 * 3 + 3

    folder = tmp_path / "model"
    to_model(ledger, run.id, str(folder))
    assert (folder / "own_model.py").read_text(encoding="utf-8") == CODE
    assert (folder / "network.pt2").exists()
    columns = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))["columns"]
    rows = [",".join(column["name"] for column in columns), ",".join("3.0" for _ in columns)]
    (tmp_path / "rows.csv").write_text("\n".join(rows), encoding="utf-8")
    command = [sys.executable, str(folder / "predict.py"), str(tmp_path / "rows.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert sum(map(float, done.stdout.splitlines()[1].split(",")[1:])) == pytest.approx(1.0)

    file.write_text("changed = True\n", encoding="utf-8")
    stored = spec_of(ledger.sweep(run.id))
    assert stored.model is not None
    with pytest.raises(SpecError, match=r"mine\.py: model: it has changed since this sweep was made"):
        stored.model.function.check_unchanged("model")
