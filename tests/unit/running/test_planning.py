"""What a plan tells before anything starts."""

import numpy as np
import pandas as pd

from sweeper.data.loading import load
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
    assert "warnings" not in plan(load_spec({"dataset": {"name": "iris"}}, trials=2), no_ledger)
