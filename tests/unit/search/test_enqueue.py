"""Points that run first: whole or partial, for every sampler, after a restart too, and checked when they are read."""

from __future__ import annotations

import math

import pytest

from sweeper.errors import SpecError
from sweeper.search.study import Outcome
from sweeper.search_spaces import Space, SpaceError, load_space
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.states import TrialState
from tests.searches import drive, new_study

SPACE = {
    "learning_rate": {"float": [1e-4, 1.0], "log": True},
    "optimizer": {"choice": ["sgd", "momentum", "adam"]},
    "momentum": {"float": [0.5, 0.99], "when": {"optimizer": ["momentum"]}},
    "hidden_layers": {"choice": [[8], [16, 16]]},
}
LISTED = {
    "optimizer": {"choice": ["sgd", "momentum"]},
    "momentum": {"choice": [0.5, 0.9], "when": {"optimizer": ["momentum"]}},
    "activation": {"choice": ["relu", "tanh"]},
}
WHOLE = {"learning_rate": 3e-4, "optimizer": "adam", "hidden_layers": [16, 16]}
PARTIAL = {"optimizer": "momentum", "learning_rate": 0.02}
POINTS = [WHOLE, PARTIAL, {"momentum": 0.9}]
SAMPLERS = ["tpe", "random", "sobol", "gp", "cmaes"]
FUNCTION = """
def space(trial):
    rate = trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)
    if trial.suggest_categorical("optimizer", ["sgd", "momentum"]) == "momentum":
        trial.suggest_float("momentum", 0.5, 0.99)
"""


def outcome_of(number, params):
    return Outcome(TrialState.COMPLETE, (math.log10(params["learning_rate"]) + 2) ** 2)


def holds(params, point):
    return {name: params[name] for name in point if name in params} == {n: v for n, v in point.items() if n in params}


# Samplers


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_given_points_run_first_and_the_sampler_fills_in_what_is_left_out(sampler):
    space = load_space(SPACE)
    found = drive(new_study(space, sampler, first=POINTS), 8, outcome_of)
    assert found[0] == WHOLE
    assert holds(found[1], PARTIAL)
    assert 0.5 <= found[1]["momentum"] <= 0.99
    assert holds(found[2], POINTS[2])
    for params in found:
        assert space.active(space.encode(params)) == params


@pytest.mark.parametrize("sampler", ["tpe", "random", "sobol"])
def test_given_points_change_no_suggestion_that_does_not_depend_on_results(sampler):
    """Trial n draws its own random numbers, whatever the trials before it were given."""
    given, free = (drive(new_study(SPACE, sampler, first=points), 9, outcome_of) for points in (POINTS, ()))
    assert given[3:] == free[3:]
    assert given[:3] != free[:3]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_restart_amid_the_given_points_changes_nothing(sampler):
    total = 14 if sampler == "gp" else 24
    points = [*POINTS, *POINTS[1:]]
    whole = drive(new_study(SPACE, sampler, first=points), total, outcome_of)
    for cut in (2, 4, 7) if sampler != "gp" else (2, 7):
        study = new_study(SPACE, sampler, first=points)
        study.restore((params, outcome_of(n, params)) for n, params in enumerate(whole[:cut]))
        assert drive(study, total, outcome_of, whole[:cut]) == whole, f"interrupted after {cut} trials"


def test_a_partial_point_is_completed_when_tpe_has_learnt_too():
    """An earlier sweep's trials make TPE suggest from the first trial on; what it leaves out is filled in."""
    earlier = [(params, outcome_of(0, params)) for params in new_study(SPACE, "random", seed=5).ask(range(4)) * 8]
    earlier = [(params, outcome) for params, outcome in earlier if params["optimizer"] != "momentum"]
    assert len(earlier) >= 10
    study = new_study(SPACE, first=[PARTIAL], earlier=earlier)
    (params,) = study.ask([0])
    assert holds(params, PARTIAL)
    assert 0.5 <= params["momentum"] <= 0.99


def test_a_grid_runs_given_points_first_and_every_combination_once():
    given = [{"optimizer": "momentum", "momentum": 0.9, "activation": "tanh"}, {"activation": "tanh"}]
    study = new_study(LISTED, "grid", first=[*given, given[0]], batch=8)
    found = study.ask(range(8))
    assert found[0] == given[0]
    assert found[1]["activation"] == "tanh"
    assert study.size == len(found) == 6
    assert len({tuple(sorted(params.items())) for params in found}) == 6


