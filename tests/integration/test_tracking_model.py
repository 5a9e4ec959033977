"""The winner as an MLflow model: it predicts from raw rows exactly what the trained network does on prepared ones."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from sweeper.data.dataset import Dataset, load_dataset
from sweeper.ledger.memory import MemoryLedger
from sweeper.models import TrialConfig, build_mlp
from sweeper.settings import Settings
from sweeper.spec.parse import SplitSpec, load_spec
from sweeper.tracking.model import raw_network, save_model
from sweeper.tracking.tracker import Tracker
from sweeper.training.averaging import TrialModel
from tests.ended_sweeps import end_trials, new_sweep, spec_of

CONFIG = TrialConfig(hidden_layers=(8,), activation="tanh")


def model_of(dataset: Dataset) -> TrialModel:
    network = build_mlp(CONFIG, dataset.n_inputs, dataset.n_outputs, seed=3)
    return TrialModel.of_one(dataset, CONFIG, {name: tensor.numpy() for name, tensor in network.state_dict().items()})


def expected(dataset: Dataset, frame: pd.DataFrame) -> np.ndarray:
    """The network on rows prepared by the dataset's own pipeline."""
    network = build_mlp(CONFIG, dataset.n_inputs, dataset.n_outputs, seed=3)
    with torch.no_grad():
        made = network(torch.from_numpy(dataset.recipe.transform(frame)))
        if dataset.class_labels is not None:
            return torch.softmax(made, dim=1).numpy()
        return (made[:, :1] * dataset.target_std + dataset.target_mean).numpy()


def loaded(folder: Path, dataset: Dataset) -> tuple[Any, Any]:
    import mlflow

    save_model(folder, model_of(dataset))
    return mlflow.pytorch.load_model(str(folder)), mlflow.pyfunc.load_model(str(folder))


