"""The study: deterministic suggestions, exact restore, learning from pruned and diverged trials, function spaces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from sweeper.errors import SpecError
from sweeper.search.study import Outcome, Study
from sweeper.search_spaces import load_space
from sweeper.states import TrialState
from tests.searches import askable

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED
MIXED = {
    "learning_rate": {"float": [1e-4, 1.0], "log": True},
    "optimizer": {"choice": ["sgd", "momentum", "adam"]},
    "momentum": {"float": [0.5, 0.99], "when": {"optimizer": ["momentum"]}},
    "depth": {"int": [1, 4]},
    "width": {"choice": [32, 64]},
    "activation": {"choice": ["relu"]},
}
LISTED = {
    "optimizer": {"choice": ["sgd", "momentum"]},
    "momentum": {"choice": [0.5, 0.9], "when": {"optimizer": ["momentum"]}},
}
SAMPLERS = ["tpe", "random", "sobol", "gp", "cmaes"]
BATCH, WINDOW = 4, 8


@dataclass(frozen=True)
class Search:
    """What the study reads of a sweep's search section."""

    sampler: str = "tpe"
    seed: int = 0
    deterministic: bool = True


def new(sampler="tpe", space=MIXED, seed=0, direction="minimize", batch=BATCH, window=WINDOW, deterministic=True):
    space = load_space(space) if isinstance(space, dict) else space
    return Study(space, Search(sampler, seed, deterministic), direction, batch, window)


def outcome_of(number, params):
    """A smooth objective in which every seventh trial fails, some are pruned and large learning rates diverge."""
    loss = (math.log10(params["learning_rate"]) + 2) ** 2 + 0.2 * params.get("depth", 1)
    loss += params.get("optimizer") == "sgd"
    if number % 7 == 6:
        return Outcome(FAILED)
    if params["learning_rate"] > 0.3:
        return Outcome(FAILED, None, (0, 5.0), diverged=True)
    if loss > 3:
        return Outcome(PRUNED, loss, (1, loss))
    return Outcome(COMPLETE, loss, (2, loss))


