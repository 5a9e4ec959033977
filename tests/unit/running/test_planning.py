"""What a plan tells before anything starts."""

import re

import numpy as np
import pandas as pd
import pytest

from sweeper.data.loading import load
from sweeper.errors import SweeperError
from sweeper.models import compiled
from sweeper.running.planning import plan
from sweeper.spec.parse import load_spec


def no_ledger():
    raise AssertionError("a plan without search.from opens no ledger")


def test_a_plan_shows_every_warning_of_the_data_that_a_run_shows(tmp_path):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"Id": range(120), "x": random.normal(size=120), "kind": random.choice(["a", "b"], 120)})
    frame.assign(empty=None).to_csv(tmp_path / "data.csv", index=False)
    table = {"path": str(tmp_path / "data.csv"), "target": "kind"}
    spec = load_spec({"dataset": table, "training": {"epochs": 1}}, trials=2)
    warnings = plan(spec, no_ledger)["warnings"]
    assert warnings == list(load(spec).warnings)
    assert len(warnings) == 2
    search = {"sampler": "random", "pruner": "median", "trials": 24, "window": 8, "stop": {"patience": 9}}
    held = plan(load_spec({"dataset": {"name": "iris"}, "search": search, "training": {"epochs": 1}}), no_ledger)
    assert "warnings" not in held
    assert held["may_end_before"] == "when 9 trials in a row gain less than the noise"


def test_a_plan_refuses_compiled_code_of_other_sources_with_the_command_that_builds_it(monkeypatch):
    compiled.libraries.cache_clear()
    monkeypatch.setattr(compiled, "digest_of_sources", lambda folder: "other")
    with pytest.raises(SweeperError, match=r"other sources than .* Run: python setup.py build_ext"):
        plan(load_spec({"dataset": {"name": "iris"}}, trials=2), no_ledger)
    compiled.libraries.cache_clear()


def test_a_plan_tells_how_long_and_of_which_shapes_that_is_a_mean():
    spec = load_spec({"dataset": {"name": "iris"}, "space": "wide", "finals": {"top": 2}}, trials=20_000)
    told = plan(spec, no_ledger)
    parts = told["seconds_of"]
    assert set(parts) == {"start", "training", "finals", "end"}
    assert told["seconds_estimate"] == pytest.approx(sum(parts.values()), rel=0.001)
    low, high = map(float, re.findall(r"\d+", told["seconds_range"]))
    assert low <= told["seconds_estimate"] <= high
    one = load_spec({"dataset": {"name": "iris"}, "search": {"pruner": "median"}, "training": {"epochs": 2}}, trials=2)
    told = plan(one, no_ledger)
    assert "seconds_range" not in told
    assert "median ends trials earlier" in told["seconds_of"]["note"]
