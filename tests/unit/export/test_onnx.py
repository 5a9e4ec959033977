"""The winner in ONNX predicts what the trained network does, from raw columns with texts, flags and holes."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from sweeper.data import numerals
from sweeper.data.dataset import Dataset, load_dataset
from sweeper.export.model_folder import _predicting, _preprocessing
from sweeper.export.onnx import metadata, onnx_model
from sweeper.export.templates import render
from sweeper.models import ACTIVATIONS, TrialConfig, build_mlp
from sweeper.spec.parse import SplitSpec, load_spec
from sweeper.tracking.model import raw_network
from sweeper.training.averaging import TrialModel, weighted


def data_of(**dataset: Any) -> Dataset:
    return load_dataset(load_spec({"dataset": dataset, "space": "mlp"}).dataset, SplitSpec(), "standard")


def exported(dataset: Dataset, config: TrialConfig) -> tuple[onnxruntime.InferenceSession, TrialModel]:
    """The model in its runtime, and as it is."""
    model = model_of(dataset, config)
    return onnxruntime.InferenceSession(onnx_model(model, metadata(dataset, "abc", 7))), model


def model_of(dataset: Dataset, config: TrialConfig, seed: int = 3) -> TrialModel:
    network = build_mlp(config, dataset.n_inputs, dataset.n_outputs, seed)
    return TrialModel.of_one(dataset, config, {name: tensor.numpy() for name, tensor in network.state_dict().items()})


LONG = tuple(f"a class whose name is longer than sixty letters, {i}, and ends like the others" for i in range(2))


def columns_of(session: onnxruntime.InferenceSession, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """As the model card says."""
    texts = {i.name: "string" in i.type for i in session.get_inputs()}
    return {
        name: rows[[name]].fillna("").astype(str).to_numpy(object) if text else rows[[name]].to_numpy(float)
        for name, text in texts.items()
    }


KINDS = [
    {"normalization": "layer"},
    {"normalization": "layer", "parametrization": "ntk"},
    {"normalization": "batch", "residual": True},
    {"residual": True, "parametrization": "ntk"},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_other_layers_give_the_same_probabilities_in_onnx_and_in_the_script(
    kind: dict[str, Any], tmp_path: Path
) -> None:
    dataset, config = data_of(name="iris"), TrialConfig(**({"hidden_layers": (7, 7, 5)} | kind))
    random, weights = np.random.default_rng(0), model_of(dataset, config).parts[0].weights
    shaken = {  # biases, shifts and statistics begin at 0 or 1
        name: array if array.ndim == 2 else (array + random.uniform(0, 0.5, array.shape)).astype(np.float32)
        for name, array in weights.items()
        if array.dtype == np.float32
    }
    model = TrialModel.of_one(dataset, config, shaken)
    session = onnxruntime.InferenceSession(onnx_model(model, metadata(dataset, "abc", 7)))
    raw = dataset.raw_test
    with torch.no_grad():
        wanted = raw_network(model)(torch.tensor(raw.to_numpy(), dtype=torch.float64)).numpy()
    assert np.ptp(wanted, axis=0).max() > 0.01
    np.testing.assert_allclose(session.run(None, columns_of(session, raw))[1], wanted, atol=1e-5, rtol=0)
    np.testing.assert_allclose(predicted(model, tmp_path), wanted, atol=1e-5, rtol=0)


def predicted(model: TrialModel, folder: Path) -> np.ndarray:
    """What the exported script makes of the test rows."""
    save_file(model.named_weights(), folder / "weights.safetensors")
    (folder / "preprocessing.json").write_text(json.dumps(_preprocessing(model.dataset)), encoding="utf-8")
    (folder / "predict.py").write_text(render("model_predict.py.j2", _predicting(model)), encoding="utf-8")
    shutil.copy(numerals.__file__, folder)
    script = runpy.run_path(str(folder / "predict.py"))
    return script["predict"]({name: column.tolist() for name, column in model.dataset.raw_test.items()})


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (9,), (16, 5)])
def test_every_network_gives_the_same_probabilities_and_labels(activation: str, hidden: tuple[int, ...]) -> None:
    dataset, config = data_of(name="iris"), TrialConfig(hidden_layers=hidden, activation=activation)
    session, model = exported(dataset, config)
    raw = dataset.raw_test
    label, probabilities = session.run(None, columns_of(session, raw))
    with torch.no_grad():
        wanted = raw_network(model)(torch.tensor(raw.to_numpy(), dtype=torch.float64)).numpy()
    np.testing.assert_allclose(probabilities, wanted, atol=1e-5, rtol=0)
    assert list(label) == [dataset.class_names[i] for i in wanted.argmax(axis=1)]
    about = session.get_modelmeta().custom_metadata_map
    assert (about["sweep"], about["trial"], about["target"]) == ("abc", "7", dataset.target_name)


@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_a_weighted_sum_of_networks_says_the_sum_of_what_they_say(name: str) -> None:
    dataset = data_of(name=name)
    configs = [TrialConfig(hidden_layers=(7, 4), activation="gelu"), TrialConfig(hidden_layers=()), TrialConfig()]
    models = [model_of(dataset, config, seed) for seed, config in enumerate(configs)]
    mixed = weighted(models, [0.5, 0.3, 0.2])
    assert mixed.dataset.n_inputs == dataset.n_inputs
    x = torch.tensor(dataset.x_test)
    with torch.no_grad():
        wanted = sum(share * model.network()(x) for share, model in zip([0.5, 0.3, 0.2], models, strict=True))
        torch.testing.assert_close(mixed.network()(x), wanted)
        rows = torch.tensor(dataset.raw_test.to_numpy(), dtype=torch.float64)
        predicted = raw_network(mixed)(rows).numpy()
    session = onnxruntime.InferenceSession(onnx_model(mixed, metadata(dataset, "abc", 7)))
    made = session.run(None, columns_of(session, dataset.raw_test))[-1]
    np.testing.assert_allclose(made, predicted, atol=1e-5, rtol=1e-5)
    assert mixed.named_weights().keys() >= {"network0.0.weight", "network1.0.bias", "network2.4.weight"}


def test_a_regression_is_in_the_unit_of_its_target() -> None:
    dataset, config = data_of(name="diabetes"), TrialConfig(hidden_layers=(8,))
    session, model = exported(dataset, config)
    [value] = session.run(None, columns_of(session, dataset.raw_test))
    rows = torch.tensor(dataset.raw_test.to_numpy(), dtype=torch.float64)
    wanted = raw_network(model)(rows).detach().numpy()
    assert value.shape == wanted.shape
    np.testing.assert_allclose(value, wanted, rtol=1e-5)


def test_texts_flags_and_holes_are_taken_as_in_training(tmp_path: Path) -> None:
    draw, n = np.random.default_rng(0), 80
    table = pd.DataFrame(
        {
            "age": draw.integers(18, 80, n),
            "height": np.where(draw.random(n) < 0.2, np.nan, draw.normal(1.7, 0.1, n).round(2)),
            "city, home": draw.choice(["Rome", "Oslo", "Bern"], n),
            "constant": 7,
            "member": draw.random(n) < 0.5,
            "label": draw.choice(LONG, n),
        }
    )
    table.loc[draw.random(n) < 0.2, "city, home"] = None
    table.to_csv(tmp_path / "people.csv", index=False)
    dataset, config = data_of(path=str(tmp_path / "people.csv"), target="label"), TrialConfig(hidden_layers=(8,))
    session, model = exported(dataset, config)
    rows = pd.read_csv(tmp_path / "people.csv")
    rows.loc[0, "city, home"] = "Atlantis"
    rows.loc[1, ["age", "height"]] = np.nan
    label, made = session.run(None, columns_of(session, rows))
    network = build_mlp(config, dataset.n_inputs, dataset.n_outputs, seed=3)
    with torch.no_grad():
        wanted = torch.softmax(network(torch.from_numpy(dataset.recipe.transform(rows))), dim=1).numpy()
    np.testing.assert_allclose(made, wanted, atol=1e-5, rtol=0)
    assert list(label) == [LONG[i] for i in wanted.argmax(axis=1)]
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(LONG)
    assert "constant" not in {one.name for one in session.get_inputs()}
    assert model.single
