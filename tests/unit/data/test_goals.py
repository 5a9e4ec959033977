"""What a sweep is judged by, checked against its data before anything is trained."""

import numpy as np
import pandas as pd
import pytest
from sklearn.utils.class_weight import compute_class_weight

from sweeper.data.loading import load
from sweeper.errors import SpecError
from sweeper.spec.parse import load_spec


def refused(needles, **sections):
    with pytest.raises(SpecError) as found:
        load(load_spec(sections))
    assert all(needle in str(found.value) for needle in needles), found.value


def table(tmp_path, **columns):
    pd.DataFrame(columns).to_csv(tmp_path / "table.csv", index=False)
    return {"path": str(tmp_path / "table.csv"), "target": "y"}


def test_balanced_class_weights_are_scikit_learns():
    data = load(load_spec({"dataset": {"name": "breast_cancer"}, "training": {"class_weights": "balanced"}}))

    wanted = compute_class_weight("balanced", classes=np.arange(2), y=data.y_train)

    assert data.w_train == pytest.approx(wanted[data.y_train], rel=1e-6)
    assert data.w_val is None


def test_class_weights_by_label_multiply_the_weights_of_the_rows(tmp_path):
    y = ["yes", "no", "no"] * 20
    about = table(tmp_path, x=np.arange(60.0) % 7, y=y, count=np.arange(60) % 3 + 1)
    weights = {"yes": 4.0}

    data = load(load_spec({"dataset": {**about, "weight": "count"}, "training": {"class_weights": weights}}))
    plain = load(load_spec({"dataset": {**about, "weight": "count"}}))

    assert data.class_labels == ("no", "yes")
    assert (data.w_train == plain.w_train * np.where(data.y_train == 1, 4.0, 1.0)).all()
    assert (data.w_val == plain.w_val).all()


def test_labels_that_are_numbers_are_found_as_yaml_reads_them(tmp_path):
    about = table(tmp_path, x=np.arange(60.0) % 7, y=np.arange(60) % 2)

    data = load(load_spec({"dataset": about, "training": {"class_weights": {1: 3, 0.0: 2}}}))

    assert set(data.w_train[data.y_train == 1]) == {3.0}
    assert set(data.w_train[data.y_train == 0]) == {2.0}


@pytest.mark.parametrize(
    ("weights", "needles"),
    [
        ({"malignent": 2}, ["training.class_weights", "no class 'malignent'", "Did you mean 'malignant'?"]),
        ({"malignant": 0}, ["training.class_weights", "'0' of 'malignant' is no number above 0"]),
        ({}, ["training.class_weights", "is not valid", "Write balanced"]),
        ("equal", ["training.class_weights", "'equal' is not valid", "Write balanced"]),
    ],
)
def test_weights_of_no_class_are_refused(weights, needles):
    refused(needles, dataset={"name": "breast_cancer"}, training={"class_weights": weights})


def test_a_regression_has_no_class_weights():
    refused(["a regression has no classes"], dataset={"name": "diabetes"}, training={"class_weights": "balanced"})


def test_metrics_that_the_rows_do_not_define_are_refused_where_they_are_named(tmp_path):
    refused(
        ["objective.metric", "two classes", "Use val_f1_macro"],
        dataset={"name": "iris"},
        objective={"metric": "val_f1"},
    )
    refused(
        ["constraints.0", "val_mape divides by the target"],
        dataset=table(tmp_path, x=np.arange(60.0), y=np.r_[np.zeros(30), np.linspace(1, 9.5, 30)]),
        constraints=["val_mape <= 0.1"],
    )
    refused(
        ["a regression has no val_roc_auc", "val_r2"],
        dataset={"name": "diabetes"},
        objective={"metric": "val_roc_auc"},
    )


def test_a_metric_of_ones_own_is_called_once_before_anything_is_trained(tmp_path):
    (tmp_path / "own.py").write_text("def worst(y_true, y_pred):\n    return abs(y_true - y_pred).max() * None\n")
    metrics = [f"{tmp_path}/own.py:worst"]

    refused(["metrics.0: own.py, line 2: TypeError"], dataset={"name": "diabetes"}, metrics=metrics)


def test_a_metric_whose_file_has_changed_since_the_sweep_was_made_is_refused(tmp_path):
    (tmp_path / "own.py").write_text("def worst(y_true, y_pred):\n    return abs(y_true - y_pred).max()\n")
    spec = load_spec({"dataset": {"name": "diabetes"}, "metrics": [f"{tmp_path}/own.py:worst"]})
    load(spec)

    (tmp_path / "own.py").write_text("def worst(y_true, y_pred):\n    return 0.0\n")

    with pytest.raises(SpecError, match="changed since this sweep was made"):
        load(spec)
