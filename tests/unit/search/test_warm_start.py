"""Warm start: an earlier sweep's trials in a new space, frozen in its spec, and what its search makes of them."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from sweeper.data.loading import load
from sweeper.errors import SpecError
from sweeper.ledger.memory import MemoryLedger
from sweeper.records import Ended, EpochReport, Reported, Started, Suggested, SweepChanged
from sweeper.running.parts import make_study
from sweeper.search.study import Outcome
from sweeper.search.warm_start import BEST, LIMIT, earlier_of, take_over, translate, without_points
from sweeper.search_spaces import SpaceError
from sweeper.spec.parse import SweepSpec, load_spec
from sweeper.states import Cause, SweepState, TrialState
from tests.searches import WINDOW, drive, new_study

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED
SPACE = {
    "learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "optimizer": {"choice": ["sgd", "momentum", "adam"]},
    "momentum": {"float": [0.5, 0.99], "when": {"optimizer": ["momentum"]}},
    "hidden_layers": {"choice": [[8], [16, 16]]},
}


def spec_of(space=SPACE, **sections):
    return load_spec({"dataset": {"name": "iris"}, "space": space, **sections})


def point(**changes):
    return {"learning_rate": 0.01, "optimizer": "adam", "hidden_layers": [8], **changes}


def loss(params):
    return (math.log10(params["learning_rate"]) + 2) ** 2 + (params["optimizer"] == "sgd")


def earlier_sweep(ledger, spec, params, name="earlier", ends=None, owner="", fingerprint="data"):
    """A sweep in the ledger whose trials have these parameters and ends (state, cause); default: complete."""
    record = ledger.create_sweep(name, {**spec.to_json(), "fingerprint": fingerprint}, len(params), owner=owner)
    changes = [SweepChanged(state=SweepState.RUNNING)]
    for number, one in enumerate(params):
        state, cause = (ends or {}).get(number, (COMPLETE, None))
        metrics = {"val_loss": loss(one), "val_accuracy": 0.9, "train_loss": 1.0, "parameters": 100.0 + number}
        reports = (EpochReport(0, {**metrics, "val_loss": 9.0}), EpochReport(1, metrics))
        changes += [Suggested(number, one, 0), Started(number, 1, "w", 0.0), Reported(number, 1, reports, 0.5)]
        changes.append(Ended(number, 1, state, "ended", loss(one) if state is not FAILED else None, 1.0, cause))
    assert ledger.commit(record.sweep, changes) == []
    return record


def taken(new, params, **more):
    """What the new spec takes over from an earlier sweep of the old space with these trials."""
    ledger = MemoryLedger()
    old = more.pop("old", spec_of())
    earlier_sweep(ledger, old, params, **more)
    search = {**new.to_json()["search"], "from": "earlier"}
    return take_over(load_spec({**new.to_json(), "search": search}), ledger, "data")


# Points of another space


def test_the_same_space_takes_every_point_as_it_is():
    for params in (point(), point(optimizer="momentum", momentum=0.7)):
        assert translate(params, spec_of(), spec_of()) == params


def test_what_the_new_space_searches_and_the_old_did_not_is_what_it_was_trained_with():
    wider = spec_of({**SPACE, "activation": {"choice": ["relu", "tanh"]}, "beta1": {"float": [0.8, 0.95]}})
    assert translate(point(), spec_of(), wider) == {**point(), "activation": "relu", "beta1": 0.9}
    batches = spec_of({**SPACE, "batch_size": {"choice": [32, 64]}}, training={"batch_size": 128})
    assert translate(point(), spec_of(), batches)["batch_size"] == 64


@pytest.mark.parametrize(
    ("changes", "params", "problem"),
    [
        ({"learning_rate": {"float": [1e-3, 5e-3]}}, point(), "with learning_rate outside the space"),
        ({"optimizer": {"choice": ["sgd", "momentum"]}}, point(), "with optimizer outside the space"),
        ({"hidden_layers": {"choice": [[8], [9]]}}, point(hidden_layers=[16, 16]), "with hidden_layers outside"),
        ({"weight_decay": {"float": [1e-6, 1e-2]}}, point(), "with weight_decay outside the space"),
        ({"activation": "tanh"}, point(), "with activation outside the space"),
        ({"momentum": None}, point(optimizer="momentum", momentum=0.7), "with another momentum than the space has"),
    ],
)
def test_a_point_that_the_new_space_does_not_hold_is_left_out_with_its_reason(changes, params, problem):
    space = {name: domain for name, domain in {**SPACE, **changes}.items() if domain is not None}
    with pytest.raises(SpaceError, match=problem):
        translate(params, spec_of(), spec_of(space))


def test_a_parameter_that_nothing_reads_keeps_no_point_out():
    without = spec_of({name: domain for name, domain in SPACE.items() if name != "momentum"})
    assert translate(point(), spec_of(), without) == point()
    usual = point(optimizer="momentum", momentum=0.9)  # the default where the space does not search it
    assert translate(usual, spec_of(), without) == point(optimizer="momentum")


def test_depth_and_width_are_layers_and_layers_are_depth_and_width():
    rest = {name: domain for name, domain in SPACE.items() if name != "hidden_layers"}
    deep = spec_of({**rest, "depth": {"int": [1, 3]}, "width": {"choice": [8, 16]}})
    there = translate(point(hidden_layers=[16, 16]), spec_of(), deep)
    assert (there["depth"], there["width"]) == (2, 16)
    assert translate(there, deep, spec_of()) == point(hidden_layers=[16, 16])
    with pytest.raises(SpaceError, match="hidden_layers outside"):
        translate({**there, "depth": 3}, deep, spec_of())


def test_a_batch_size_that_was_searched_has_to_be_the_one_of_the_new_sweep():
    old = spec_of({**SPACE, "batch_size": {"choice": [32, 64]}})
    assert translate({**point(), "batch_size": 64}, old, spec_of()) == point()
    with pytest.raises(SpaceError, match="another batch_size"):
        translate({**point(), "batch_size": 32}, old, spec_of())


def test_a_function_space_takes_the_points_that_it_suggests(tmp_path):
    path = tmp_path / "my_space.py"
    path.write_text(
        "def space(trial):\n"
        "    trial.suggest_float('learning_rate', 1e-3, 1e-1, log=True)\n"
        "    trial.suggest_categorical('optimizer', ['sgd', 'adam'])\n"
    )
    new = spec_of(f"{path}:space")
    old = spec_of({name: SPACE[name] for name in ("learning_rate", "optimizer")})
    held = {"learning_rate": 0.01, "optimizer": "adam"}
    assert translate(held, old, new) == held
    for params in ({"learning_rate": 0.01, "optimizer": "momentum"}, {"learning_rate": 0.01}):
        with pytest.raises(SpaceError, match="that the space's function does not suggest"):
            translate(params, old, new)
    warm = taken(new, [held, {"learning_rate": 0.01, "optimizer": "momentum"}] * 8, old=old)
    assert len(warm.search.warm.points) == 8
    assert make_study(warm, load(warm)).ask([0, 1])


# What is taken over


def test_finished_trials_are_frozen_in_the_spec_with_what_they_came_to():
    ends = {
        1: (PRUNED, None),
        2: (FAILED, Cause.DIVERGED),
        3: (FAILED, Cause.LOST),
        4: (TrialState.STOPPED, Cause.STOPPED),
    }
    params = [point(learning_rate=rate) for rate in (0.01, 0.02, 0.09, 0.03, 0.04, 1e-4)]
    spec = taken(spec_of({**SPACE, "learning_rate": {"float": [1e-3, 1e-1]}}), params, ends=ends)
    warm = spec.search.warm
    assert [(p.state, p.params["learning_rate"]) for p in warm.points] == [
        ("complete", 0.01),
        ("pruned", 0.02),
        ("diverged", 0.09),
    ]
    assert warm.trials == 4
    assert warm.left_out == {"with learning_rate outside the space": 1}
    assert warm.comparable
    assert "3 of 4 trials of sweep" in warm.sentence
    assert "1 with learning_rate outside the space" in warm.sentence
    outcomes = [outcome for _, outcome in earlier_of(spec)]
    assert outcomes[0] == Outcome(COMPLETE, 0.0, (1, 0.0))
    assert outcomes[1].score == pytest.approx(loss(params[1]))
    assert outcomes[2].blew_up
    assert SweepSpec.from_json(spec.to_json()) == spec == load_spec(spec.to_json())


def test_what_was_taken_stays_when_the_earlier_sweep_is_deleted_or_goes_on():
    ledger = MemoryLedger()
    record = earlier_sweep(ledger, spec_of(), [point()])
    spec = take_over(load_spec(spec_of(), ["search.from=earlier"]), ledger, "data")
    ledger.delete_sweep(record.sweep)
    assert take_over(spec, ledger) is spec
    with pytest.raises(SpecError, match=r"search\.from: there is no sweep 'other'"):
        take_over(load_spec(spec, ["search.from=other"]), ledger)
    assert without_points(spec.to_json()) == without_points(load_spec(spec_of(), ["search.from=earlier"]).to_json())


def test_points_that_are_not_in_the_space_are_refused_when_a_stored_spec_is_edited():
    spec = taken(spec_of(), [point(), point(learning_rate=0.09)])
    narrower = {**SPACE, "learning_rate": {"float": [1e-4, 1e-2], "log": True}}
    with pytest.raises(
        SpecError, match=r"search\.warm\.points\.1: it is not a point of this space\. Remove search\.warm"
    ):
        load_spec({**spec.to_json(), "space": narrower})


def test_only_sweeps_of_the_owner_are_found():
    ledger = MemoryLedger()
    earlier_sweep(ledger, spec_of(), [point()], owner="ada")
    asked = load_spec(spec_of(), ["search.from=earlier"])
    with pytest.raises(SpecError, match="there is no sweep"):
        take_over(asked, ledger, owner="bob")
    assert take_over(asked, ledger, owner="ada").search.warm.points


@pytest.mark.parametrize(
    ("sections", "fingerprint", "comparable"),
    [
        ({}, "data", True),
        ({"training": {"replicates": 3}}, "data", True),
        ({"search": {"seed": 5, "trials": 8}}, "data", True),
        ({}, "other data", False),
        ({"training": {"epochs": 50}}, "data", False),
        ({"normalize": "minmax"}, "data", False),
        ({"split": {"seed": 3}}, "data", False),
        ({"dataset": {"name": "wine"}}, "data", False),
    ],
)
def test_values_are_compared_only_where_data_and_training_are_the_same(sections, fingerprint, comparable):
    warm = taken(spec_of(**sections), [point()], fingerprint=fingerprint).search.warm
    assert warm.comparable is comparable
    assert ("by their ranks only" in warm.sentence) is not comparable


def test_a_trial_is_judged_by_the_new_sweeps_objectives_and_constraints():
    goals = {
        "objectives": [{"metric": "val_accuracy"}, {"metric": "parameters"}],
        "constraints": ["val_loss <= 0.5"],
    }
    spec = taken(spec_of(**goals), [point(), point(optimizer="sgd")])
    (_, first), (_, second) = earlier_of(spec)
    assert first == Outcome(COMPLETE, 0.9, (1, 0.9), values=(0.9, 100.0), excesses=(-1.0,))
    assert second.excesses == (1.0,)
    missing = taken(spec_of(dataset={"name": "diabetes"}, objective={"metric": "val_rmse"}), [point()])
    assert missing.search.warm.left_out == {"without val_rmse": 1}


def test_of_many_trials_the_best_and_an_even_sample_are_kept():
    rng = np.random.default_rng(0)
    params = [point(learning_rate=float(10 ** rng.uniform(-4, -1))) for _ in range(LIMIT + 100)]
    warm = taken(spec_of(), params).search.warm
    assert len(warm.points) == LIMIT
    assert warm.left_out == {"thinned out": 100}
    kept = [p.metrics["val_loss"] for p in warm.points]
    every = sorted(loss(p) for p in params)
    assert sorted(kept)[:BEST] == every[:BEST]
    assert np.median(kept) == pytest.approx(np.median(every), rel=0.3)
    rates = [p["learning_rate"] for p in params]
    order = [rates.index(p.params["learning_rate"]) for p in warm.points]
    assert order == sorted(order)


def test_a_sampler_that_learns_nothing_says_so():
    assert any("learns nothing" in text for text in spec_of(search={"from": "x", "sampler": "random"}).warnings)
    assert not any("learns nothing" in text for text in spec_of(search={"from": "x"}).warnings)


# What the search makes of it

SMOOTH = {
    "learning_rate": {"float": [1e-5, 1.0], "log": True},
    "weight_decay": {"float": [1e-6, 1e-1], "log": True},
    "optimizer": {"choice": ["sgd", "rmsprop", "adam"]},
    "activation": {"choice": ["relu", "tanh", "sigmoid"]},
}


def bowl(params, scale=1.0):
    centre = {"sgd": -1.0, "rmsprop": -3.0, "adam": -3.0}[params["optimizer"]]
    value = (math.log10(params["learning_rate"]) - centre) ** 2 + 0.15 * (math.log10(params["weight_decay"]) + 4) ** 2
    return scale * (value + {"relu": 0.0, "tanh": 0.3, "sigmoid": 0.8}[params["activation"]])


def complete(number, params):
    return Outcome(COMPLETE, bowl(params))


@pytest.mark.parametrize(
    ("sampler", "comparable"), [("tpe", True), ("tpe", False), ("cmaes", True), ("gp", True), ("gp", False)]
)
def test_a_warm_started_search_is_deterministic_and_can_be_restored(sampler, comparable):
    total, cuts = (3, [1]) if sampler == "gp" else (24, [3, 6])
    earlier = [(params, complete(0, params)) for params in drive(new_study(SMOOTH, seed=9), 16, complete)]
    given = {"earlier": earlier, "comparable": comparable}
    whole = drive(new_study(SMOOTH, sampler, **given), total, complete)
    assert drive(new_study(SMOOTH, sampler), total, complete) != whole
    for cut in cuts:
        study = new_study(SMOOTH, sampler, **given)
        study.restore((params, complete(n, params)) for n, params in enumerate(whole[:cut]))
        assert drive(study, total, complete, whole[:cut]) == whole


@pytest.mark.parametrize("comparable", [True, False], ids=["the same trials", "trials of another length"])
def test_the_first_30_trials_of_a_warm_started_search_beat_those_of_a_cold_one(comparable):
    """Values of the earlier sweep that mean something else are five times as large here: only their ranks count."""
    best, median = Counter(), Counter()
    for seed in range(6):
        old = drive(new_study(SMOOTH, seed=seed), 64, complete)
        scale = 1.0 if comparable else 5.0
        earlier = [(params, Outcome(COMPLETE, bowl(params, scale))) for params in old]
        given = {"warm": {"earlier": earlier, "comparable": comparable}, "cold": {}}
        for kind, prior in given.items():
            values = [bowl(params) for params in drive(new_study(SMOOTH, seed=100 + seed, **prior), 30, complete)]
            best[kind] += min(values) / 6
            median[kind] += float(np.median(values)) / 6
    assert best["warm"] < 0.5 * best["cold"]  # 0.1 to 0.2 was seen
    assert median["warm"] < 0.5 * median["cold"]


def test_cma_es_begins_where_the_earlier_trials_were_good():
    space = {"learning_rate": {"float": [1e-5, 1.0], "log": True}, "momentum": {"float": [0.0, 0.9]}}

    def outcome(number, params):
        off = (math.log10(params["learning_rate"]) + 1.5) ** 2 + (params["momentum"] - 0.7) ** 2 * 10
        return Outcome(COMPLETE, off)

    earlier = [
        (params, outcome(0, params)) for params in new_study(space, "random", batch=64, window=64).ask(range(64))
    ]
    values = {
        kind: np.median([outcome(0, params).value for params in drive(study, 24, outcome)[WINDOW:]])
        for kind, study in {
            "warm": new_study(space, "cmaes", earlier=earlier),
            "cold": new_study(space, "cmaes"),
        }.items()
    }
    assert values["warm"] < 0.5 * values["cold"]  # the first WINDOW trials are random: CMA-ES needs one result


def test_earlier_trials_that_diverged_keep_the_search_away():
    good = [({"learning_rate": 10.0 ** -(2 + i / 20)}, Outcome(COMPLETE, i / 10)) for i in range(12)]
    bad = [({"learning_rate": 10.0 ** (-1 + i / 12)}, Outcome(FAILED, diverged=True)) for i in range(12)]
    space = {"learning_rate": {"float": [1e-4, 1.0], "log": True}}
    found = new_study(space, earlier=good + bad, batch=16, window=16).ask(range(16))
    assert np.mean([params["learning_rate"] > 0.1 for params in found]) < 0.2  # a quarter of the range
