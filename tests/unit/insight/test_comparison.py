"""Sweeps side by side: what was changed, whose effects agree, and who is better on new rows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeper.errors import SpecError
from sweeper.insight.comparison import (
    Change,
    Contender,
    SharedEffect,
    SweepComparison,
    changes_between,
    check_goals,
    comparison_from_json,
    comparison_to_json,
    shared_effects,
)
from sweeper.insight.contest import paired_contest, unpaired_contest
from sweeper.insight.findings import Insight
from sweeper.insight.test_rows import WinnerTest
from sweeper.report.comparison import comparison_page
from sweeper.spec.parse import load_spec
from tests.unit.insight.test_findings import insight_of


def spec_file(**sections: Any) -> dict[str, Any]:
    return load_spec({"name": "x", "dataset": {"name": "iris"}, "space": "mlp", **sections}).to_json()


def test_changes_are_named_by_their_dotted_keys_and_spaces_by_parameter() -> None:
    narrow = {"learning_rate": {"float": [0.001, 0.1], "log": True}, "activation": {"choice": ["relu", "tanh"]}}
    wide = {"learning_rate": {"float": [0.0001, 0.1], "log": True}, "dropout": {"float": [0, 0.5]}}
    files = [
        spec_file(space=narrow, name="a", split={"seed": 1}, finals={"top": 2}),
        spec_file(space=wide, name="b"),
    ]
    found = {change.key: change.values for change in changes_between(files)}
    assert found["split.seed"] == ("1", "0")
    assert found["finals.top"] == ("2", "")
    assert found["space.learning_rate"] == ("0.001 to 0.1 (log)", "0.0001 to 0.1 (log)")
    assert found["space.activation"] == ("relu, tanh", "")
    assert found["space.dropout"] == ("", "0 to 0.5")
    assert "name" not in found  # it changes nothing
    assert changes_between([spec_file(name="a"), spec_file(name="b")]) == ()


def of_activation(*insights: Insight) -> list[SharedEffect]:
    return [effect for effect in shared_effects([i.choices for i in insights]) if effect.parameter == "activation"]


def test_effects_of_two_sweeps_agree_or_contradict_each_other() -> None:
    def relu(params: Any) -> float:
        return 0.0 if params["activation"] == "relu" else 1.0

    def sigmoid(params: Any) -> float:
        return 0.0 if params["activation"] == "sigmoid" else 1.0

    like, unlike, none = insight_of(relu), insight_of(sigmoid, seed=1), insight_of(lambda _: 0.0, seed=2)
    agreed = {effect.choices: effect.verdict for effect in of_activation(like, insight_of(relu, seed=3))}
    assert agreed == {("relu", "tanh"): "agreed", ("relu", "sigmoid"): "agreed"}
    against = {frozenset(effect.choices): effect.verdict for effect in of_activation(like, unlike)}
    assert against[frozenset(("relu", "sigmoid"))].startswith("contradicted")
    assert against[frozenset(("relu", "tanh"))] == "shown in A only"
    [first, _] = of_activation(like, none)
    assert first.said[0].startswith("relu beats")
    assert first.said[1] == "cannot be told apart"
    assert of_activation(none, none) == []


class Rows:
    """As much of a dataset as scores on test rows need: t rows of two classes."""

    task, class_labels, n_outputs, w_test = "classification", ("a", "b"), 2, None

    def __init__(self, rows: int) -> None:
        self.y_test = np.arange(rows) % 2


def outputs_with(dataset: Any, wrong: int, seed: int) -> Any:
    """(t, 2) of a network that errs on so many rows."""
    rng = np.random.default_rng(seed)
    right = np.ones(len(dataset.y_test), dtype=bool)
    right[rng.choice(len(right), wrong, replace=False)] = False
    said = np.where(right, dataset.y_test, 1 - dataset.y_test)
    return np.stack([said == 0, said == 1], axis=1).astype(np.float32) * 4


def test_winners_on_common_rows_and_seeds_are_judged_as_finalists_are() -> None:
    dataset: Any = Rows(1000)
    made = {
        "A": [outputs_with(dataset, 150, s) for s in range(4)],
        "B": [outputs_with(dataset, 60, 10 + s) for s in range(4)],
        "C": [outputs_with(dataset, 62, 20 + s) for s in range(4)],
    }
    contest = paired_contest("accuracy", dataset, made, [1000, 1001, 1002, 1003], 0, None)
    assert [score.letter for score in contest.scores] == ["B", "C", "A"]
    assert contest.scores[0].mean == pytest.approx(0.94)
    assert {(d.first, d.second): d.different for d in contest.duels} == {
        ("B", "C"): False,
        ("B", "A"): True,
        ("C", "A"): True,
    }
    assert contest.sentence.startswith("On new rows B beats A: test_accuracy 0.09 higher (95%: ")
    assert "on 1,000 test rows and 4 fresh seeds that they share. It cannot be told apart from C." in contest.sentence
    assert contest.paired
    same = paired_contest("accuracy", dataset, {"A": made["A"], "B": made["A"]}, [1000, 1001, 1002, 1003], 0, None)
    assert not same.duels[0].different


def test_models_on_other_rows_are_compared_by_their_intervals() -> None:
    def tested(mean: float, half: float, metric: str = "accuracy") -> WinnerTest:
        return WinnerTest(0, 500, {metric: mean}, {metric: (mean - half, mean + half)})

    close = unpaired_contest({"A": tested(0.80, 0.03), "B": tested(0.82, 0.04)}, "accuracy")
    assert close is not None
    [duel] = close.duels
    assert (duel.first, duel.second, duel.different) == ("B", "A", False)
    assert duel.high is not None
    assert duel.high - duel.difference == pytest.approx(0.05, rel=1e-3)  # the halves are a right triangle's sides
    assert close.sentence.startswith("On new rows B cannot be told apart from A: test_accuracy differs by 0.02")
    far = unpaired_contest({"A": tested(0.80, 0.03), "B": tested(0.92, 0.04)}, "accuracy")
    assert far is not None
    assert far.duels[0].different
    three = unpaired_contest({"A": tested(0.8, 0.03), "B": tested(0.82, 0.04), "C": tested(0.8, 0.03)}, "accuracy")
    assert three is not None
    assert three.duels[0].high is not None
    assert three.duels[0].high - three.duels[0].difference == pytest.approx(
        0.05 * stats.norm.isf(0.025 / 3) / 1.96, rel=1e-3
    )
    assert unpaired_contest({"A": tested(0.8, 0.03), "B": tested(0.8, 0.03, "loss")}, "accuracy") is None
    assert unpaired_contest({"A": tested(0.8, 0.03), "B": None}, "accuracy") is None


def test_sweeps_whose_objectives_point_in_opposite_directions_are_refused() -> None:
    loss = load_spec({"dataset": {"name": "iris"}})
    accuracy = load_spec(
        {"dataset": {"name": "iris"}, "objective": {"metric": "val_accuracy", "direction": "maximize"}}
    )
    check_goals([loss, loss])
    with pytest.raises(SpecError, match=r"objective: the sweeps are judged by val_accuracy and val_loss"):
        check_goals([loss, accuracy])


def test_the_answer_travels_as_json_and_its_page_escapes_what_users_wrote() -> None:
    contender = Contender("A", "s1", "<b>mine</b>", "complete", 4, 1.5, "val_loss", 3, 0.25)
    found = SweepComparison(
        (contender, replace(contender, letter="B", sweep="s2", trial=None, value=None)),
        True,
        (Change("space.activation", ("relu", "")),),
        None,
        "B has no complete trial",
        (),
        "The sweeps cannot be compared on new rows: B has no complete trial.",
    )
    assert comparison_from_json(json.dumps(comparison_to_json(found))) == found
    page = comparison_page(found)
    assert "<b>mine" not in page
    assert "&lt;b&gt;mine&lt;/b&gt;" in page
    assert "B has no complete trial" in page
