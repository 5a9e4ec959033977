"""Simple models beside a sweep: the same as scikit-learn's by hand, trained once, and never a reason to fail."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression, Ridge

from sweeper.data.dataset import load_dataset
from sweeper.data.loading import features_of
from sweeper.spec.parse import load_spec
from sweeper.training import baselines
from sweeper.training.baselines import METHODS, BaselineWork, read, train, tree_columns
from sweeper.training.scores import names_for, score


def dataset(**sections):
    spec = load_spec(sections)
    return load_dataset(spec.dataset, spec.split, spec.normalize)


def features(**sections):
    return lambda: features_of(load_spec(sections))


IRIS, CANCER, DIABETES = (features(dataset={"name": name}) for name in ("iris", "breast_cancer", "diabetes"))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A table of texts and numbers, with a rare text and missing values."""
    rng = np.random.default_rng(0)
    n = 300
    frame = pd.DataFrame({"colour": rng.choice(["red", "green", "blue"], n), "size": rng.normal(size=n)})
    frame["label"] = np.where((frame.colour == "red") ^ (frame["size"] > 0), "yes", "no")
    frame.loc[3, "colour"], frame.loc[::5, "size"], frame.loc[::7, "colour"] = "violet", None, None
    path = tmp_path_factory.mktemp("colours") / "colours.csv"
    frame.to_csv(path, index=False)
    about = {"path": str(path), "target": "label"}
    return dataset(dataset=about), frame, features(dataset=about)


def test_the_linear_model_and_the_constant_are_scikit_learns():
    iris, diabetes = dataset(dataset={"name": "iris"}), dataset(dataset={"name": "diabetes"})

    linear = LogisticRegression(max_iter=300).fit(iris.x_train, iris.y_train).predict_proba(iris.x_test)
    ridge = Ridge().fit(diabetes.x_train, diabetes.y_train).predict(diabetes.x_val)

    assert np.exp(train("linear", iris, IRIS).test) == pytest.approx(linear, abs=1e-6)
    assert train("linear", diabetes, DIABETES).validation[:, 0] == pytest.approx(ridge, abs=1e-6)
    assert train("constant", diabetes, DIABETES).test == pytest.approx(
        np.full((len(diabetes.y_test), 1), 0.0), abs=1e-6
    )
    assert np.exp(train("constant", iris, IRIS).test[0]) == pytest.approx(np.bincount(iris.y_train) / iris.n_train)


def test_the_tree_is_what_scikit_learn_makes_of_the_users_own_table(colours):
    data, frame, read_features = colours
    raw = frame.drop(columns="label").astype({"colour": "category"})
    parts = [raw.iloc[rows] for rows in (data.train_rows, data.test_rows)]

    by_hand = HistGradientBoostingClassifier(random_state=0).fit(parts[0], data.y_train).predict_proba(parts[1])

    assert frame["size"].iloc[data.train_rows].isna().sum() > 20
    assert np.exp(train("tree", data, read_features).test) == pytest.approx(by_hand, abs=1e-6)


def test_a_text_that_training_has_not_seen_is_missing_to_the_tree_and_very_many_texts_are_numbers():
    names = [f"n{i:03d}" for i in range(300)]
    table = pd.DataFrame({"name": [*names, None], "kind": [*["a", "b"] * 150, "c"], "on": [*[True, False] * 150, True]})
    columns = tree_columns(table.astype({"name": "category", "kind": "category"}), np.arange(299))

    assert columns["name"].iloc[:299].tolist() == list(range(299))
    assert columns.iloc[299:].isna().to_numpy().tolist() == [[True, False, False], [True, True, False]]
    assert columns["kind"].cat.categories.tolist() == ["a", "b"]
    assert columns["on"].iloc[:2].tolist() == [1.0, 0.0]


def test_baselines_are_trained_once_and_read_from_the_folder_afterwards(tmp_path, monkeypatch):
    iris = dataset(dataset={"name": "iris"})
    first = BaselineWork(iris, tmp_path, IRIS).result(60)
    monkeypatch.setattr(baselines, "train", lambda method, *_: pytest.fail(f"{method} was trained again"))

    again = BaselineWork(iris, tmp_path, IRIS).result(60)

    assert [one.method for one in again] == list(METHODS)
    assert all(one.problem == "" for one in again)
    for before, after in zip(first, again, strict=True):
        assert (before.test == after.test).all()
        assert before.seconds == after.seconds
    assert read(tmp_path / baselines.FILE, "other data") is None


def test_a_file_that_is_damaged_is_replaced(tmp_path):
    iris = dataset(dataset={"name": "iris"})
    (tmp_path / baselines.FILE).write_bytes(b"half a file")

    found = BaselineWork(iris, tmp_path, IRIS).result(60)

    assert [one.problem for one in found] == ["", "", ""]
    assert read(tmp_path / baselines.FILE, iris.fingerprint) is not None


def test_a_baseline_that_cannot_be_trained_says_why_and_the_others_are_there(tmp_path, monkeypatch):
    iris = dataset(dataset={"name": "iris"})

    def refuses(*_):
        raise ValueError("it needs samples\nof at least 2 classes")

    monkeypatch.setitem(baselines._PREDICTED, "linear", refuses)

    found = {one.method: one.problem for one in BaselineWork(iris, tmp_path, IRIS).result(60)}

    assert found == {"constant": "", "linear": "ValueError: it needs samples of at least 2 classes", "tree": ""}


def test_what_is_not_trained_in_time_is_said(tmp_path, monkeypatch):
    import threading

    release = threading.Event()
    monkeypatch.setitem(baselines._PREDICTED, "constant", lambda *_: release.wait())

    found = BaselineWork(dataset(dataset={"name": "iris"}), tmp_path, IRIS).result(0.01)

    release.set()
    assert [one.problem for one in found] == ["not trained within 0.01 s of the sweep's end"] * 3


def test_scores_leave_out_what_the_rows_do_not_define():
    iris, cancer = dataset(dataset={"name": "iris"}), dataset(dataset={"name": "breast_cancer"})
    one = train("linear", cancer, CANCER)

    import torch

    found = score(cancer, [torch.from_numpy(one.test)], "test", names_for(cancer))

    assert "f1" in names_for(cancer)
    assert "f1" not in names_for(iris)
    assert found["accuracy"][0] == (one.test.argmax(axis=1) == cancer.y_test).mean()
