"""The search's window is chosen when a sweep is created, from what this machine has, and kept from then on."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.running import windows
from sweeper.running.parts import window_and_batch
from sweeper.running.planning import plan
from sweeper.running.windows import choose_window, has_gpu, settled
from sweeper.spec.parse import SweepSpec, load_spec


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "has_gpu", lambda: False)


def spec_for(trials: int = 256, **search: Any) -> SweepSpec:
    return load_spec({"dataset": {"name": "iris"}, "search": {"trials": trials, **search}})


@pytest.mark.parametrize(
    ("trials", "workers", "window", "reason"),
    [
        (256, 1, 8, "the least, for 1 core"),
        (256, 2, 8, "the least, for 2 cores"),
        (256, 6, 24, "4 for each of 6 cores"),
        (256, 64, 64, "a quarter of 256 trials, from 8 to 64"),
        (48, 4, 12, "a quarter of 48 trials, from 8 to 64"),
        (4, 2, 8, "a quarter of 4 trials, from 8 to 64"),
    ],
)
def test_a_sweep_of_networks_has_a_window_of_four_trials_to_a_core(
    trials: int, workers: int, window: int, reason: str
) -> None:
    chosen = choose_window(spec_for(trials), workers, cluster=False)
    assert (chosen.window, chosen.reason) == (window, reason)


def test_where_results_do_not_help_or_many_trials_pay_the_usual_window_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for search in ({"sampler": "random"}, {"sampler": "sobol"}, {"pruner": "halving"}, {"sampler": "gp"}):
        spec = spec_for(**search)
        assert settled(spec, choose_window(spec, 1, cluster=False)) is spec, search
    assert choose_window(spec_for(window=3), 1, cluster=False).window is None
    assert "cluster" in choose_window(spec_for(), 1, cluster=True).reason
    monkeypatch.setattr(windows, "has_gpu", lambda: True)
    assert choose_window(spec_for(), 1, cluster=False).window is None


def test_an_objective_of_ones_own_has_twice_the_trials_that_run_at_once() -> None:
    spec = load_spec({"objective": {"function": lambda trial: 0.0}, "search": {"trials": 100}})
    assert choose_window(spec, 10, cluster=False).reason == "2 for each of 10 trials at once"
    two = spec.model_copy(update={"resources": windows.ResourcesSpec(cpus=2.0)})
    assert choose_window(two, 16, cluster=False).window == 16
    assert choose_window(two, 4, cluster=False).window == 8


def test_the_window_is_stored_and_another_machine_keeps_it() -> None:
    spec = spec_for()
    stored = settled(spec, choose_window(spec, 4, cluster=False)).to_json()
    assert stored["search"]["window"] == 16
    read = SweepSpec.from_json(stored)
    assert window_and_batch(read, 256) == window_and_batch(read, 10_000) == (16, 4)
    for workers, cluster in ((64, False), (1, True)):
        again = settled(read, choose_window(read, workers, cluster))
        assert again.search.window == 16


def test_a_plan_shows_the_window_and_its_reason() -> None:
    told = plan(spec_for(4), lambda: pytest.fail("no ledger"), cluster=True)
    assert told["sampler"].startswith("tpe, window 8 (a quarter of 4 trials, from 8 to 64; the machines")


def test_a_gpu_that_is_hidden_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "GPUS", ("/dev/null",))
    assert has_gpu({})
    assert has_gpu({"CUDA_VISIBLE_DEVICES": "0"})
    assert not has_gpu({"CUDA_VISIBLE_DEVICES": ""})
    assert not has_gpu({"CUDA_VISIBLE_DEVICES": "-1"})
    monkeypatch.setattr(windows, "GPUS", ("/dev/there-is-none",))
    assert not has_gpu({})
