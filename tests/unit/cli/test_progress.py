"""What the progress lines say of a trial."""

import io
from typing import Any

from sweeper.cli.progress import LineProgress, Tally, constants_of
from sweeper.search_spaces import load_space

SPACE = {
    "learning_rate": {"float": [1.0e-3, 1.0e-1], "log": True},
    "optimizer": "adamw",
    "binning": {"choice": ["quantile"]},
}


def test_the_best_so_far_is_told_by_the_parameters_that_differ_between_trials() -> None:
    stored: dict[str, Any] = {"space": load_space(SPACE).to_json()}
    stream = io.StringIO()
    say = LineProgress(Tally(2, constants=constants_of(stored)), stream)
    params = {"learning_rate": 0.01, "optimizer": "adamw", "binning": "quantile"}
    say("trial.ended", {"trial": 1, "state": "complete", "improved": True, "value": 0.5, "params": params})
    assert stream.getvalue().splitlines()[0] == "trial 1: best so far 0.5 (learning_rate=0.01)"


def test_trials_that_the_end_of_a_search_has_stopped_are_not_done() -> None:
    tally = Tally(4)
    end = {"improved": False, "value": None, "params": {}}
    tally.take("trial.ended", {"trial": 0, "state": "complete", **end})
    for number in (2, 3):
        tally.take("trial.ended", {"trial": number, "state": "stopped", **end})
    assert tally.line().startswith("1/4 done, 0 running, 1 waiting, 0 failed, 2 stopped, ")


def test_a_sweep_without_a_space_has_no_constants() -> None:
    assert constants_of({"objective": {"function": {}}}) == frozenset()
