"""The winner beside simple models: what is said of it has to hold on new rows."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from sweeper.data.dataset import load_dataset
from sweeper.insight.baselines import BaselineOutcome, compare_with_baselines
from sweeper.spec.goals import ObjectiveSpec
from sweeper.spec.parse import load_spec
from sweeper.training.baselines import Baseline, train


def load(name):
    spec = load_spec({"dataset": {"name": name}})
    return load_dataset(spec.dataset, spec.split, spec.normalize)


@pytest.fixture(scope="module")
def cancer():
    return load("breast_cancer")


@pytest.fixture(scope="module")
def simple(cancer):
    return [train(method, cancer, pd.DataFrame) for method in ("constant", "linear")]


def outputs(baseline):
    return {"validation": torch.from_numpy(baseline.validation), "test": torch.from_numpy(baseline.test)}


def test_a_winner_that_is_the_linear_model_beats_the_constant_and_cannot_be_told_apart_from_itself(cancer, simple):
    outcome = compare_with_baselines(cancer, 7, ObjectiveSpec(metric="val_loss"), outputs(simple[1]), simple)

    assert {pair.method: pair.better for pair in outcome.pairs} == {"constant": "winner", "linear": "neither"}
    assert outcome.sentence.startswith("On new rows the winner (test loss ")
    assert "beats a constant prediction, and cannot be told apart from a linear model" in outcome.sentence
    assert outcome.test == outcome.row("linear").test


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy", "val_roc_auc"])
def test_a_winner_that_is_the_constant_is_told_to_use_the_linear_model(cancer, simple, metric):
    outcome = compare_with_baselines(cancer, 7, ObjectiveSpec(metric=metric), outputs(simple[0]), simple)

    assert {pair.method: pair.better for pair in outcome.pairs} == {"constant": "neither", "linear": "baseline"}
    name = metric.removeprefix("val_")
    assert outcome.sentence.startswith(f"A linear model reaches a test {name} of ")
    assert "use it, or search further" in outcome.sentence


def test_the_record_survives_json(cancer, simple):
    late = Baseline("tree", 0.0, np.empty((0, 0)), np.empty((0, 0)), "ValueError: no")
    outcome = compare_with_baselines(cancer, 7, ObjectiveSpec(metric="train_loss"), outputs(simple[1]), [*simple, late])

    stored = json.loads(json.dumps(outcome.to_json(), allow_nan=False))

    assert BaselineOutcome.from_json(stored) == outcome
    assert stored["metric"] == "loss"
    assert stored["sentence"] == outcome.sentence
    assert stored["rows"][2] == {
        "method": "tree",
        "validation": {},
        "test": {},
        "seconds": 0.0,
        "problem": late.problem,
    }


def test_no_baseline_at_all_is_said(cancer, simple):
    late = Baseline("tree", 0.0, np.empty((0, 0)), np.empty((0, 0)), "ValueError: no")

    outcome = compare_with_baselines(cancer, 7, ObjectiveSpec(metric="val_loss"), outputs(simple[1]), [late])

    assert outcome.sentence == "No baseline could be trained."
