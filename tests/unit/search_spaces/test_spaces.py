"""Search spaces: what a user may write, what is refused and how, and what Optuna gets to see."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import optuna
import pytest

from sweeper.models.config import ACTIVATIONS, INITIALIZATIONS, OPTIMIZERS, SCHEDULES, SHAPES, TrialConfig
from sweeper.search_spaces import KNOWN, Space, SpaceError, load_space, ready_made
from sweeper.spec.inputs import NAMES
from sweeper.spec.models import InputsSpec
from sweeper.spec.parse import SweepSpec

MOMENTUM = {
    "momentum": {"float": [0.5, 0.99], "when": {"optimizer": ["momentum"]}},
    "optimizer": {"choice": ["sgd", "momentum"]},
}


def refused(space, *needles):
    """The space is refused, with a message that holds every needle."""
    with pytest.raises(SpaceError) as caught:
        load_space(space)
    for needle in needles:
        assert needle in str(caught.value), str(caught.value)
    return caught.value


# The vocabulary and the trainer


def test_the_known_names_are_those_a_trial_takes():
    fields = {field.name for field in dataclasses.fields(TrialConfig)}
    assert set(KNOWN) - {"depth", "width", "shape"} == fields | set(NAMES)
    TrialConfig.from_params({"depth": 1, "width": 8})


def test_a_funnel_falls_evenly_towards_the_output():
    assert TrialConfig.from_params({"depth": 4, "width": 512, "shape": "funnel"}).hidden_layers == (512, 384, 256, 128)
    assert TrialConfig.from_params({"depth": 3, "width": 1, "shape": "funnel"}).hidden_layers == (1, 1, 1)
    assert TrialConfig.from_params({"depth": 2, "width": 8, "shape": "constant"}).hidden_layers == (8, 8)


def test_the_known_words_are_those_a_trial_takes():
    assert set(KNOWN["numeric_embedding"].words) == set(
        get_args(InputsSpec.model_fields["numeric_embedding"].annotation)
    )
    assert set(KNOWN["binning"].words) == set(get_args(InputsSpec.model_fields["binning"].annotation))
    assert set(KNOWN["normalize"].words) == set(get_args(SweepSpec.model_fields["normalize"].annotation))
    assert KNOWN["optimizer"].words == OPTIMIZERS
    assert KNOWN["activation"].words == ACTIVATIONS
    assert KNOWN["schedule"].words == SCHEDULES
    assert KNOWN["shape"].words == SHAPES
    assert KNOWN["initialization"].words == INITIALIZATIONS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (n, v)
        for n in KNOWN
        if n not in NAMES
        for v in (-1, -1e-9, 0, 0.0, 1e-9, 1, 1.0, 5, 0.5, True, "full", "x", [3], [])
    ],
)
def test_a_value_the_vocabulary_takes_is_one_a_trial_takes(name, value):
    try:
        space = load_space({name: value})
    except SpaceError:
        accepted = False
    else:
        accepted = True
    if accepted:
        TrialConfig.from_params(space.active({}))
    elif isinstance(value, float) and KNOWN[name].kind == "number":
        with pytest.raises(ValueError, match=name):
            TrialConfig.from_params({name: value})


# Ready-made spaces


def test_the_default_space_is_the_one_of_the_design():
    space = load_space("mlp")
    assert space.to_json()["parameters"] == [
        {"name": "learning_rate", "float": [1e-4, 1e-1], "log": True},
        {"name": "optimizer", "choice": ["sgd", "momentum", "rmsprop", "adam", "adamw"]},
        {"name": "momentum", "float": [0.5, 0.99], "when": {"optimizer": ["momentum"]}},
        {"name": "initialization", "choice": ["normal", "xavier_uniform", "xavier_normal", "he_uniform", "he_normal"]},
        {"name": "weight_decay", "float": [1e-6, 1e-2], "log": True},
        {"name": "activation", "choice": ["relu", "tanh", "sigmoid"]},
        {"name": "hidden_layers", "choice": [[128, 128]]},
    ]


def test_the_ready_made_spaces_are_described():
    described = ready_made()
    names = "activations gradient_flow initializations lcbench logistic mlp optimizers own_model realmlp"
    assert list(described) == [*names.split(), "tabm_mlp", "tabular", "wide"]
    assert all(text and "\n" not in text for text in described.values())


@pytest.mark.parametrize("name", list(ready_made()))
def test_every_suggestion_of_a_ready_made_space_trains(name):
    space = load_space(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(30):
        trial = study.ask(space.distributions())
        params = space.active(trial.params)
        TrialConfig.from_params({key: value for key, value in params.items() if key not in NAMES})


@pytest.mark.parametrize(
    ("name", "varied"),
    [
        ("activations", {"activation", "learning_rate"}),
        ("optimizers", {"optimizer", "learning_rate"}),
        ("initializations", {"initialization", "learning_rate"}),
    ],
)
def test_a_space_with_one_question_varies_only_that_and_the_learning_rate(name, varied):
    assert set(load_space(name).distributions()) == varied


# Points: keys, parameters and conditions


def test_a_parameter_follows_the_one_it_depends_on():
    assert [p.name for p in load_space(MOMENTUM).parameters] == ["optimizer", "momentum"]


def test_a_conditional_parameter_applies_only_where_its_condition_holds():
    space = load_space(MOMENTUM)
    assert space.active({"optimizer": "sgd", "momentum": 0.9}) == {"optimizer": "sgd"}
    assert space.active({"optimizer": "momentum", "momentum": 0.9}) == {"optimizer": "momentum", "momentum": 0.9}


def test_a_condition_on_an_inactive_parameter_does_not_hold():
    space = load_space({**MOMENTUM, "nesterov": {"choice": [True, False]}, "depth": {"int": [1, 2]}})
    chained = load_space(
        {
            "optimizer": {"choice": ["sgd", "momentum"]},
            "nesterov": {"choice": [True, False], "when": {"optimizer": ["momentum"]}},
            "beta1": {"float": [0.5, 0.9], "when": {"nesterov": [True]}},
        }
    )
    assert chained.active({"optimizer": "sgd", "nesterov": True, "beta1": 0.6}) == {"optimizer": "sgd"}
    assert "nesterov" in space.active({"optimizer": "sgd", "nesterov": True, "depth": 1})


def test_layer_widths_go_to_optuna_as_text_and_come_back_as_lists():
    space = load_space({"hidden_layers": {"choice": [[128, 128], [64], []]}})
    assert space.distributions()["hidden_layers"].choices == ("[128, 128]", "[64]", "[]")
    for widths in ([128, 128], [64], []):
        key = space.encode({"hidden_layers": widths})
        assert space.active(key) == {"hidden_layers": widths}
        assert space.active(space.active(key)) == {"hidden_layers": widths}


def test_constant_parameters_are_added_but_not_searched():
    space = load_space({"learning_rate": {"float": [0.1, 1.0]}, "activation": "tanh", "hidden_layers": [3, 3]})
    assert list(space.distributions()) == ["learning_rate"]
    assert space.active({"learning_rate": 0.5}) == {"learning_rate": 0.5, "activation": "tanh", "hidden_layers": [3, 3]}
    assert space.encode(space.active({"learning_rate": 0.5})) == {"learning_rate": 0.5}


def test_a_choice_of_one_is_a_constant():
    space = load_space("mlp")
    assert "hidden_layers" not in space.distributions()


def test_a_point_without_a_value_or_with_an_unknown_name_is_refused():
    space = load_space(MOMENTUM)
    with pytest.raises(SpaceError, match="optimizer: it has no value"):
        space.active({})
    with pytest.raises(SpaceError, match="Did you mean 'momentum'"):
        space.active({"optimizer": "sgd", "momentun": 0.9})


def test_define_by_run_on_a_declared_space_suggests_active_parameters_only():
    ranges = {"width": {"int": [8, 64], "log": True}, "beta1": {"float": [0.1, 0.9], "step": 0.2}}
    space = load_space({**MOMENTUM, **ranges})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [space.suggest(study.ask()) for _ in range(40)]
    assert all(("momentum" in point) == (point["optimizer"] == "momentum") for point in points)
    assert {point["optimizer"] for point in points} == {"sgd", "momentum"}
    assert all(space.active(point) == point for point in points)


def test_distributions_carry_range_log_and_step():
    space = load_space(
        {
            "learning_rate": {"float": [1e-4, 1], "log": True},
            "beta1": {"float": [0.0, 0.95], "step": 0.1},
            "width": {"int": [16, 100], "step": 16},
            "batch_size": {"choice": [16, "full"]},
            "nesterov": {"choice": [True, False]},
        }
    )
    assert space.distributions() == {
        "learning_rate": optuna.distributions.FloatDistribution(1e-4, 1.0, log=True),
        "beta1": optuna.distributions.FloatDistribution(0.0, 0.9, step=0.1),
        "width": optuna.distributions.IntDistribution(16, 96, step=16),
        "batch_size": optuna.distributions.CategoricalDistribution([16, "full"]),
        "nesterov": optuna.distributions.CategoricalDistribution([True, False]),
    }


def test_every_ready_made_space_survives_json():
    for name in ready_made():
        space = load_space(name)
        data = json.loads(json.dumps(space.to_json(), sort_keys=True))
        assert Space.from_json(data) == space
        assert load_space(data) == space


def test_a_point_is_plain_json():
    point = load_space({"hidden_layers": [8], "learning_rate": 1, "batch_size": "full"}).active({})
    assert json.loads(json.dumps(point)) == point
    assert isinstance(point["learning_rate"], float)


# The grid


def test_a_grid_lists_every_combination_once():
    space = load_space({"activation": {"choice": ["relu", "tanh"]}, "depth": {"int": [1, 3]}, "optimizer": "sgd"})
    points = space.grid()
    assert len(points) == 6
    assert points[0] == {"activation": "relu", "depth": 1, "optimizer": "sgd"}
    assert len({json.dumps(p) for p in points}) == 6


def test_a_grid_does_not_repeat_points_that_differ_in_inactive_parameters():
    space = load_space({**MOMENTUM, "momentum": {"choice": [0.5, 0.9], "when": {"optimizer": ["momentum"]}}})
    assert space.grid() == [
        {"optimizer": "sgd"},
        {"optimizer": "momentum", "momentum": 0.5},
        {"optimizer": "momentum", "momentum": 0.9},
    ]


def test_a_stepped_range_has_exact_grid_values():
    space = load_space({"momentum": {"float": [0.1, 0.5], "step": 0.1}})
    assert [p["momentum"] for p in space.grid()] == [0.1, 0.2, 0.3, 0.4, 0.5]


def test_a_grid_on_a_continuous_parameter_is_refused():
    with pytest.raises(SpaceError, match=r"learning_rate is continuous.*step"):
        load_space("mlp").grid()


def test_a_grid_that_is_too_large_is_refused_quickly():
    space = load_space({"depth": {"int": [1, 60]}, "width": {"int": [1, 60_000]}, "batch_size": {"int": [1, 60_000]}})
    with pytest.raises(SpaceError, match="more than 100,000 points"):
        space.grid()


# Descriptions and edges


def test_rows_describe_the_space_in_words():
    rows = {row.name: row for row in load_space("mlp").describe()}
    assert rows["learning_rate"].values == "0.0001 to 0.1, log"
    assert rows["momentum"].condition == "optimizer is momentum"
    assert rows["hidden_layers"].values == "[128, 128]"
    assert str(rows["momentum"]) == "momentum        0.5 to 0.99 (when optimizer is momentum)"


def test_a_value_near_a_bound_is_at_the_edge_and_a_wider_bound_is_suggested():
    space = load_space("mlp")
    assert space.edges({"learning_rate": 0.0999}) == [("learning_rate", 0.0999, "high", 1.0)]
    assert space.edges({"learning_rate": 1.01e-4}) == [("learning_rate", 1.01e-4, "low", 1e-5)]
    assert space.edges({"learning_rate": 0.01, "momentum": 0.985}) == [("momentum", 0.985, "high", 0.999)]
    assert space.edges({"optimizer": "adam", "learning_rate": 3e-3}) == []


def test_an_edge_that_cannot_be_moved_is_not_reported():
    space = load_space({"weight_decay": {"float": [0.0, 0.1]}, "width": {"int": [1, 8]}})
    assert space.edges({"weight_decay": 0.0, "width": 1}) == []
    assert space.edges({"weight_decay": 0.1}) == [("weight_decay", 0.1, "high", 0.2)]
    assert space.edges({"width": 8}) == [("width", 8, "high", 16)]


# What is refused


@pytest.mark.parametrize(
    ("space", "needles"),
    [
        ({"learning_rte": 0.1}, ["learning_rte", "Did you mean 'learning_rate'"]),
        ({"optimizer": "adamm"}, ["optimizer", "'adamm'", "Did you mean 'adam'"]),
        ({"optimizer": {"choice": ["sgd", "adamm"]}}, ["optimizer.choice", "'adamm'", "Did you mean 'adam'"]),
        ({"learning_rate": {"flaot": [0.1, 1]}}, ["learning_rate.flaot", "Did you mean 'float'"]),
        ({"learning_rate": {}}, ["learning_rate", "exactly one of"]),
        ({"learning_rate": {"float": [0.1, 1], "choice": [0.1]}}, ["exactly one of"]),
        ({"learning_rate": {"float": [0.1, 0.1]}}, ["learning_rate.float", "empty"]),
        ({"learning_rate": {"float": [1, 0.1]}}, ["reversed", "[0.1, 1]"]),
        ({"learning_rate": {"float": [0, 1], "log": True}}, ["log range cannot start at 0"]),
        ({"weight_decay": {"float": [-1, 1], "log": True}}, ["log range cannot start at -1"]),
        ({"weight_decay": {"float": [-1, 1]}}, ["-1 is not a valid weight_decay", "at least 0"]),
        ({"momentum": {"float": [0.5, 1.0]}}, ["1.0 is not a valid momentum", "below 1"]),
        ({"learning_rate": {"float": [0.1]}}, ["is not a range"]),
        ({"learning_rate": {"float": [0.1, "1"]}}, ["'1' is not a number"]),
        ({"learning_rate": {"float": [0.1, float("inf")]}}, ["inf is not a number"]),
        ({"learning_rate": {"float": [0.1, 10**400]}}, ["is not a number"]),
        ({"depth": {"int": [1, 2.5]}}, ["2.5 is not a whole number"]),
        ({"depth": {"int": [True, 3]}}, ["True is not a whole number"]),
        ({"depth": {"float": [1, 3]}}, ["depth has no float range", "Use int"]),
        ({"learning_rate": {"int": [1, 3]}}, ["learning_rate has no int range", "Use float"]),
        ({"optimizer": {"int": [1, 3]}}, ["Use choice"]),
        ({"width": {"int": [8, 64], "step": 0}}, ["width.step", "above 0"]),
        ({"width": {"int": [8, 64], "step": 2.5}}, ["width.step", "whole number above 0"]),
        ({"width": {"int": [8, 64], "step": 100}}, ["larger than the range"]),
        ({"width": {"int": [8, 64], "step": 8, "log": True}}, ["exclude each other"]),
        ({"momentum": {"float": [0.1, 0.5], "step": 1e-300}}, ["too small"]),
        ({"momentum": {"float": [0.1, 0.5], "step": None}}, ["momentum.step"]),
        ({"momentum": {"float": [0.1, 0.5], "log": "yes"}}, ["momentum.log"]),
        ({"momentum": {"choice": [0.5], "log": True}}, ["log has no meaning for choice"]),
        ({"momentum": {"choice": []}}, ["is not a list of values"]),
        ({"momentum": {"choice": [0.5, 0.5]}}, ["listed twice"]),
        ({"momentum": None}, ["None is not a valid momentum"]),
        ({"optimizer": ["sgd", "adam"]}, ["{choice: ['sgd', 'adam']}"]),
        ({"hidden_layers": [[8], [8, 8]]}, ["{choice: [[8], [8, 8]]}"]),
        ({"hidden_layers": [0]}, ["a list of at most 64 layer widths"]),
        ({"hidden_layers": [8], "depth": 2}, ["cannot be combined"]),
        ({"momentum": {"value": 0.9, "when": {"optimizr": ["sgd"]}}}, ["momentum.when.optimizr", "mean 'optimizer'"]),
        ({"momentum": {"value": 0.9, "when": {"optimizer": ["sgd"]}}}, ["not a parameter of this space"]),
        ({"momentum": {"value": 0.9, "when": {}}, "optimizer": {"value": "sgd", "when": "x"}}, ["not a mapping"]),
        (
            {"momentum": {"value": 0.9, "when": {"optimizer": ["adam"]}}, "optimizer": {"choice": ["sgd", "adamw"]}},
            ["'adam' is not among the values of optimizer", "Did you mean 'adamw'"],
        ),
        (
            {"momentum": {"value": 0.9, "when": {"beta1": [0.5]}}, "beta1": {"float": [0.1, 0.9]}},
            ["momentum.when.beta1", "beta1 is a range"],
        ),
        ({"depth": {"int": [1, 3], "when": {"depth": [1]}}}, ["cycle (depth -> depth)"]),
        ({}, ["empty"]),
        ({1: 2}, ["not a hyperparameter"]),
        (5, ["5 is not a space"]),
        ("mpl", ["there is no space 'mpl'", "Did you mean 'mlp'"]),
        ("my_space.py", ["my_space.py:function"]),
    ],
)
def test_a_wrong_space_is_refused_with_key_and_remedy(space, needles):
    refused(space, *needles)


def test_a_cycle_of_conditions_is_refused_with_its_members():
    nesterov = {"choice": [True, False], "when": {"optimizer": ["momentum"]}}
    optimizer = {"choice": ["sgd", "momentum"], "when": {"nesterov": [True]}}
    refused({"nesterov": nesterov, "optimizer": optimizer}, "cycle", "nesterov", "optimizer")


def test_all_problems_of_a_space_are_reported_at_once():
    error = refused({"learning_rte": 1, "optimizer": "adamm", "width": {"int": [2, 1]}})
    assert [p.key for p in error.problems] == ["learning_rte", "optimizer", "width.int"]


# Files


def test_a_space_file_is_read_relative_to_its_base(tmp_path):
    (tmp_path / "mine.yaml").write_text("learning_rate: {float: [1e-4, 1e-1], log: true}\n")
    space = load_space("mine.yaml", base=tmp_path)
    assert space.name == "mine"
    assert space.continuous == ("learning_rate",)


def test_a_missing_space_file_is_refused_with_the_nearest_name(tmp_path):
    (tmp_path / "mine.yaml").write_text("learning_rate: 0.1\n")
    with pytest.raises(SpaceError, match=r"mime\.yaml.*Did you mean 'mine\.yaml'"):
        load_space("mime.yaml", base=tmp_path)


def test_a_problem_in_a_space_file_names_the_file(tmp_path):
    (tmp_path / "mine.yaml").write_text("learning_rate: 0\n")
    with pytest.raises(SpaceError, match=r"mine\.yaml: learning_rate: 0 is not a valid learning_rate"):
        load_space(tmp_path / "mine.yaml")


def test_importing_search_spaces_loads_no_heavy_library_and_nothing_of_ours():
    code = (
        "import sys\nimport sweeper.search_spaces as s\n"
        "s.load_space(s.ready_made() and 'mlp')\n"
        "heavy = {'torch', 'ray', 'mlflow', 'optuna', 'sklearn', 'pandas', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert result.stdout.strip() == "[]"
