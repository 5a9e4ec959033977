"""Code of users on a server: refused unless a role may send it, run in processes of their own, and shown."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.places.there import There
from sweeper.service.own_process import LOG
from sweeper.service.routes import LOG_BYTES
from sweeper.tracking.trial_files import TrialFiles
from tests.served import SMALL, Served, problem, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CODE = """
import os
import optuna
import torch

def told(what):
    with open({told!r}, "a") as file:
        file.write(f"{{what}} {{os.getpid()}}\\n")

told("import")

def objective(trial):
    told("objective")
    return trial.suggest_float("x", -1, 1) ** 2

def make(seed):
    told("make")
    return optuna.samplers.RandomSampler(seed)

def build(trial, data):
    told("build")
    return torch.nn.Linear(data.n_inputs, data.n_outputs)

def space(trial):
    told("space")
    return {{"learning_rate": trial.suggest_float("learning_rate", 1e-3, 1e-1)}}

def share(y_true, y_pred):
    told("share")
    return float((y_true == y_pred).mean())
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("told") / "told.txt"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("code"), allow_code="user") as served:
        yield served


def code(told: Path, function: str) -> dict[str, str]:
    return {"file": "/home/bob/mine.py", "function": function, "text": CODE.format(told=str(told))}


def served_log(served: Served, sweep: str) -> None:
    """What a trial has printed is there for who sees the sweep, in parts."""
    TrialFiles(served.settings.home / "sweeps" / sweep / "trials").append(1, b"one\ntwo\n" + b"x" * LOG_BYTES)
    path = f"/sweeps/{sweep}/trials"
    assert served.client("bob").get(f"{path}/0/log").content == b""
    assert len(served.client("bob").get(f"{path}/1/log").content) == LOG_BYTES
    assert served.client("bob").get(f"{path}/1/log?begin=4").content[:5] == b"two\nx"
    problem(served.client("bob").get(f"{path}/7/log"), 422)
    problem(served.client("cat").get(f"{path}/1/log"), 404)
    there = There(replace(served.settings, server=served.url, token=served.tokens["bob"]), "")
    assert len(there.printed(there.ledger.sweep(sweep), 1)) == LOG_BYTES + 8


def test_code_of_a_user_runs_in_processes_of_its_own_and_is_shown_and_exported(served: Served, told: Path) -> None:
    search = {"trials": 2, "sampler": "own", "own_sampler": code(told, "make")}
    own = {"model": code(told, "build"), "metrics": [code(told, "share")], "space": code(told, "space")}
    sweep = served.submit("bob", SMALL | own | {"search": search})
    found = served.wait(sweep, "complete", "failed")
    log = served.settings.home / "sweeps" / sweep / LOG
    assert found["state"] == "complete", (found["reason"], log.read_text())
    assert found["spec"]["model"]["text"] == found["spec"]["space"]["text"] == CODE.format(told=str(told))
    answer = served.client("bob").get(f"/sweeps/{sweep}/model.zip")
    assert answer.status_code == 200, answer.text
    assert b"own_model.py" in answer.content
    served_log(served, sweep)
    ran = [line.split() for line in told.read_text().splitlines()]
    assert {what for what, _ in ran} == {"import", "make", "build", "space", "share"}
    assert str(os.getpid()) not in {pid for _, pid in ran}


def test_code_that_no_server_should_take_is_refused_with_file_and_line(served: Served, told: Path) -> None:
    def refused(user: str, **changed: Any) -> str:
        function = {name: text for name, text in (code(told, "objective") | changed).items() if text is not None}
        spec = {"objective": {"function": function}, "search": {"trials": 1}}
        return str(problem(served.client(user).post("/sweeps", json=spec), 422)["detail"])

    assert "mine.py: it is not valid Python (line 2" in refused("bob", text="\ndef objective(trial:")
    assert "there is no such function" in refused("bob", function="objektive")
    assert "takes the text of a file, not its path" in refused("bob", text=None)
    assert "has no text that others could read" in refused("bob", pickled="gASVBA==")
    served.app.state.desk._allow_code = "admin"
    try:
        assert "the server runs no code of its users" in refused("bob")
        answer = served.client("bob").post("/sweeps", json=SMALL | {"space": code(told, "space")})
        assert "this space is a Python function" in problem(answer, 422)["detail"]
    finally:
        served.app.state.desk._allow_code = "user"
    assert json.loads(served.client("bob").get("/info").text)["takes_code"] is True
    assert json.loads(served.client("vic").get("/info").text)["takes_code"] is False
