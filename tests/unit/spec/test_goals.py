"""Objectives and constraints: what a sweep file may say, what is refused, and how a trial's metrics are judged."""

from __future__ import annotations

import math

import pytest

from sweeper.errors import SpecError
from sweeper.spec.goals import Constraint, excesses_of, network_size, parse_constraint, values_of, violation
from sweeper.spec.parse import SweepSpec, load_spec

DIGITS = {"dataset": {"name": "digits"}}
TWO = [{"metric": "val_loss"}, {"metric": "parameters"}]


def read(**sections):
    return load_spec({**DIGITS, **sections})


def test_an_ordinary_sweep_has_one_objective_and_no_constraint():
    spec = read()
    assert spec.objectives == (spec.objective,)
    assert spec.constraints == ()
    assert "objectives" not in spec.to_json()


def test_the_first_of_several_objectives_is_the_objective_and_directions_are_the_natural_ones():
    spec = read(objectives=[{"metric": "val_accuracy"}, {"metric": "parameters"}])
    assert spec.objective == spec.objectives[0]
    assert [goal.direction for goal in spec.objectives] == ["maximize", "minimize"]
    assert [goal.sign for goal in spec.objectives] == [-1.0, 1.0]


def test_objectives_and_constraints_survive_json_and_overrides():
    spec = read(objectives=TWO, constraints=["val_accuracy >= 0.95", "parameters<=2e4"])
    assert spec.to_json()["constraints"] == ["val_accuracy >= 0.95", "parameters <= 20000"]
    assert SweepSpec.from_json(spec.to_json()) == spec == load_spec(spec.to_json())
    assert load_spec(spec, ["training.epochs=3"]).objectives == spec.objectives
    assert load_spec(read(), ["objective.metric=val_accuracy"]).objective.metric == "val_accuracy"


@pytest.mark.parametrize(
    ("sections", "needles"),
    [
        ({"objectives": [{"metric": "val_loss"}, {"metric": "paramters"}]}, ["objectives.1.metric", "parameters"]),
        ({"objectives": [{"metric": "val_loss"}, {"metrc": "parameters"}]}, ["objectives.1.metrc", "'metric'"]),
        ({"objectives": [{"metric": "val_loss"}, {"metric": "val_loss"}]}, ["val_loss is listed twice"]),
        ({"objectives": []}, ["objectives"]),
        ({"objectives": 5}, ["objectives", "list"]),
        ({"objectives": [{"metric": "val_loss"}, {"metric": "val_rmse"}]}, ["objectives.1.metric", "no val_rmse"]),
        ({"objective": {"metric": "val_accuracy"}, "objectives": TWO}, ["both objective and objectives"]),
        ({"objective": {"metric": "parameters"}}, ["objective.metric", "first, such as val_loss"]),
        ({"objectives": [TWO[0], {"metric": "seconds"}]}, ["search.deterministic", "seconds is measured"]),
        ({"constraints": ["seconds <= 3"]}, ["search.deterministic", "seconds is measured"]),
        ({"objectives": TWO, "search": {"sampler": "gp"}}, ["search.sampler", "one objective only", "tpe"]),
        ({"objectives": TWO, "search": {"sampler": "cmaes"}}, ["search.sampler", "one objective only"]),
        ({"objectives": TWO, "search": {"pruner": "median"}}, ["search.pruner", "one objective only", "none"]),
        ({"constraints": ["val_loss <= 1"], "search": {"sampler": "cmaes"}}, ["cmaes does not support constraints"]),
        ({"constraints": ["val_acuracy >= 0.9"]}, ["constraints.0", "val_acuracy", "val_accuracy"]),
        ({"constraints": ["val_loss <= 1", "val_accuracy > 0.9"]}, ["constraints.1", "'>'", "<= or >="]),
        ({"constraints": ["val_accuracy >= lots"]}, ["constraints.0", "'lots' is not a number"]),
        ({"constraints": ["val_accuracy >= nan"]}, ["constraints.0", "not a number"]),
        ({"constraints": ["val_accuracy >= 1e999"]}, ["constraints.0", "not a number"]),
        ({"constraints": ["val_accuracy"]}, ["constraints.0", "not a constraint"]),
        ({"constraints": ["0.9 <= val_accuracy"]}, ["constraints.0", "'0.9' is not a metric"]),
        ({"constraints": [0.9]}, ["constraints.0", "not a constraint"]),
        ({"constraints": "val_accuracy >= 0.9"}, ["constraints", "list"]),
        ({"constraints": ["val_rmse <= 3"]}, ["constraints.0", "no val_rmse"]),
    ],
)
def test_what_cannot_be_searched_is_refused_with_key_and_remedy(sections, needles):
    with pytest.raises(SpecError) as caught:
        read(**sections)
    for needle in needles:
        assert needle in str(caught.value), str(caught.value)


def test_measured_seconds_are_allowed_where_determinism_is_given_up():
    spec = read(objectives=[TWO[0], {"metric": "seconds"}], search={"deterministic": False})
    assert [goal.metric for goal in spec.objectives] == ["val_loss", "seconds"]


def test_a_constraint_says_how_far_beyond_the_bound_a_trial_lies():
    at_least, at_most = parse_constraint("val_accuracy >= 0.8"), parse_constraint("parameters <= 200")
    assert at_least == Constraint("val_accuracy", True, 0.8)
    assert at_least.excess({"val_accuracy": 0.6}) == pytest.approx(0.25)
    assert at_least.excess({"val_accuracy": 0.9}) < 0
    assert at_most.excess({"parameters": 300.0}) == pytest.approx(0.5)
    assert at_most.excess({}) == math.inf
    assert parse_constraint("val_loss <= 0").excess({"val_loss": 0.5}) == 0.5  # shares of 1 where the bound is 0


def test_a_metric_that_equals_the_bound_in_float32_satisfies_the_constraint():
    assert parse_constraint("val_accuracy >= 0.95").excess({"val_accuracy": 0.949999988079071}) == 0.0


def test_violations_add_up_and_satisfied_constraints_make_up_for_nothing():
    limits = [parse_constraint("val_accuracy >= 0.5"), parse_constraint("parameters <= 100")]
    assert violation(excesses_of({"val_accuracy": 1.0, "parameters": 150.0}, limits)) == pytest.approx(0.5)
    assert violation(excesses_of({"val_accuracy": 0.25, "parameters": 150.0}, limits)) == pytest.approx(1.0)
    assert violation(excesses_of({"val_accuracy": 0.5, "parameters": 100.0}, limits)) == 0


def test_values_are_all_there_or_none():
    goals = read(objectives=TWO).objectives
    assert values_of({"val_loss": 0.5, "parameters": 10, "train_loss": 1.0}, goals) == (0.5, 10.0)
    assert values_of({"val_loss": 0.5}, goals) == ()
    assert values_of({"val_loss": math.nan, "parameters": 10}, goals) == ()


@pytest.mark.parametrize("layers", [(), (8,), (16, 4)])
def test_the_size_of_a_network_is_that_of_its_module(layers):
    from sweeper.models import TrialConfig, build_mlp

    model = build_mlp(TrialConfig(hidden_layers=layers), 5, 3, seed=0)
    assert network_size(5, layers, 3) == sum(parameter.numel() for parameter in model.parameters())
