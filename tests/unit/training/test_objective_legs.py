"""Trials of an objective of the user's own in processes: what they say, and what becomes of those that crash."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.spec.objective_file import ResourcesSpec
from sweeper.spec.user_code import UserFunction
from sweeper.training.objective_legs import ObjectiveLeg, ObjectiveOrder, ObjectiveRunner
from sweeper.training.objective_words import ObjectiveStart

TEXT = """
import os, signal, sys, time
import optuna

def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    kind = trial.suggest_categorical("kind", ["fine", "raise", "exit", "die", "sleep", "prune", "text", "none"])
    print("this is", kind, trial.number)
    if kind == "raise":
        raise ValueError("no good")
    if kind == "exit":
        sys.exit(7)
    if kind == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "sleep":
        time.sleep(60)
    if kind == "text":
        return "much"
    if kind == "none":
        return None
    for step in (0, 10, 20):
        trial.report(step + x, step)
        if kind == "prune" and trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("half", x / 2)
    trial.log_artifact(__file__)
    return x
"""


@pytest.fixture(scope="module")
def function(tmp_path_factory: pytest.TempPathFactory) -> UserFunction:
    file = tmp_path_factory.mktemp("code") / "mine.py"
    file.write_text(TEXT)
    return UserFunction(str(file), "objective", TEXT)


@pytest.fixture(scope="module")
def runner() -> Iterator[ObjectiveRunner]:
    runner = ObjectiveRunner()
    yield runner
    runner.close()


def order(function: UserFunction, leg: int, kind: str | None = None, **more: object) -> ObjectiveOrder:
    """Trial ``leg`` of this kind, alone."""
    admit = () if kind is None else (ObjectiveStart(leg, 1, 5, {"kind": kind, "x": 0.25}),)
    usual = {
        "admit": admit,
        "drop": (),
        "answers": {},
        "seconds": 20.0,
        "prunes": True,
        "time_limit": None,
        "cpus": 1,
        "gpus": 0,
    }
    return ObjectiveOrder(leg=leg, function=function, **{"sweep": "s", **usual, **more})  # type: ignore[arg-type]


def ended(runner: ObjectiveRunner, asked: ObjectiveOrder) -> ObjectiveLeg:
    [leg] = runner.run(asked).trials
    assert isinstance(leg, ObjectiveLeg)
    return leg


def test_a_trial_says_what_it_does(runner: ObjectiveRunner, function: UserFunction) -> None:
    leg = ended(runner, order(function, 1, "fine"))
    assert leg.end is not None
    assert (leg.end.state, leg.end.value) == ("complete", 0.25)
    assert leg.params == {"x": 0.25, "kind": "fine"}
    assert (leg.steps, leg.metrics["value"]) == ((0, 10, 20), [0.25, 10.25, 20.25])
    assert leg.attributes == {"half": 0.125}
    assert leg.log == b"this is fine 1\n"
    assert [(one.name, one.content) for one in leg.artifacts] == [("mine.py", TEXT.encode())]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("raise", "mine.py, line 10: ValueError: no good"),
        ("exit", "mine.py, line 12: the function ended its process with exit code 7"),
        ("die", "its process was killed by SIGSEGV"),
        ("text", "mine.py: objective returned 'much', which is no number"),
        ("none", "mine.py: objective returned None, which is no number"),
    ],
)
def test_a_trial_that_goes_wrong_is_lost_alone(
    runner: ObjectiveRunner, function: UserFunction, kind: str, reason: str
) -> None:
    end = ended(runner, order(function, 2, kind)).end
    assert end is not None
    assert (end.state, end.reason) == ("failed", reason)
    again = ended(runner, order(function, 3, "fine")).end
    assert again is not None
    assert again.value == 0.25


def test_a_trial_ends_at_its_time_limit(runner: ObjectiveRunner, function: UserFunction) -> None:
    end = ended(runner, order(function, 4, "sleep", time_limit=0.2)).end
    assert end is not None
    assert end.reason == "it ran longer than its time limit of 0.2 s"


def test_a_trial_waits_for_the_pruner_and_hears_its_answer(runner: ObjectiveRunner, function: UserFunction) -> None:
    asked = ended(runner, order(function, 5, "prune"))
    assert (asked.asks, asked.end, asked.steps) == (True, None, (0,))
    going_on = ended(runner, order(function, 6, answers={5: False}))
    assert (going_on.asks, going_on.first_epoch, going_on.steps) == (True, 1, (10,))
    end = ended(runner, order(function, 7, answers={5: True})).end
    assert end is not None
    assert end.state == "pruned"


def test_what_is_not_given_is_drawn_from_the_seed_and_the_number(
    runner: ObjectiveRunner, function: UserFunction
) -> None:
    drawn = []
    for number, kind in ((8, "text"), (8, "text"), (9, "text")):
        start = ObjectiveStart(number, 1, 5, {"kind": kind, "x": 99.0})  # 99 is not in its range
        [leg] = runner.run(order(function, number, None, admit=(start,))).trials
        assert isinstance(leg, ObjectiveLeg)
        assert leg.params is not None
        drawn.append(leg.params["x"])
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("name", ["my_code.py", "boosted.py", "lit.py"])
def test_the_examples_of_the_docs_run_with_scikit_learn_xgboost_and_lightning(
    runner: ObjectiveRunner, name: str
) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "objective.md").read_text(encoding="utf-8")
    [text] = re.findall(rf"^```python\n(# {name}\n.*?)^```$", page, re.M | re.S)
    values = {"n_estimators": 20, "max_depth": 2, "units": 8}  # others are drawn
    start = ObjectiveStart(0, 1, 5, values)
    function = UserFunction(name, "objective", text)
    leg = ended(runner, order(function, 0, admit=(start,), prunes=False, seconds=120.0, sweep=name))
    assert leg.end is not None
    assert leg.end.state == "complete", (leg.end, leg.log.decode())
    assert leg.end.value is not None
    assert 0 < leg.end.value < 5


@pytest.mark.parametrize(("gpus", "seen"), [(0.0, ""), (0.25, "3")])
def test_a_trial_sees_the_gpu_of_its_worker_only_where_it_asked_for_a_share(
    function: UserFunction, gpus: float, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    text = "import os\ndef objective(trial):\n    trial.set_user_attr('seen', os.environ['CUDA_VISIBLE_DEVICES'])\n"
    text += "    return 1\n"
    runner = ObjectiveRunner()
    try:
        asked = UserFunction("gpu.py", "objective", text)
        assert ended(runner, order(asked, 0, "fine", gpus=gpus)).attributes == {"seen": seen}
    finally:
        runner.close()


def test_as_many_trials_run_at_once_as_cores_and_shares_of_the_gpu_allow() -> None:
    quarter = ResourcesSpec(cpus=1, gpus=0.25)
    assert [quarter.at_once(cores, gpu=True) for cores in (2, 4, 16)] == [2, 4, 4]
    assert quarter.at_once(16, gpu=False) == 16
    assert ResourcesSpec(cpus=0.1, gpus=0.1).at_once(1, gpu=True) == 10
    assert ResourcesSpec(cpus=8).at_once(2, gpu=False) == 1
