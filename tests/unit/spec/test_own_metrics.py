"""A user's own metrics in a sweep file: found without being run, kept with their text."""

import numpy as np
import pytest

from sweeper.errors import SpecError
from sweeper.spec.own_metrics import OwnMetricError, call_metric
from sweeper.spec.parse import SweepSpec, load_spec

TEXT = """\
import numpy as np

def cost(y_true, y_pred):
    return 5 * np.sum((y_true == "yes") & (y_pred == "no"))

def fails(y_true, y_pred):
    return 1 / 0

def one(y_true):
    return 1.0

def text(y_true, y_pred):
    return "many"

def nothing(y_true, y_pred):
    return float("nan")

def accuracy(y_true, y_pred):
    return 1.0
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_metrics.py").write_text(TEXT)
    return tmp_path


def spec_of(folder, metrics, **sections):
    file = folder / "sweep.json"
    import json

    file.write_text(json.dumps({"dataset": {"name": "iris"}, "metrics": metrics, **sections}))
    return load_spec(file)


def test_a_function_beside_the_sweep_file_is_a_metric_that_can_be_an_objective_and_a_constraint(folder):
    spec = spec_of(folder, ["my_metrics.py:cost"], objective={"metric": "val_cost"}, constraints=["val_cost <= 10"])

    [metric] = spec.metrics

    assert (metric.name, metric.file, metric.text) == ("val_cost", str(folder / "my_metrics.py"), TEXT)
    assert spec.objective.direction == "minimize"
    assert SweepSpec.from_json(spec.to_json()) == spec == load_spec(spec.to_json())


def test_the_kept_text_is_what_runs_wherever_the_file_is(folder):
    [metric] = spec_of(folder, ["my_metrics.py:cost"]).metrics
    (folder / "my_metrics.py").unlink()

    assert call_metric(metric, np.array(["yes", "no"]), np.array(["no", "no"])) == 5.0
    assert not metric.changed


def test_a_file_that_says_something_else_by_now_is_known(folder):
    [metric] = spec_of(folder, ["my_metrics.py:cost"]).metrics

    (folder / "my_metrics.py").write_text(TEXT + "\n")

    assert metric.changed


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("fails", "my_metrics.py, line 7: ZeroDivisionError: division by zero"),
        ("one", r"my_metrics.py: TypeError: one\(\) takes 1 positional argument but 2 were given"),
        ("text", "my_metrics.py: text returned str where a number is needed"),
        ("nothing", "my_metrics.py: nothing returned nan"),
    ],
)
def test_what_goes_wrong_is_said_with_file_and_line(folder, function, message):
    [metric] = spec_of(folder, [f"my_metrics.py:{function}"]).metrics

    with pytest.raises(OwnMetricError, match=message):
        call_metric(metric, np.array(["yes"]), np.array(["no"]))


@pytest.mark.parametrize(
    ("metrics", "needles"),
    [
        (["my_metrics.py:costs"], ["metrics", "costs: there is no such function", "Did you mean 'cost'?"]),
        (["gone.py:cost"], ["metrics", "gone.py", "cannot be read"]),
        (["val_roc_auc"], ["metrics", "'val_roc_auc' is no function of a file", "metrics that exist need no entry"]),
        (["my_metrics.py:accuracy"], ["accuracy is a metric that exists already"]),
        (["my_metrics.py:cost", "my_metrics.py:cost"], ["two functions 'cost'"]),
        ("my_metrics.py:cost", ["metrics", "list"]),
        ([3], ["metrics", "'3' is no function"]),
    ],
)
def test_what_is_no_metric_is_refused(folder, metrics, needles):
    with pytest.raises(SpecError) as refused:
        spec_of(folder, metrics)

    assert all(needle in str(refused.value) for needle in needles), refused.value
