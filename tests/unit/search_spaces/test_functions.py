"""Define-by-run spaces: a user's function on an Optuna trial."""

import dataclasses
import json
import os
from pathlib import Path

import optuna
import pytest

from sweeper.api import _flat
from sweeper.search_spaces import Space, SpaceError, load_space
from sweeper.spec.parse import SweepSpec, load_spec

FUNCTION = """
def mine(trial):
    depth = trial.suggest_int("depth", 1, 3)
    widths = [trial.suggest_categorical(f"width_{i}", [32, 64]) for i in range(depth)]
    return {"hidden_layers": widths, "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)}


def plain(trial):
    trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    trial.suggest_categorical("optimizer", ["sgd", "adam"])


def wrong(trial):
    return {"learning_rte": 0.1}


def broken(trial):
    return 1 / 0
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    path = tmp_path / "my_space.py"
    path.write_text(FUNCTION)
    return path


def trials(n):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [study.ask() for _ in range(n)]


def test_a_function_space_suggests_what_the_function_returns(functions):
    space = load_space("my_space.py:mine", base=functions.parent)
    assert space.is_function
    points = [space.suggest(trial) for trial in trials(20)]
    assert {len(p["hidden_layers"]) for p in points} == {1, 2, 3}
    assert all(set(p) == {"hidden_layers", "learning_rate"} for p in points)
    assert all(space.active(p) == p for p in points)


def test_a_function_space_that_returns_nothing_suggests_the_trials_parameters(functions):
    space = load_space(f"{functions}:plain")
    assert all(set(space.suggest(trial)) == {"learning_rate", "optimizer"} for trial in trials(3))


def test_a_function_space_survives_json_without_opening_its_file(functions):
    space = load_space(f"{functions}:mine")
    data = json.loads(json.dumps(space.to_json()))
    functions.unlink()
    assert Space.from_json(data) == space


def test_a_function_of_a_notebook_travels_in_the_stored_sweep_file_with_what_it_reaches():
    widths = [8, 16]

    def mine(trial):
        return {"hidden_layers": [trial.suggest_categorical("width", widths)]}

    spec = load_spec({"dataset": {"name": "iris"}}, _flat({"space": mine}))
    stored = SweepSpec.from_json(json.loads(json.dumps(spec.to_json())))
    widths.append(32)  # what it reached is as it was
    assert {tuple(stored.space.suggest(trial)["hidden_layers"]) for trial in trials(20)} == {(8,), (16,)}
    assert load_spec(stored).space == stored.space


def test_reading_a_function_space_does_not_run_it_and_writes_nothing(tmp_path):
    path = tmp_path / "bomb.py"
    path.write_text("raise SystemExit('ran')\ndef mine(trial): pass\n")
    load_space(f"{path}:mine")
    assert os.listdir(tmp_path) == ["bomb.py"]


def test_a_function_whose_file_changed_is_refused(functions):
    space = load_space(f"{functions}:plain")
    functions.write_text(FUNCTION + "\n# another text\n")
    with pytest.raises(SpaceError, match="it changed since the sweep was made"):
        space.check()


@pytest.mark.parametrize(
    ("reference", "needle"),
    [
        ("my_space.py:main", "Did you mean 'mine'"),
        ("my_spce.py:mine", "Did you mean 'my_space.py'"),
        ("my_space.py:wrong", "Did you mean 'learning_rate'"),
        ("my_space.py:broken", "line 18: ZeroDivisionError"),
    ],
)
def test_a_wrong_function_space_is_refused_with_its_file(functions, reference, needle):
    with pytest.raises(SpaceError) as caught:
        load_space(reference, base=functions.parent).check()
    assert needle in str(caught.value)
    assert "my_sp" in str(caught.value)


def test_a_file_that_is_not_python_is_refused(tmp_path):
    (tmp_path / "bad.py").write_text("def mine(:\n")
    with pytest.raises(SpaceError, match=r"bad\.py: it is not valid Python \(line 1"):
        load_space("bad.py:mine", base=tmp_path)


def test_a_function_space_has_neither_distributions_nor_a_grid(functions):
    space = load_space(f"{functions}:mine")
    with pytest.raises(SpaceError):
        space.distributions()
    with pytest.raises(SpaceError):
        space.grid()


def test_a_function_that_was_sent_is_its_text_and_runs_only_where_a_trial_is_suggested(functions):
    space = load_space(f"{functions}:broken")
    sent = dataclasses.replace(space, function=space.function.with_text())
    functions.unlink()
    again = Space.from_json(sent.to_json())
    assert again == sent == load_space(sent.to_json())
    again.check()  # its sender has done that
    assert again.points([{"x": 1}]) == ({"x": 1},)
    with pytest.raises(SpaceError, match="ZeroDivisionError"):
        again.suggest(trials(1)[0])
    with pytest.raises(SpaceError, match="cannot be read"):
        space.function.with_text()
