"""What a sweep file may say of a population, and what is refused with key, value and remedy."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.errors import SpecError
from sweeper.spec.models import SweepSpec
from sweeper.spec.parse import load_spec

SPACE = {"learning_rate": {"float": [1e-3, 1.0], "log": True}, "hidden_layers": [4]}


def spec_with(search: dict[str, Any], **sections: Any) -> SweepSpec:
    return load_spec({"dataset": {"name": "iris"}, "space": SPACE, "search": {"sampler": "pbt", **search}, **sections})


def test_a_population_is_all_trials_of_its_sweep() -> None:
    for search, size in (({}, 32), ({"trials": 12}, 12), ({"population": 6}, 6), ({"population": 5, "trials": 5}, 5)):
        spec = spec_with(search)
        assert (spec.search.population, spec.search.trials, spec.search.ready) == (size, size, 4)
        assert SweepSpec.from_json(spec.to_json()) == spec
    plain = load_spec({"dataset": {"name": "iris"}, "space": SPACE})
    assert not {"population", "ready"} & set(plain.to_json()["search"])


@pytest.mark.parametrize(
    ("search", "sections", "key", "why"),
    [
        ({"population": 1}, {}, "search.population", "2"),
        ({"trials": 1}, {}, "search.population", "2"),
        ({"ready": 0}, {}, "search.ready", "1"),
        ({"ready": 20}, {}, "search.ready", "20 of 20 epochs"),
        ({"population": 8, "trials": 9}, {}, "search.population", "9 of 8"),
        ({"sampler": "tpe", "population": 8}, {}, "search.population", "only population based training"),
        ({"pruner": "median"}, {}, "search.pruner", "no pruner"),
        ({"stop": {"patience": 3}}, {}, "search.stop", "train together"),
        ({}, {"training": {"patience": 3}}, "training.patience", "together"),
        ({}, {"space": {"learning_rate": 0.1, "activation": {"choice": ["relu", "tanh"]}}}, "space", "nothing can"),
        ({}, {"objectives": [{"metric": "val_loss"}, {"metric": "parameters"}]}, "objectives", "one objective"),
        ({}, {"constraints": ["parameters <= 100"]}, "constraints", "one objective"),
    ],
)
def test_what_a_population_cannot_do_is_refused(
    search: dict[str, Any], sections: dict[str, Any], key: str, why: str
) -> None:
    with pytest.raises(SpecError, match=why) as refused:
        spec_with(search, **sections)
    assert refused.value.key == key
    assert refused.value.remedy or "must be greater than" in str(refused.value)