def drive(study, total, results=None, batch=BATCH, window=WINDOW, objective=outcome_of):
    """Run until ``total`` trials are asked, telling results late and out of order within what the window allows."""
    results = {} if results is None else results
    params = dict(enumerate(p for p, _ in results.get("trials", [])))
    told = len(results.get("told", []))
    while (numbers := askable(study.asked, told, window, batch, total)) or told < study.asked:
        if numbers:
            params.update(zip(numbers, study.ask(list(numbers)), strict=True))
            continue
        for number in reversed(range(told, min(told + 3, study.asked))):
            study.tell(number, objective(number, params[number]))
        told = min(told + 3, study.asked)
    return [params[n] for n in sorted(params)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_gives_the_same_trials_and_another_seed_others(sampler):
    total = 16 if sampler == "gp" else 40
    first = drive(new(sampler), total)
    assert drive(new(sampler), total) == first
    assert drive(new(sampler, seed=1), total) != first


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_restored_study_goes_on_with_exactly_the_suggestions_of_an_undisturbed_one(sampler):
    """The interruption comes after every number of trials, inside batches too, and some trials are still running."""
    total, cuts = (24, [13, 16, 22]) if sampler == "gp" else (40, range(1, 40, 3))
    whole = drive(new(sampler), total)
    for cut in cuts:
        study = new(sampler)
        done = max(0, cut - 3)
        study.restore((p, outcome_of(n, p) if n < done else None) for n, p in enumerate(whole[:cut]))
        told = done
        asked = list(whole[:cut])
        while len(asked) < total:
            numbers = askable(study.asked, told, WINDOW, BATCH, total)
            if numbers is None:
                study.tell(told, outcome_of(told, asked[told]))
                told += 1
            else:
                asked += study.ask(list(numbers))
        assert asked == whole, f"interrupted after {cut} trials"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_results_beyond_the_window_and_the_way_a_batch_is_divided_change_nothing(sampler):
    total = 24
    whole = drive(new(sampler), total)
    study = new(sampler)
    for number in range(total):
        assert study.ask([number]) == [whole[number]]
        study.tell(number, outcome_of(number, whole[number]))  # sooner than the window needs


def test_every_suggestion_is_valid_and_holds_only_the_parameters_that_apply():
    space = load_space(MIXED)
    for sampler in SAMPLERS:
        for params in drive(new(sampler), 20):
            assert space.active(space.encode(params)) == params
            assert ("momentum" in params) == (params["optimizer"] == "momentum")
            assert params["activation"] == "relu"


def test_a_trial_is_refused_before_the_results_it_has_to_see_are_told():
    study = new()
    study.ask(range(8))
    assert not study.ready(8)
    with pytest.raises(RuntimeError, match=r"before trials 0\.\.3 were told"):
        study.ask([8])
    for number in range(4):
        study.tell(number, Outcome(COMPLETE, 1.0))
    assert study.ready(8)
    assert len(study.ask(range(8, 12))) == 4


def test_numbers_that_do_not_continue_are_refused():
    study = new()
    with pytest.raises(RuntimeError, match="the next trial is 0"):
        study.ask([1])


def test_without_determinism_a_suggestion_needs_no_result_and_uses_whatever_was_told():
    free = new(deterministic=False)
    first = free.ask(range(8))
    for number, params in enumerate(first):
        free.tell(number, outcome_of(number, params))
    assert len(free.ask(range(8, 40))) == 32


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_learning_samplers_find_better_points_than_random_ones_in_both_directions(sampler, direction):
    space = {"learning_rate": {"float": [1e-4, 1.0], "log": True}, "momentum": {"float": [0.0, 0.9]}}
    sign = 1 if direction == "minimize" else -1

    def objective(number, params):
        distance = (math.log10(params["learning_rate"]) + 2) ** 2 + (params["momentum"] - 0.3) ** 2 * 10
        return Outcome(COMPLETE, sign * distance)

    first, last = [], []
    for seed in range(1 if sampler == "gp" else 8):
        found = drive(new(sampler, space, seed=seed, direction=direction), 40, objective=objective)
        distances = [sign * objective(0, p).value for p in found]
        first.append(np.median(distances[:10]))
        last.append(np.median(distances[-10:]))
    assert np.mean(last) < 0.5 * np.mean(first)  # 0.2 to 0.3 was seen; random search stays at 1


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_diverged_trials_teach_the_sampler_to_stay_away(sampler):
    """Learning rates up to 100, everything above about 1 diverges: the share falls from first to last."""
    space = {
        "learning_rate": {"float": [1e-4, 100.0], "log": True},
        "weight_decay": {"float": [1e-6, 1e-2], "log": True},
        "optimizer": {"choice": ["sgd", "adam"]},
    }

    def objective(number, params):
        rate = params["learning_rate"] * (1.5 if params["optimizer"] == "sgd" else 1.0)
        if rate > 1:
            lasted = max(0, round(3 - math.log10(rate)))
            return Outcome(FAILED, None, {**dict.fromkeys(range(lasted), 9.0), lasted: math.nan}, diverged=True)
        return Outcome(COMPLETE, (math.log10(rate) + 1) ** 2 + 0.1 * abs(math.log10(params["weight_decay"]) + 4))

    total, part, seeds = (48, 16, 1) if sampler == "gp" else (200, 50, 5)
    first, last = [], []
    for seed in range(seeds):
        study = new(sampler, space, seed=seed, batch=8, window=16)
        diverged = [objective(0, p).diverged for p in drive(study, total, batch=8, window=16, objective=objective)]
        first.append(np.mean(diverged[:part]))
        last.append(np.mean(diverged[-part:]))
    assert np.mean(last) < 0.5 * np.mean(first), f"{np.mean(first):.2f} -> {np.mean(last):.2f}"


def test_a_space_in_which_everything_diverges_at_first_is_escaped_towards_what_lasted_longest():
    space = {"learning_rate": {"float": [1e-4, 1e6], "log": True}}

    def objective(number, params):
        excess = math.log10(params["learning_rate"]) + 3.5  # only 5% of the range is sound
        if excess > 0:
            lasted = round(20 - 2 * excess)
            return Outcome(FAILED, None, dict.fromkeys(range(lasted), 3.0), diverged=True)
        return Outcome(COMPLETE, excess**2)

    runs = [drive(new(space=space, seed=seed), 100, objective=objective) for seed in range(6)]
    sound = np.array([[not objective(0, p).diverged for p in run] for run in runs])
    assert sound[:, :20].mean() < 0.2
    assert sound[:, -20:].mean() > 0.3


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("state", [COMPLETE, PRUNED, FAILED])
def test_non_finite_values_are_taken_whatever_the_state(sampler, value, state):
    study = new(sampler)
    for number, params in enumerate(study.ask(range(8))):
        odd = number % 2 == 0
        good = outcome_of(0, {**params, "learning_rate": 0.01})
        study.tell(number, Outcome(state, value, (0, value), diverged=state is FAILED) if odd else good)
    assert len(study.ask(range(8, 16))) == 8


def test_failed_trials_change_no_later_suggestion_of_tpe():
    """A trial that failed for its worker's sake says nothing of its parameters: neither good nor bad."""

    def run(bad):
        study = new(batch=1, window=1)
        for number in range(30):
            (params,) = study.ask([number])
            study.tell(number, bad(number) or outcome_of(0, params))
        return study.ask([30])

    failed, stopped = Outcome(FAILED), Outcome(TrialState.STOPPED)
    assert run(lambda n: failed if n == 5 else None) == run(lambda n: stopped if n == 5 else None)


def test_a_long_search_is_restored_exactly_and_forgets_what_a_reopened_trial_had(monkeypatch):
    monkeypatch.setattr("sweeper.search.tpe.RECENT", 8)
    monkeypatch.setattr("sweeper.search.tpe.OLDER", 16)
    study, params = new(), []
    for start in range(0, 120, BATCH):
        params += study.ask(range(start, start + BATCH))
        for number in range(start, start + BATCH):
            study.tell(number, outcome_of(number, params[number]))
    for begin in (60, 98):  # in the middle of a batch, too
        again = new()
        again.restore((p, outcome_of(n, p)) for n, p in enumerate(params[:begin]))
        assert again.ask(range(begin, begin + 6)) == params[begin : begin + 6]
    study.tell(3, Outcome(COMPLETE, -100.0, (2, -100.0)))  # a trial that a user reopened
    again = new()
    told = [Outcome(COMPLETE, -100.0, (2, -100.0)) if n == 3 else outcome_of(n, p) for n, p in enumerate(params)]
    again.restore(zip(params, told, strict=True))
    assert study.ask(range(120, 124)) == again.ask(range(120, 124))


def test_a_grid_gives_every_combination_once_and_then_nothing():
    study = new("grid", LISTED)
    assert study.size == 3
    found = {(params["optimizer"], params.get("momentum")) for params in study.ask(range(8))}
    assert found == {("sgd", None), ("momentum", 0.5), ("momentum", 0.9)}
    assert study.ask([3]) == []


def test_a_restored_grid_goes_on():
    whole = new("grid", LISTED).ask(range(3))
    study = new("grid", LISTED)
    study.restore((p, Outcome(COMPLETE, 1.0)) for p in whole[:1])
    assert study.ask([1, 2]) == whole[1:]


def test_a_grid_on_a_continuous_parameter_is_refused_with_its_name():
    with pytest.raises(SpecError, match="learning_rate"):
        new("grid", MIXED)


def test_sobol_covers_the_space_more_evenly_than_random():
    space = {"momentum": {"float": [0.0, 0.9]}, "weight_decay": {"float": [0.0, 1.0]}}

    def emptiest(sampler):
        cells = np.zeros((8, 8), dtype=int)
        for params in new(sampler, space, batch=64, window=64).ask(range(64)):
            cells[int(params["momentum"] / 0.9 * 8), int(params["weight_decay"] * 8)] += 1
        return (cells == 0).sum()

    assert emptiest("sobol") == 0 < emptiest("random")


# Function spaces

SAME = """
def space(trial):
    trial.suggest_float("learning_rate", 1e-4, 1.0, log=True)
    if trial.suggest_categorical("optimizer", ["sgd", "momentum"]) == "momentum":
        trial.suggest_float("momentum", 0.5, 0.99)
    trial.suggest_int("depth", 1, 4)
"""
OTHER = """
def space(trial):
    rate = 10 ** trial.suggest_float("log_rate", -4, 0)
    return {"learning_rate": rate, "depth": trial.suggest_int("layers", 1, 4)}
"""


def function_space(tmp_path, text):
    path = tmp_path / "my_space.py"
    path.write_text(text)
    return load_space(f"{path}:space")


@pytest.mark.parametrize("text", [SAME, OTHER], ids=["suggests what it uses", "returns other parameters"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_function_space_is_searched_and_restored_like_a_declared_one(sampler, text, tmp_path):
    space = function_space(tmp_path, text)
    total = 20
    whole = drive(new(sampler, space), total)
    assert drive(new(sampler, space), total) == whole
    study = new(sampler, space)
    study.restore((p, outcome_of(n, p)) for n, p in enumerate(whole[:14]))
    assert drive_on(study, whole[:14], total) == whole


def drive_on(study, asked, total):
    asked = list(asked)
    while len(asked) < total:
        study_numbers = [len(asked)]
        asked += study.ask(study_numbers)
        study.tell(len(asked) - 1, outcome_of(len(asked) - 1, asked[-1]))
    return asked


def test_tpe_learns_on_a_function_space(tmp_path):
    def objective(number, params):
        return Outcome(COMPLETE, (math.log10(params["learning_rate"]) + 2) ** 2)

    found = drive(new(space=function_space(tmp_path, SAME)), 60, objective=objective)
    distances = [objective(0, p).value for p in found]
    assert np.median(distances[-15:]) < 0.3 * np.median(distances[:15])


def test_an_error_in_the_users_function_names_file_function_and_line(tmp_path):
    space = function_space(tmp_path, "def space(trial):\n    trial.suggest_float('learning_rate', 0.1, 1)\n    1 / 0\n")
    with pytest.raises(SpecError, match=r"my_space.py: space: line 3: ZeroDivisionError") as caught:
        new(space=space).ask([0])
    assert caught.value.exit_code == 2


def test_a_ledger_of_another_space_is_refused():
    study = new()
    with pytest.raises(SpecError, match="space"):
        study.restore([({"learning_rate": 5000.0, "optimizer": "adam", "depth": 1, "width": 32}, None)])