def test_two_winners_exported_at_once_leave_torch_as_it_was(tmp_path: Path) -> None:
    dataset = load_dataset(spec_of().dataset, SplitSpec(), "standard")
    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(save_model, tmp_path / "0", model_of(dataset))
        while not torch.compiler.is_compiling() and not first.done():
            time.sleep(0.001)
        second = executor.submit(save_model, tmp_path / "1", model_of(dataset))
        first.result(), second.result()
    assert not torch.compiler.is_compiling()
    assert not torch.compiler.is_exporting()


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A table with whole numbers, fractions, texts and booleans, a constant column, and holes."""
    draw = np.random.default_rng(0)
    n = 60
    table = pd.DataFrame(
        {
            "age": draw.integers(18, 80, n),
            "height": np.where(draw.random(n) < 0.2, np.nan, draw.normal(1.7, 0.1, n).round(2)),
            "city": draw.choice(["Rome", "Oslo", "Bern"], n),
            "constant": 7,
            "member": draw.random(n) < 0.5,
            "label": draw.choice(["yes", "no"], n),
        }
    )
    table.loc[draw.random(n) < 0.2, "city"] = None
    table.to_csv(tmp_path / "people.csv", index=False)
    return tmp_path / "people.csv"


def data_of(**dataset: Any) -> Dataset:
    return load_dataset(load_spec({"dataset": dataset, "space": "mlp"}).dataset, SplitSpec(), "standard")


@pytest.mark.slow
def test_a_classifier_gives_the_classes_probabilities_for_raw_rows(tmp_path: Path) -> None:
    dataset = data_of(name="iris")
    network, pyfunc = loaded(tmp_path / "model", dataset)
    frame = dataset.raw_test
    wanted = expected(dataset, frame)
    made = network(torch.tensor(frame.to_numpy(), dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(made, wanted, atol=1e-5)
    table = pyfunc.predict(frame)
    assert list(table.columns) == list(dataset.class_names or ())
    np.testing.assert_allclose(table.to_numpy(), wanted, atol=1e-6)
    np.testing.assert_allclose(table.sum(axis=1), 1.0, atol=1e-6)
    whole = frame.round().astype(int)  # whole numbers where training had fractions
    np.testing.assert_allclose(
        pyfunc.predict(whole[frame.columns[::-1]]).to_numpy(), expected(dataset, whole), atol=1e-6
    )
    assert pyfunc.predict(frame.head(1)).shape == (1, 3)
    with pytest.raises(Exception, match="no column"):
        pyfunc.predict(frame.drop(columns=frame.columns[0]))


@pytest.mark.slow
def test_a_regression_predicts_in_the_unit_of_its_target(tmp_path: Path) -> None:
    dataset = data_of(name="diabetes")
    network, pyfunc = loaded(tmp_path / "model", dataset)
    wanted = expected(dataset, dataset.raw_test)
    assert 25 < np.median(wanted) < 350  # disease progression, not standard deviations
    np.testing.assert_allclose(pyfunc.predict(dataset.raw_test).to_numpy(), wanted, rtol=1e-5)
    rows = torch.tensor(dataset.raw_test.to_numpy(), dtype=torch.float32)
    np.testing.assert_allclose(network(rows).detach().numpy(), wanted[:, 0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*validate_serving_input")
def test_texts_holes_unseen_texts_and_missing_constants_are_taken_as_in_training(people: Path, tmp_path: Path) -> None:
    from mlflow.models import convert_input_example_to_serving_input, validate_serving_input

    dataset = data_of(path=str(people), target="label")
    _, pyfunc = loaded(tmp_path / "model", dataset)
    raw = pd.read_csv(people).drop(columns="label")
    np.testing.assert_allclose(pyfunc.predict(raw).to_numpy(), expected(dataset, raw), atol=1e-6)
    raw.loc[0, "city"] = "Atlantis"
    made = pyfunc.predict(raw.drop(columns="constant")).to_numpy()
    np.testing.assert_allclose(made, expected(dataset, raw), atol=1e-6)
    request = convert_input_example_to_serving_input(raw.head(4))
    served = validate_serving_input(str(tmp_path / "model"), request)
    np.testing.assert_allclose(np.asarray(served), made[:4], atol=1e-6)


def test_the_network_behind_the_model_needs_no_mlflow(people: Path) -> None:
    dataset = data_of(path=str(people), target="label")
    network = raw_network(model_of(dataset))
    frame = pd.read_csv(people).drop(columns="label")
    known = sorted(text for text in frame["city"].dropna().unique())
    texts = [f.category for f in dataset.recipe.features if f.category is not None]
    assert set(known) <= set(texts)
    codes = frame.assign(city=[np.nan if pd.isna(t) else float(texts.index(t)) for t in frame["city"]])
    made = network(torch.tensor(codes.to_numpy(dtype=np.float64))).detach().numpy()
    np.testing.assert_allclose(made, expected(dataset, frame), atol=1e-6)


@pytest.mark.slow
def test_the_winner_is_a_model_of_the_parent_run_and_a_registered_version(tmp_path: Path) -> None:
    import mlflow

    settings = Settings(home=tmp_path / "home")
    spec = spec_of(tracking={"register_model": "champion of iris"})
    ledger, dataset = MemoryLedger(), data_of(name="iris")
    sweep = new_sweep(ledger, spec).sweep
    end_trials(ledger, sweep, range(4))
    told: list[dict[str, Any]] = []
    tracker = Tracker(
        settings,
        ledger.sweep(sweep),
        spec,
        dataset,
        ledger,
        lambda action, fields: told.append(dict(fields)) if action == "tracker.registered" else None,
    )
    tracker.start()
    for _ in range(2):  # again, as a resume does it: there is still one model
        tracker.trials_ended()
        tracker.sweep_ended()
        tracker.log_winner(ledger.trial(sweep, 2), model_of(dataset))
        assert tracker.flush(240) == []
    tracker.close()
    uri = f"sqlite:///{settings.home / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    try:
        parent = ledger.sweep(sweep).mlflow_run_id
        client = mlflow.MlflowClient()
        tags = client.get_run(parent).data.tags
        assert (tags["winner.trial"], tags["winner.run_id"]) == ("2", ledger.trial(sweep, 2).mlflow_run_id)
        wanted = expected(dataset, dataset.raw_test)
        assert [(one["version"], one["champion"]) for one in told] == [("1", True)]
        assert tags["registered.model"] == "champion of iris version 1"
        [known] = client.search_model_versions("name = 'champion of iris'")
        metrics = client.get_run(parent).data.metrics
        assert known.tags["test.rows"] == dataset.rows_fingerprint != dataset.fingerprint
        assert float(known.tags["test.loss"]) == metrics["winner_test_loss"]
        assert 0 <= metrics["winner_test_accuracy"] <= 1
        for where in (f"runs:/{parent}/model", "models:/champion of iris@champion"):
            made = mlflow.pyfunc.load_model(where).predict(dataset.raw_test)
            np.testing.assert_allclose(made.to_numpy(), wanted, atol=1e-6)
        assert mlflow.pytorch.load_model(f"runs:/{parent}/model") is not None
        assert len(client.search_model_versions("name = 'champion of iris'")) == 1
        assert len(client.search_logged_models([ledger.sweep(sweep).mlflow_experiment_id])) == 1
    finally:
        mlflow.set_tracking_uri(None)  # the variable in the environment goes with it


def test_what_a_first_export_loads_can_be_loaded_ahead() -> None:
    """A sweep calls it in the background, where an error would go unheard and the end would only be slower."""
    program = (
        "import sys\n"
        "from sweeper.tracking.model import warm_up\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "warm_up()\n"
        "assert {'torch._dynamo', 'mlflow.pytorch'} <= set(sys.modules)\n"
        "from mlflow.utils import environment, requirements_utils as usual\n"
        "assert usual._MODULES_TO_PACKAGES is None, 'it has looked at every installed package'\n"
        "assert environment.warn_dependency_requirement_mismatches is usual.warn_dependency_requirement_mismatches"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
