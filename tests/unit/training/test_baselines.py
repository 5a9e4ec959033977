"""Simple models beside a sweep: the same as scikit-learn's by hand, trained once, and never a reason to fail."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge

from sweeper.data.dataset import load_dataset
from sweeper.spec.parse import load_spec
from sweeper.training import baselines
from sweeper.training.baselines import METHODS, BaselineWork, raw_inputs, read, train
from sweeper.training.scores import names_for, score


def dataset(**sections):
    spec = load_spec(sections)
    return load_dataset(spec.dataset, spec.split, spec.normalize)


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A table of texts and numbers, with a rare text and a missing number."""
    rng = np.random.default_rng(0)
    n = 300
    frame = pd.DataFrame({"colour": rng.choice(["red", "green", "blue"], n), "size": rng.normal(size=n)})
    frame.loc[3, "colour"], frame.loc[5, "size"] = "violet", None
    frame["label"] = np.where((frame.colour == "red") ^ (frame["size"] > 0), "yes", "no")
    path = tmp_path_factory.mktemp("colours") / "colours.csv"
    frame.to_csv(path, index=False)
    return dataset(dataset={"path": str(path), "target": "label"}), frame


def test_the_linear_model_and_the_constant_are_scikit_learns():
    iris, diabetes = dataset(dataset={"name": "iris"}), dataset(dataset={"name": "diabetes"})

    linear = LogisticRegression(max_iter=300).fit(iris.x_train, iris.y_train).predict_proba(iris.x_test)
    ridge = Ridge().fit(diabetes.x_train, diabetes.y_train).predict(diabetes.x_val)

    assert np.exp(train("linear", iris).test) == pytest.approx(linear, abs=1e-6)
    assert train("linear", diabetes).validation[:, 0] == pytest.approx(ridge, abs=1e-6)
    assert train("constant", diabetes).test == pytest.approx(np.full((len(diabetes.y_test), 1), 0.0), abs=1e-6)
    assert np.exp(train("constant", iris).test[0]) == pytest.approx(np.bincount(iris.y_train) / iris.n_train)


def test_the_tree_sees_the_columns_of_the_table_with_categories_as_they_are(colours):
    data, frame = colours

    columns, categories = raw_inputs(data, data.x_train)

    order = [feature.column for feature in data.recipe.features]
    assert categories.tolist() == [name == "colour" for name in dict.fromkeys(order)]
    texts = columns[:, categories.argmax()]
    known = data.recipe.categories()["colour"]
    assert [known[int(code)] for code in texts] == frame.colour.iloc[data.train_rows].tolist()
    model = HistGradientBoostingClassifier(categorical_features=categories, random_state=0)
    by_hand = model.fit(columns, data.y_train).predict_proba(raw_inputs(data, data.x_test)[0])
    assert np.exp(train("tree", data).test) == pytest.approx(by_hand, abs=1e-6)


def test_a_text_that_training_has_not_seen_is_missing_to_the_tree(colours):
    data, _ = colours
    unseen = np.zeros_like(data.x_test[:1])

    columns, categories = raw_inputs(data, unseen)

    assert np.isnan(columns[0, categories.argmax()])


def test_baselines_are_trained_once_and_read_from_the_folder_afterwards(tmp_path, monkeypatch):
    iris = dataset(dataset={"name": "iris"})
    first = BaselineWork(iris, tmp_path).result(60)
    monkeypatch.setattr(baselines, "train", lambda method, data: pytest.fail(f"{method} was trained again"))

    again = BaselineWork(iris, tmp_path).result(60)

    assert [one.method for one in again] == list(METHODS)
    assert all(one.problem == "" for one in again)
    for before, after in zip(first, again, strict=True):
        assert (before.test == after.test).all()
        assert before.seconds == after.seconds
    assert read(tmp_path / baselines.FILE, "other data") is None


def test_a_file_that_is_damaged_is_replaced(tmp_path):
    iris = dataset(dataset={"name": "iris"})
    (tmp_path / baselines.FILE).write_bytes(b"half a file")

    found = BaselineWork(iris, tmp_path).result(60)

    assert [one.problem for one in found] == ["", "", ""]
    assert read(tmp_path / baselines.FILE, iris.fingerprint) is not None


def test_a_baseline_that_cannot_be_trained_says_why_and_the_others_are_there(tmp_path, monkeypatch):
    iris = dataset(dataset={"name": "iris"})

    def refuses(data):
        raise ValueError("it needs samples\nof at least 2 classes")

    monkeypatch.setitem(baselines._PREDICTED, "linear", refuses)

    found = {one.method: one.problem for one in BaselineWork(iris, tmp_path).result(60)}

    assert found == {"constant": "", "linear": "ValueError: it needs samples of at least 2 classes", "tree": ""}


def test_what_is_not_trained_in_time_is_said(tmp_path, monkeypatch):
    import threading

    release = threading.Event()
    monkeypatch.setitem(baselines._PREDICTED, "constant", lambda data: release.wait())

    found = BaselineWork(dataset(dataset={"name": "iris"}), tmp_path).result(0.01)

    release.set()
    assert [one.problem for one in found] == ["not trained within 0.01 s of the sweep's end"] * 3


def test_scores_leave_out_what_the_rows_do_not_define():
    iris, cancer = dataset(dataset={"name": "iris"}), dataset(dataset={"name": "breast_cancer"})
    one = train("linear", cancer)

    import torch

    found = score(cancer, [torch.from_numpy(one.test)], "test", names_for(cancer))

    assert "f1" in names_for(cancer)
    assert "f1" not in names_for(iris)
    assert found["accuracy"][0] == (one.test.argmax(axis=1) == cancer.y_test).mean()
