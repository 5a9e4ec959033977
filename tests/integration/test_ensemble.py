"""An ensemble as the winner: chosen from the trials' validation outputs, and the same model wherever it goes."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn import metrics

import sweeper
from sweeper.data.loading import load
from sweeper.export.writing import to_model
from sweeper.ledger.opening import open_ledger
from sweeper.models import train_solo
from sweeper.models.mlp import build_mlp
from sweeper.running.kept import kept_model
from sweeper.running.members import MemberPool
from sweeper.running.parts import make_study
from sweeper.running.run import SweepRun
from sweeper.spec.parse import load_spec

SPEC: dict[str, Any] = {
    "name": "together",
    "space": {
        "learning_rate": {"float": [1e-3, 1e-1], "log": True},
        "activation": {"choice": ["relu", "tanh"]},
        "hidden_layers": {"choice": [[8], [6, 4], []]},
        "normalize": {"choice": ["standard", "minmax"]},
    },
    "training": {"epochs": 10, "batch_size": 16},
    "search": {"trials": 12, "seed": 3, "sampler": "random"},
    "winner": "ensemble",
}


@dataclass(frozen=True)
class Ran:
    """A sweep, and what its members, trained by themselves, say of rows."""

    home: Path
    result: Any
    source: dict[str, Any]
    table: pd.DataFrame

    def logits(self, rows: pd.DataFrame) -> np.ndarray:
        """The reference: plain networks, of folds their mean, each behind its own preprocessing, times their shares."""
        spec = load_spec(self.source)
        data = load(spec)
        trials, total = {trial.number: trial for trial in self.result.records()}, np.zeros((len(rows), 2))
        for member in self.result.summary["ensemble"]["members"]:
            params = trials[member["trial"]].params or {}
            config, train = spec.trial_config(params), spec.train_config(data.task, params)
            rows_of = data.prepared(spec.inputs_of(params))
            parts = rows_of.folds or (rows_of,)
            for part in parts:
                network = build_mlp(config, part.n_inputs, 2, seed=0)
                network.load_state_dict(train_solo(config, train, part.tensors(), 3).state_dict)
                with torch.no_grad():
                    made = network(torch.tensor(part.recipe.transform(rows))).double().numpy()
                total += member["share"] / len(parts) * made
        return total


@pytest.fixture(scope="module", params=[None, 2], ids=["one split", "folds"])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    random, home = np.random.default_rng(0), tmp_path_factory.mktemp("home")
    table = pd.DataFrame({"size": random.normal(size=240).round(4), "city": random.choice(["Bonn", "Köln", None], 240)})
    table["kind"] = np.where(table["size"] ** 2 + (table["city"] == "Bonn") + random.normal(0, 0.4, 240) > 1, "a", "b")
    table.loc[::11, "size"] = np.nan
    table.to_csv(home / "visits.csv", index=False)
    source = {**SPEC, "dataset": {"path": str(home / "visits.csv"), "target": "kind"}}
    if request.param is not None:
        source["split"] = {"folds": request.param}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_HOME", str(home))
        for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield Ran(home, sweeper.run(source, workers="inline"), source, table)


def test_an_ensemble_is_better_than_its_best_member_where_it_was_chosen_and_says_what_it_is_worth(ran: Ran) -> None:
    found = ran.result.summary["ensemble"]
    assert sum(member["share"] for member in found["members"]) == pytest.approx(1.0)
    assert found["size"] == len(found["members"]) > 1
    assert found["candidates"] == 12
    assert found["value"] < found["single"]
    assert found["gain"] == pytest.approx(found["single"] - found["value"])
    data = load(load_spec(ran.source))
    chances = softmax(ran.logits(ran.table.iloc[data.test_rows]), axis=1)
    loss = metrics.log_loss(data.y_test, chances)
    assert [found["test"]["ensemble"], ran.result.summary["test"]["loss"]] == pytest.approx([loss, loss], rel=1e-4)
    assert found["best"] == ran.result.best["trial"]
    if not data.folds:
        held = softmax(ran.logits(ran.table.iloc[data.val_rows]), axis=1)
        assert found["value"] == pytest.approx(metrics.log_loss(data.y_val, held), rel=1e-4)
    report = next(ran.home.glob("sweeps/*/report.html")).read_text()
    assert f"an ensemble of {found['size']} trials" in report
    assert not list(ran.home.glob("sweeps/*/members"))


def test_the_model_predicts_raw_rows_alike_in_mlflow_in_its_folder_and_in_onnx(ran: Ran, tmp_path: Path) -> None:
    import mlflow

    rows = ran.table.drop(columns="kind").head(40)
    wanted = softmax(ran.logits(rows), axis=1)
    place = ran.result.summary["mlflow"]
    mlflow.set_tracking_uri(place["tracking_uri"])
    made = mlflow.pyfunc.load_model(f"runs:/{place['run_id']}/model").predict(rows)
    np.testing.assert_allclose(made.to_numpy(), wanted, atol=1e-4)
    shown = mlflow.get_run(place["run_id"])
    assert shown.data.metrics["ensemble_size"] == ran.result.summary["ensemble"]["size"]
    assert "an ensemble of" in shown.data.tags["mlflow.note.content"]

    ledger = open_ledger(None, ran.home)
    answer = to_model(ledger, ran.result.sweep, str(tmp_path / "model"))
    ledger.close()
    assert answer["metrics"]["val_loss"] == pytest.approx(ran.result.summary["ensemble"]["value"], rel=1e-3)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    program = [sys.executable, str(tmp_path / "model" / "predict.py"), str(tmp_path / "rows.csv")]
    lines = list(csv.reader(io.StringIO(subprocess.run(program, capture_output=True, text=True, check=True).stdout)))
    np.testing.assert_allclose(np.array([line[1:] for line in lines[1:]], dtype=float), wanted, atol=1e-4)
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(tmp_path / "model" / "model.onnx"))
    columns = {"size": rows[["size"]].to_numpy(float), "city": rows[["city"]].fillna("").astype(str).to_numpy(object)}
    np.testing.assert_allclose(session.run(None, columns)[1], wanted, atol=1e-4)
    assert "## Members" in (tmp_path / "model" / "model_card.md").read_text()


def test_weights_that_an_interrupted_sweep_has_lost_are_trained_again_to_the_same_ensemble(
    ran: Ran, tmp_path: Path
) -> None:
    ledger, spec = open_ledger(None, ran.home), load_spec(ran.source)
    run = SweepRun(ledger.sweep(ran.result.sweep), spec, load(spec), make_study(spec, load(spec)))
    run.leaders.members = MemberPool(tmp_path / "members")
    run.restore(ledger.trials(run.id), ledger.reports(run.id))
    kept_model(run, ledger)
    again = ledger.sweep(run.id).summary["ensemble"]
    assert again["members"] == ran.result.summary["ensemble"]["members"]
    assert again["value"] == pytest.approx(ran.result.summary["ensemble"]["value"], rel=1e-6)
    ledger.close()
