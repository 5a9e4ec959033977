"""How columns become inputs, beside scikit-learn and the papers' formulas, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import QuantileTransformer
from sklearn.tree import DecisionTreeClassifier

from sweeper.data.bins import quantile_edges, target_edges
from sweeper.data.dataset import Dataset, load_dataset
from sweeper.data.loading import load
from sweeper.data.source import Source
from sweeper.errors import SpecError
from sweeper.models import TrainConfig, TrialConfig, train_solo
from sweeper.scheduling.events import Shape
from sweeper.spec.dataset import DatasetSpec, SplitSpec
from sweeper.spec.inputs import Inputs
from sweeper.spec.parse import load_spec
from sweeper.training.leg_runner import LegRunner
from sweeper.training.legs import LegOrder, RowStart, TrialStart

RANDOM = np.random.default_rng(0)
DIABETES = DatasetSpec(name="diabetes")


def raw_columns(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    assert dataset.raw is not None
    return dataset.raw.values[rows]


def test_quantile_scaling_is_scikit_learns_where_nothing_is_tied():
    plain = load_dataset(DIABETES, SplitSpec(), "standard")
    made = plain.prepared(Inputs("quantile"))
    train, test = (raw_columns(plain, rows) for rows in (plain.train_rows, plain.test_rows))
    count = max(10, len(train) // 30)
    theirs = QuantileTransformer(n_quantiles=count, output_distribution="normal", subsample=None).fit(train)
    untied = [i for i in range(train.shape[1]) if len(np.unique(theirs.quantiles_[:, i])) == count]
    assert len(untied) >= 5
    np.testing.assert_allclose(made.x_test[:, untied], theirs.transform(test)[:, untied], atol=1e-5)


def test_equal_values_get_the_middle_of_their_places(tmp_path):
    frame = pd.DataFrame({"few": [0.0] * 6000 + [1.0] * 3000 + [2.0] * 1000, "kind": ["a", "b"] * 5000})
    frame.to_csv(tmp_path / "few.csv", index=False)
    data = load_dataset(DatasetSpec(path=str(tmp_path / "few.csv"), target="kind"), SplitSpec(), "standard")
    made = data.prepared(Inputs("quantile"))
    zero, one, two = (float(made.recipe.transform({"few": [value]})[0, 0]) for value in (0, 1, 2))
    from scipy.special import ndtri

    assert (zero, one, two) == pytest.approx((ndtri(0.3), ndtri(0.75), ndtri(0.95)), abs=0.05)


def test_robust_scaling_is_realmlps():
    plain = load_dataset(DIABETES, SplitSpec(), "standard")
    made = plain.prepared(Inputs("robust"))
    train, test = (raw_columns(plain, rows) for rows in (plain.train_rows, plain.test_rows))
    first, middle, third = np.quantile(train, [0.25, 0.5, 0.75], axis=0)
    spread = np.where(third > first, third - first, (train.max(axis=0) - train.min(axis=0)) / 2)
    z = (test - middle) / spread
    np.testing.assert_allclose(made.x_test, z / np.sqrt(1 + (z / 3) ** 2), atol=1e-5)


@pytest.mark.parametrize("binning", ["quantile", "target"])
def test_a_number_becomes_the_share_of_each_bin_below_it(binning):
    plain = load_dataset(DatasetSpec(name="iris"), SplitSpec(), "standard")
    made = plain.prepared(Inputs("standard", False, "piecewise_linear", 5, binning))
    train, x = raw_columns(plain, plain.train_rows)[:, 2], raw_columns(plain, plain.test_rows)[:, 2]
    edges = quantile_edges(train, 5) if binning == "quantile" else target_edges(train, plain.y_train, True, 5)
    wanted = np.zeros((len(x), len(edges) - 1))
    for i, value in enumerate(x):  # equation 1 of arXiv 2203.05556
        for t in range(1, len(edges)):
            if value < edges[t - 1] and t > 1:
                wanted[i, t - 1] = 0
            elif value >= edges[t] and t < len(edges) - 1:
                wanted[i, t - 1] = 1
            else:
                wanted[i, t - 1] = (value - edges[t - 1]) / (edges[t] - edges[t - 1])
    mine = [i for i, f in enumerate(made.recipe.features) if f.column == plain.recipe.features[2].column]
    np.testing.assert_allclose(made.x_test[:, mine], wanted, atol=1e-6)


def test_values_that_most_rows_have_leave_the_bins_to_the_others():
    rng = np.random.default_rng(0)
    even = rng.normal(size=500)
    np.testing.assert_array_equal(quantile_edges(even, 8), np.quantile(even, np.linspace(0, 1, 9)))
    gains = rng.choice([500.0, 900.0, 1500.0, 4000.0, 7000.0], size=40)
    np.testing.assert_array_equal(quantile_edges(np.r_[np.zeros(960), gains], 8), [0, *np.unique(gains)])
    tail = rng.exponential(size=100)
    edges = quantile_edges(np.r_[np.zeros(900), tail], 8)
    np.testing.assert_allclose(edges, [0.0, *np.quantile(tail, np.linspace(0, 1, 8))])
    np.testing.assert_array_equal(quantile_edges(np.array([1.0, 1.0, 2.0]), 8), [1.0, 2.0])


def test_target_bins_end_where_a_decision_tree_cuts():
    x, y = RANDOM.normal(size=500), RANDOM.integers(0, 2, 500)
    y[x > 0.7] = 1
    tree = DecisionTreeClassifier(max_leaf_nodes=4, min_samples_leaf=12, random_state=0).fit(x[:, None], y).tree_
    cuts = sorted(tree.threshold[tree.feature >= 0])
    assert target_edges(x, y, True, 4).tolist() == [x.min(), *cuts, x.max()]
    assert any(abs(cut - 0.7) < 0.05 for cut in cuts)


def test_trials_of_other_inputs_are_the_plain_pytorch_run_on_their_own_data():
    data = load_dataset(DatasetSpec(name="iris"), SplitSpec(folds=2), "standard")
    runner, train = LegRunner(), TrainConfig(epochs=2, batch_size=16)
    runner.load("s", Source.of(data))
    config = TrialConfig(hidden_layers=(5,), learning_rate=0.01)
    kinds = [Inputs("quantile"), Inputs("standard"), Inputs("none", False, "piecewise_linear", 4, "target")]
    for cohort, inputs in enumerate(kinds):
        start = TrialStart(cohort, 1, Shape((5,), 16, 2, inputs), config, (RowStart(3, 0), RowStart(3, 1)))
        order = LegOrder(
            leg=1, sweep="s", cohort=cohort, train=train, admit=(start,), drop=(),
            epochs=2, width=1, seconds=60.0, metric="val_loss", minimize=True,
        )  # fmt: skip
        result = runner.run(order)
        solos = [train_solo(config, train, fold.tensors(), 3) for fold in data.prepared(inputs).folds]
        assert result.trials[0].parameters == 5 * (data.prepared(inputs).n_inputs + 1) + 6 * data.n_outputs
        wanted = np.mean([solo.val_loss for solo in solos], axis=0)
        np.testing.assert_allclose(result.trials[0].metrics["val_loss"], wanted, rtol=1e-5)


TEXTS = pd.DataFrame({"city": ["Rome", "Oslo"] * 30, "kind": ["a", "b", "b"] * 20})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"inputs": {"bins": 200, "numeric_embedding": "piecewise_linear"}}, ["inputs.bins", "200 bins", "Use "]),
        (
            {"space": {"numeric_embedding": "piecewise_linear", "bins": {"int": [400, 500]}}},
            ["space.bins", "500 bins", "or fewer"],
        ),
        ({"inputs": {"bins": 1}}, ["inputs.bins"]),
        ({"inputs": {"binnning": "quantile"}}, ["inputs.binnning", "'binning'"]),
        ({"normalize": "quantil"}, ["normalize", "'quantile'"]),
        ({"space": {"scaler": "robust"}}, ["space.scaler", "'normalize'"]),
        ({"space": {"bins": {"float": [2, 8]}}}, ["space.bins.float", "Use int"]),
        (
            {"inputs": {"numeric_embedding": "piecewise_linear"}, "dataset": "texts"},
            ["inputs.numeric_embedding", "no column of numbers", "numeric_embedding: none"],
        ),
        (
            {"space": {"numeric_embedding": {"choice": ["plr", "pbld"]}}, "dataset": "texts"},
            ["space.numeric_embedding", "no column of numbers that plr", "numeric_embedding: none"],
        ),
        (
            {"inputs": {"numeric_embedding": "pbld", "embedding_size": 1}},
            ["inputs.embedding_size", "nothing would be embedded", "Use 2 or more"],
        ),
        (
            {"space": {"numeric_embedding": {"choice": ["plr", "pbld"]}, "embedding_size": {"choice": [1, 8]}}},
            ["space.embedding_size", "Use 2 or more"],
        ),
        ({"inputs": {"frequency_scale": 0}}, ["inputs.frequency_scale", "greater than 0"]),
        ({"space": {"n_frequencies": 8}}, ["space.n_frequencies", "'frequencies'"]),
    ],
)
def test_inputs_that_cannot_be_made_are_refused_with_key_and_remedy(tmp_path, spec, words):
    file = tmp_path / "texts.csv"
    TEXTS.to_csv(file, index=False)
    dataset = {"path": str(file), "target": "kind"} if spec.get("dataset") == "texts" else {"name": "iris"}
    with pytest.raises(SpecError) as caught:
        load(load_spec({**spec, "dataset": dataset}))
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_a_space_with_other_values_beside_the_useless_ones_is_warned_of(tmp_path):
    searched = {"numeric_embedding": {"choice": ["none", "piecewise_linear"]}, "bins": {"choice": [8, 500]}}
    [warning] = load(load_spec({"dataset": {"name": "iris"}, "space": searched})).warnings
    assert warning.startswith("space.bins: 500 bins")
    TEXTS.to_csv(tmp_path / "texts.csv", index=False)
    dataset = {"path": str(tmp_path / "texts.csv"), "target": "kind"}
    warnings = load(load_spec({"dataset": dataset, "space": searched})).warnings
    assert any(warning.startswith("space.numeric_embedding: there is no column of numbers") for warning in warnings)
    ready = load(load_spec({"dataset": dataset, "space": "tabular"})).warnings  # which is for any table
    assert any(warning.startswith("space.numeric_embedding: there is no column of numbers") for warning in ready)


def test_settings_of_embeddings_that_nothing_reads_are_told(tmp_path):
    sizes = {"choice": [1, 8], "when": {"numeric_embedding": ["plr"]}}
    space = {"numeric_embedding": {"choice": ["plr", "pbld"]}, "embedding_size": sizes, "bins": 8}
    spec = load_spec({"dataset": {"name": "iris"}, "space": space, "inputs": {"max_one_hot": 5}})
    assert [warning.split(":")[0] for warning in spec.warnings] == ["space.bins", "inputs.max_one_hot"]
    plain = load_spec({"dataset": {"name": "iris"}, "inputs": {"frequencies": 8}})
    assert plain.warnings == ["inputs.frequencies: it has no effect without numeric_embedding: plr or pbld."]
    TEXTS.assign(age=range(60)).to_csv(tmp_path / "texts.csv", index=False)
    searched = {"numeric_embedding": "plr", "category_embedding": {"choice": [0, 8]}}
    table = {"path": str(tmp_path / "texts.csv"), "target": "kind"}
    warnings = load(load_spec({"dataset": table, "space": searched})).warnings
    assert any(
        warning.startswith("space.category_embedding: no column of texts has more than 9") for warning in warnings
    )


def test_a_space_for_both_tasks_may_smooth_labels_and_a_regression_is_told():
    space = {"learning_rate": 0.1, "label_smoothing": {"choice": [0.0, 0.1]}}
    loaded = load(load_spec({"dataset": {"name": "diabetes"}, "space": space}))
    assert any(warning.startswith("space.label_smoothing: a regression has no labels") for warning in loaded.warnings)


def test_a_last_minibatch_of_one_row_is_refused_where_a_trial_may_have_batch_normalization() -> None:
    space = {"learning_rate": 0.1, "normalization": {"choice": ["none", "batch"]}}
    iris = {"dataset": {"name": "iris"}, "space": space}
    n = load(load_spec(iris)).n_train
    size = next(size for size in range(2, n) if n % size == 1)
    with pytest.raises(SpecError, match=rf"^training.batch_size: {size} of {n} training rows .* Use {size + 1}"):
        load(load_spec({**iris, "training": {"batch_size": size}}))
    searched = {**space, "batch_size": {"choice": [16 if n % 16 != 1 else 17, size]}}
    with pytest.raises(SpecError, match=rf"^space.batch_size: {size} of {n}"):
        load(load_spec({**iris, "space": searched}))
    searched["batch_size"] = {**searched["batch_size"], "when": {"normalization": ["none"]}}
    assert load(load_spec({**iris, "space": searched})).n_train == n


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": {"batch_size": 89}}, "89 of 90 training rows at a time leave 1 to the last minibatch, which"),
        (
            {"training": {"batch_size": 95}, "finals": {"folds": 5}},
            "95 of 96 training rows at a time leave 1 to the last minibatch in a fold of the finals",
        ),
    ],
)
def test_a_minibatch_of_one_row_is_refused_where_it_would_be_normalised_also_in_the_folds_of_finals(change, said):
    space = {"hidden_layers": [8], "normalization": "batch"}
    with pytest.raises(SpecError, match=said) as refused:
        load(load_spec({"dataset": {"name": "iris"}, "space": space, **change}))
    assert refused.value.key == "training.batch_size"
