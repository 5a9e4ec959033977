"""A model of the user's own before a sweep starts: what is wrong is refused with file, line and remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper.data.dataset import Dataset
from sweeper.data.loading import load
from sweeper.errors import SpecError
from sweeper.running.parts import make_study
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.training.own_checks import examined, reasons_of

HEAD = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, data):
        super().__init__()
        self.out = nn.Linear(data.n_inputs, data.n_outputs)
        self.units = 3
    def forward(self, x):
        return self.out(x)
"""
GOOD = """
def build(trial, data):
    net = Net(data)
    net.units = trial.suggest_int("units", 1, 2)
    return net
"""


@pytest.fixture(scope="module")
def iris() -> Dataset:
    return load(load_spec({"dataset": {"name": "iris"}}))


@pytest.fixture
def spec_of(tmp_path: Path) -> Callable[..., SweepSpec]:
    def made(text: str, **more: Any) -> SweepSpec:
        (tmp_path / "mine.py").write_text(HEAD + text, encoding="utf-8")
        return load_spec({"dataset": {"name": "iris"}, "model": f"{tmp_path / 'mine.py'}:build", **more})

    return made


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def build(trial): ...", r"build\(trial\) does not take 2 arguments\. Write def build\(trial, data\)"),
        ("import no_such\ndef build(trial, data): ...", r"mine\.py, line 12: ModuleNotFoundError: No module named"),
        ("def build(trial, data):\n    return data.columns", r"mine\.py, line 13: AttributeError: 'ModelData'"),
        ("def build(trial, data): return 3", r"build returned int, where a torch\.nn\.Module is needed"),
        ("def build(trial, data): return nn.ReLU()", r"has no parameters to train"),
        ("def build(trial, data): return nn.Linear(4, 2)", r"is of shape \(64, 2\); it must be \(64, 3\)\. Let"),
        ("class N(Net):\n    def forward(self, x): return self.out(x) / 0 * 0\nbuild = 0\n"
         "def build(trial, data): return N(data)", r"the loss of a fresh module is nan"),
        ("class N(Net):\n    def forward(self, x):\n        return x.view(7, -1, 13)\n"
         "def build(trial, data): return N(data)", r"mine\.py, line 14: RuntimeError: shape '\[7, -1, 13\]'"),
        ("def build(trial, data):\n    net = Net(data)\n    net.spare = nn.Linear(1, 1)\n    return net",
         r"spare\.weight, spare\.bias never gets a gradient: forward does not use it"),
        ("def build(trial, data): return Net(data).requires_grad_(False)", r"has no parameters to train"),
        ("def build(trial, data):\n    trial.suggest_float('learning_rate', 0.1, 1)\n    return Net(data)",
         r"line 13: learning_rate says how a sweep trains: put it into the space"),
        ("def build(trial, data):\n    trial.suggest_categorical('act', [nn.ReLU])\n    return Net(data)",
         r"line 13: act has the choice type .*: choose by a text or a number"),
        ("def build(trial, data):\n    trial.report(1, 1)", r"line 13: AttributeError: build's trial has"),
    ],
)  # fmt: skip
def test_what_cannot_train_is_refused_before_a_trial_starts(
    text: str, problem: str, iris: Dataset, spec_of: Callable[..., SweepSpec]
) -> None:
    with pytest.raises(SpecError, match=problem) as refused:
        examined(spec_of(text), iris)
    assert "mine.py" in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"space": "mlp"}, "space.initialization: initialization is a hyperparameter of the MLP"),
        ({"search": {"pruner": "gradient_flow"}}, "search.pruner: it looks at the layers of an MLP"),
        ({"inputs": {"numeric_embedding": "plr"}}, "inputs.numeric_embedding: it is a layer of the MLP"),
        ({"model": "none.py:build"}, r"model: none\.py: it cannot be read"),
        ({"model": 7}, "model: '7' is no function of a file. Write file.py:function"),
    ],
)
def test_what_does_not_go_with_a_model_of_ones_own_is_refused(
    more: dict[str, Any], problem: str, spec_of: Callable[..., SweepSpec]
) -> None:
    with pytest.raises(SpecError, match=problem):
        spec_of(GOOD, **more)


def test_suggestions_of_space_and_build_are_one_point_and_the_same_again(
    iris: Dataset, spec_of: Callable[..., SweepSpec]
) -> None:
    spec = spec_of(GOOD)
    assert SweepSpec.from_json(spec.to_json()) == spec
    asked = make_study(spec, iris).ask(range(2))
    again = make_study(spec, iris)
    again.restore([(asked[0], None)])
    assert again.ask([1]) == asked[1:]
    for params in asked:
        assert {"learning_rate", "optimizer", "weight_decay", "units"} <= set(params)
        config = spec.trial_config(params)
        assert config.own == (("units", params["units"]),)  # type: ignore[attr-defined]
        assert config.learning_rate == params["learning_rate"]
    assert reasons_of(spec, iris, asked) == {}
