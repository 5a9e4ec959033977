"""Population based training: who copies whom, and what is tried then."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sweeper.search.population import Population
from sweeper.search.pruning import Objective
from sweeper.search_spaces import Space

SPACE = Space.of_mapping(
    "space",
    {
        "learning_rate": {"float": [1e-3, 1e-1], "log": True},
        "optimizer": {"choice": ["sgd", "nadam"]},
        "beta1": {"float": [0.5, 0.9], "when": {"optimizer": ["nadam"]}},
        "dropout": {"float": [0.0, 0.5], "step": 0.1},
        "beta2": {"float": [0.9, 0.999]},
        "hidden_layers": {"choice": [[4], [8]]},
        "weight_decay": {"choice": [0.0, 0.1]},
    },
)
PARAMS: dict[str, Any] = {
    "learning_rate": 0.01,
    "optimizer": "sgd",
    "dropout": 0.2,
    "beta2": 0.99,
    "hidden_layers": [8],
    "weight_decay": 0.1,
}


def test_the_worst_quarter_copies_the_best_one_in_any_order_of_arrival() -> None:
    population = Population(SPACE, 0, Objective("val_accuracy", "maximize"))
    values = {number: number / 10 for number in range(9)} | {3: math.nan}
    params = dict.fromkeys(values, PARAMS)
    copies = population.decide(values, params, 4)
    assert set(copies) == {0, 3}
    assert {copy.donor for copy in copies.values()} <= {7, 8}
    assert population.decide(dict(reversed(values.items())), params, 4) == copies
    assert population.decide(values, params, 8) != copies
    assert population.decide({1: 0.5}, params, 4) == {}
    assert population.decide(dict.fromkeys(range(4), math.nan), params, 4) == {}


def test_what_changes_is_multiplied_or_drawn_anew_within_its_range_and_all_else_stays() -> None:
    population = Population(SPACE, 1, Objective())
    found: dict[str, set[float]] = {}
    for epoch in range(1, 60):
        [copy] = population.decide({0: 1.0, 1: 2.0}, {0: PARAMS, 1: {}}, epoch).values()
        assert SPACE.active(SPACE.encode(copy.params)) == copy.params
        assert {name: copy.params[name] for name in ("optimizer", "hidden_layers", "weight_decay")} == {
            name: PARAMS[name] for name in ("optimizer", "hidden_layers", "weight_decay")
        }
        for name, value in copy.params.items():
            if isinstance(value, float):
                found.setdefault(name, set()).add(round(value, 6))
    assert {0.008, 0.0125} < found["learning_rate"]
    assert len(found["learning_rate"]) > 8
    assert {0.992, 0.9875} < found["beta2"]  # 1 - beta2 is multiplied
    assert found["dropout"] <= {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert all(0.9 <= value <= 0.999 for value in found["beta2"])


def test_beta1_of_nadam_stays() -> None:
    nadam = {**PARAMS, "optimizer": "nadam", "beta1": 0.8}
    population = Population(SPACE, 1, Objective())
    for epoch in range(1, 9):
        [copy] = population.decide({0: 1.0, 1: 2.0}, {0: nadam, 1: {}}, epoch).values()
        assert copy.params["beta1"] == pytest.approx(0.8)
