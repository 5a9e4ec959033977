"""The process beside a sweep: it makes what the sweep's own would make, and nothing waits for one that is gone."""

import os
import signal
import sys

import numpy as np

from sweeper.data.dataset import load_dataset
from sweeper.data.loading import features_of
from sweeper.running.beside import TRIALS, Beside, NotDrawn, beside
from sweeper.settings import Settings
from sweeper.spec.parse import load_spec
from sweeper.training.baselines import FILE, METHODS, BaselineWork, read, train


def test_simple_models_are_those_of_the_sweeps_own_process_errors_of_drawing_are_told_and_a_dead_process_does_nothing(
    tmp_path,
):
    spec = load_spec({"dataset": {"name": "iris"}})
    iris = load_dataset(spec.dataset, spec.split, spec.normalize)
    process = Beside(Settings(tmp_path))
    features = lambda: features_of(spec)  # noqa: E731

    there = BaselineWork(iris, tmp_path, features, process.baselines).result(60)
    here = [train(method, iris, features) for method in METHODS]
    missing = process.report(tmp_path, "nosuch")
    pid = process._child._process.pid
    os.kill(pid, signal.SIGKILL)

    assert [one.problem for one in there] == ["", "", ""]
    assert all(np.array_equal(a.test, b.test) for a, b in zip(here, there, strict=True))
    assert read(tmp_path / FILE, iris.fingerprint) is not None
    assert isinstance(missing, NotDrawn)
    assert missing.kind == "SweepNotFound"
    assert process.report(tmp_path, "nosuch") is None
    assert process.baselines(iris, features) is None
    process.close()


def test_a_process_beside_is_started_where_it_pays(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("sweeper.running.beside.Beside", started.append)
    monkeypatch.delitem(sys.modules, "sweeper.report.page", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    beside(Settings(tmp_path), TRIALS - 1)
    assert started == []
    beside(Settings(tmp_path), TRIALS)
    assert len(started) == 1
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    beside(Settings(tmp_path), TRIALS)
    assert len(started) == 1