def test_more_points_than_trials_are_cut_short():
    study = new_study(SPACE, first=[WHOLE] * 5)
    assert study.ask([0, 1]) == [WHOLE, WHOLE]


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes"])
def test_a_function_space_takes_given_points(sampler, tmp_path):
    path = tmp_path / "my_space.py"
    path.write_text(FUNCTION)
    space = load_space(f"{path}:space")
    given = [{"learning_rate": 3e-4}, {"optimizer": "momentum", "momentum": 0.9}]
    whole = drive(new_study(space, sampler, first=given), 6, outcome_of)
    assert whole[0]["learning_rate"] == 3e-4
    assert holds(whole[1], given[1])
    study = new_study(space, sampler, first=given)
    study.restore([(whole[0], outcome_of(0, whole[0]))])
    assert drive(study, 6, outcome_of, whole[:1]) == whole


# Sweep files and space files


def test_the_default_space_tries_adam_at_3e_4_first_and_a_sweep_may_turn_that_off():
    spec = load_spec({"dataset": {"name": "digits"}})
    (first,) = spec.enqueue
    assert (first["optimizer"], first["learning_rate"]) == ("adam", 3e-4)
    study = new_study(spec.space, first=spec.enqueue)
    assert study.ask([0]) == [{**first, "hidden_layers": [128, 128]}]
    assert load_spec(spec, ["search.enqueue=[]"]).enqueue == ()
    assert load_spec(spec, ["search.enqueue=[{optimizer: sgd}]"]).enqueue == ({"optimizer": "sgd"},)
    assert SweepSpec.from_json(spec.to_json()).enqueue == spec.enqueue


def test_a_space_of_ones_own_may_say_what_is_tried_first():
    space = load_space({**SPACE, "enqueue": [{"learning_rate": 1, "hidden_layers": [8]}]})
    assert space.enqueue == ({"learning_rate": 1.0, "hidden_layers": [8]},)
    assert Space.from_json(space.to_json()) == space
    assert "enqueue" not in [parameter.name for parameter in space.parameters]
    assert load_space(SPACE).enqueue == ()


@pytest.mark.parametrize(
    ("points", "needles"),
    [
        ([{"learning_rte": 0.1}], ["enqueue.0.learning_rte", "learning_rate"]),
        ([WHOLE, {"learning_rate": 5.0}], ["enqueue.1.learning_rate", "5.0 is not in the space"]),
        ([{"learning_rate": "fast"}], ["enqueue.0.learning_rate", "'fast' is not a valid learning_rate"]),
        ([{"optimizer": "adma"}], ["enqueue.0.optimizer", "adam"]),
        ([{"optimizer": "rmsprop"}], ["enqueue.0.optimizer", "not in the space"]),
        ([{"hidden_layers": [9]}], ["enqueue.0.hidden_layers", "[9] is not in the space"]),
        ([{"optimizer": "adam", "momentum": 0.9}], ["enqueue.0.momentum", "does not apply when optimizer is 'adam'"]),
        ([5], ["enqueue.0"]),
        (5, ["enqueue", "list"]),
        ({"learning_rate": 0.1}, ["enqueue", "list"]),
    ],
)
def test_a_wrong_point_is_refused_with_its_place(points, needles):
    with pytest.raises(SpecError) as in_sweep:
        load_spec({"dataset": {"name": "digits"}, "space": SPACE, "search": {"enqueue": points}})
    with pytest.raises(SpaceError) as in_space:
        load_space({**SPACE, "enqueue": points})
    for needle in needles:
        assert needle in str(in_sweep.value), str(in_sweep.value)
        assert needle in str(in_space.value), str(in_space.value)


@pytest.mark.parametrize(
    ("point", "needle"),
    [
        ({"learning_rte": 0.1}, "learning_rte: the function suggests no such parameter. Did you mean 'learning_rate'?"),
        ({"learning_rate": 5.0}, "learning_rate: 5.0 is not in the space"),
        ({"optimizer": "adam"}, "adam"),
    ],
)
@pytest.mark.filterwarnings("ignore:Fixed parameter")
def test_a_wrong_point_for_a_function_space_is_refused_before_the_sweep(point, needle, tmp_path):
    path = tmp_path / "my_space.py"
    path.write_text(FUNCTION)
    with pytest.raises(SpecError) as caught:
        load_spec({"dataset": {"name": "digits"}, "space": f"{path}:space", "search": {"enqueue": [point]}})
    assert needle in str(caught.value), str(caught.value)


@pytest.mark.parametrize("value", [1.0, 1.5, 2.0])
def test_a_value_on_a_fine_step_is_in_the_space_and_one_between_is_not(value):
    fine = {"weight_decay": {"float": [1.0, 2.0], "step": 1e-6}}
    assert load_space({**fine, "enqueue": [{"weight_decay": value}]}).enqueue[0]["weight_decay"] == value
    with pytest.raises(SpaceError, match="not in the space"):
        load_space({**fine, "enqueue": [{"weight_decay": value - 5e-7}]})
