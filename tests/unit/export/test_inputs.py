"""Every way in which columns become inputs is the same in training and in each form that a winner leaves in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from scipy.special import ndtri

from sweeper.data import numerals
from sweeper.data.dataset import Dataset, load_dataset, preprocess_from_json
from sweeper.export.model_folder import _predicting, _preprocessing
from sweeper.export.onnx import metadata, onnx_model
from sweeper.export.onnx_places import normal_places
from sweeper.export.templates import render
from sweeper.models import TrialConfig, build_mlp
from sweeper.spec.dataset import DatasetSpec, SplitSpec
from sweeper.spec.inputs import Inputs
from sweeper.tracking.model import raw_network
from sweeper.training.averaging import TrialModel

KINDS = [
    Inputs("robust", missing_indicator=True),
    Inputs("quantile", missing_indicator=True),
    Inputs("standard", False, "piecewise_linear", 6, "quantile"),
    Inputs("quantile", True, "piecewise_linear", 6, "target"),
]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, DatasetSpec]:
    """A table with holes, texts, booleans, a column of few values that are no float32, and one with a long tail."""
    draw, n = np.random.default_rng(0), 400
    frame = pd.DataFrame(
        {
            "age": draw.normal(40, 12, n).round(1),
            "height": np.where(draw.random(n) < 0.2, np.nan, draw.normal(1.7, 0.1, n)),
            "few": draw.choice([0.1, 0.3, 0.7], n, p=[0.8, 0.1, 0.1]),
            "income": np.exp(draw.normal(0, 2, n)),
            "city": draw.choice(["Rome", "Oslo", "Bern"], n),
            "member": draw.random(n) < 0.5,
        }
    )
    frame["moved"] = np.where(frame["age"] + draw.normal(0, 9, n) > 45, "yes", "no")
    frame.loc[draw.random(n) < 0.2, "city"] = None
    file = tmp_path_factory.mktemp("people") / "people.csv"
    frame.to_csv(file, index=False)
    return frame, DatasetSpec(path=str(file), target="moved")


PLAIN = TrialConfig(hidden_layers=(7,))
SIZES: dict[str, Any] = {"frequencies": 3, "embedding_size": 4, "frequency_scale": 0.5, "hidden_layers": (7,)}
EMBEDDED = [
    TrialConfig(**SIZES, numeric_embedding="plr"),
    TrialConfig(**SIZES, numeric_embedding="pbld", category_embedding=2, max_one_hot=3),
    TrialConfig(category_embedding=2, max_one_hot=3, hidden_layers=()),
]


def leaves(dataset: Dataset, rows: pd.DataFrame, folder: Path, config: TrialConfig = PLAIN) -> dict[str, np.ndarray]:
    """The probabilities ``(n, C)`` of one network for raw rows, by the form that it left in."""
    network = build_mlp(config, dataset.n_inputs, dataset.n_outputs, seed=3, columns=dataset.recipe.kinds)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    model, found = TrialModel.of_one(dataset, config, weights), {}
    session = onnxruntime.InferenceSession(onnx_model(model, metadata(dataset, "abc", 7)))
    texts = {i.name: "string" in i.type for i in session.get_inputs()}
    columns = {
        name: rows[[name]].fillna("").astype(str).to_numpy(object) if text else rows[[name]].to_numpy(float)
        for name, text in texts.items()
    }
    found["onnx"] = session.run(None, columns)[1]
    known = dataset.recipe.categories()
    codes = [
        rows[c.name].fillna("(missing)").map({text: i for i, text in enumerate(known[c.name])}).fillna(-1)
        if c.name in known
        else rows[c.name]
        for c in dataset.raw_columns
    ]
    raw = torch.tensor(np.array([np.asarray(column, dtype=np.float32) for column in codes]).T)
    with torch.no_grad():
        found["mlflow"] = raw_network(model)(raw).numpy()
    found["predict.py"] = predicted(model, rows, folder)
    return found


def predicted(model: TrialModel, rows: pd.DataFrame, folder: Path) -> np.ndarray:
    """What the script in an exported folder says, run in this process."""
    import json

    from safetensors.numpy import save_file

    save_file(model.named_weights(), folder / "weights.safetensors")
    (folder / "preprocessing.json").write_text(json.dumps(_preprocessing(model.dataset), allow_nan=False))
    shutil.copy(numerals.__file__, folder)
    script = render("model_predict.py.j2", _predicting(model))
    scope: dict[str, Any] = {"__file__": str(folder / "predict.py"), "__name__": "predict"}
    exec(compile(script, "predict.py", "exec"), scope)
    cells = {name: ["" if pd.isna(cell) else str(cell) for cell in rows[name]] for name in rows}
    return scope["predict"](cells)


@pytest.mark.parametrize("inputs", KINDS, ids=str)
def test_each_form_of_the_winner_prepares_rows_as_training_did(people, tmp_path, inputs):
    frame, spec = people
    plain = load_dataset(spec, SplitSpec(), "standard")
    dataset = plain.prepared(inputs)
    rows = frame.iloc[dataset.test_rows].drop(columns="moved")
    np.testing.assert_array_equal(dataset.recipe.transform(rows), dataset.x_test)
    again = preprocess_from_json(dataset.preprocess_to_json())
    assert again == dataset.recipe
    np.testing.assert_array_equal(dataset.y_train, plain.y_train)
    config = TrialConfig(hidden_layers=(7,))
    network = build_mlp(config, dataset.n_inputs, dataset.n_outputs, seed=3)
    with torch.no_grad():
        wanted = torch.softmax(network(torch.tensor(dataset.x_test)), dim=1).numpy()
    for form, made in leaves(dataset, rows, tmp_path).items():
        np.testing.assert_allclose(made, wanted, atol=2e-5, rtol=0, err_msg=form)


@pytest.mark.parametrize("config", EMBEDDED, ids=["plr", "pbld and texts", "texts"])
def test_each_form_of_the_winner_embeds_as_training_did(people, tmp_path, config):
    frame, spec = people
    dataset = load_dataset(spec, SplitSpec(), "standard").prepared(Inputs("quantile", missing_indicator=True))
    assert list(dataset.recipe.kinds) == [0, 0, 0, 0, -1, -1, 1, 1, 1, 1]  # numbers, a flag, a hole, a text
    rows = frame.iloc[dataset.test_rows].drop(columns="moved")
    rows.loc[rows.index[0], "city"] = "Paris"  # never seen
    network = build_mlp(config, dataset.n_inputs, dataset.n_outputs, seed=3, columns=dataset.recipe.kinds)
    assert "embedding" in dict(network.named_children())
    with torch.no_grad():
        wanted = torch.softmax(network(torch.tensor(dataset.recipe.transform(rows))), dim=1).numpy()
    for form, made in leaves(dataset, rows, tmp_path, config).items():
        np.testing.assert_allclose(made, wanted, atol=2e-5, rtol=0, err_msg=form)


@pytest.mark.parametrize("inputs", KINDS, ids=str)
def test_folds_fit_their_own_preprocessing_and_have_the_same_inputs(people, inputs):
    _, spec = people
    dataset = load_dataset(spec, SplitSpec(folds=3), "standard").prepared(inputs)
    assert {fold.x_train.shape[1] for fold in dataset.folds} == {dataset.n_inputs}
    assert len({str(fold.recipe) for fold in dataset.folds}) == 3
    for fold in dataset.folds:
        assert [f.column for f in fold.recipe.features] == [f.column for f in dataset.recipe.features]
    most = load_dataset(spec, SplitSpec(folds=3), "standard").most_kinds(inputs)
    assert len(most) == dataset.n_inputs or inputs.bins
    assert len(most) >= dataset.n_inputs
    assert inputs.bins or list(most) == list(dataset.recipe.kinds)


def test_normal_quantiles_in_onnx_are_those_of_scipy():
    from onnx import TensorProto, helper

    from sweeper.export.onnx import OPSET, _Graph

    graph, places = _Graph(), np.concatenate([np.linspace(0, 1, 4001), 10.0 ** -np.arange(2, 9)])
    knots = np.array([[0.0, 1.0, np.inf]]), np.array([[0.0, 1.0, 1.0]]), np.array([[0.0, 1.0, 1.0]])
    graph.inputs.append(helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 1]))
    made = normal_places(graph, "x", knots)
    graph.outputs.append(helper.make_tensor_value_info(made, TensorProto.DOUBLE, ["n", 1]))
    model = helper.make_model(graph.made(), opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    [found] = session.run(None, {"x": places[:, None]})
    bound = 5.199337582605575
    np.testing.assert_allclose(found[:, 0], ndtri(places).clip(-bound, bound), rtol=1e-12, atol=1e-12)
