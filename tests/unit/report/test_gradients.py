"""The report's section on gradient flow: its sentences, and that every picture shows what its alternative text says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest

from sweeper.records import FlowReport, SweepRecord, TrialRecord
from sweeper.report.gradients import MAX_TRIALS, flow_numbers, gradient_section
from sweeper.spec.parse import SweepSpec, spec_from_options
from sweeper.states import SweepState, TrialState

SPEC = spec_from_options("digits", "gradient_flow", trials=24, seed=0, name="flow", timeout=None, sets=[])
RECORD = SweepRecord("abcd1234", "flow", SweepState.COMPLETE, "", 24, SPEC.to_json(), 0.0)


def trial(number: int, activation: str, initialization: str, depth: int, value: float = 0.1) -> TrialRecord:
    params = {"activation": activation, "initialization": initialization, "depth": depth, "width": 4}
    return TrialRecord(number, TrialState.COMPLETE, params=params, value=value, epochs=3)


def flow(depth: int, shrink: float, dead: float = 0.0, activation: str = "relu") -> list[FlowReport]:
    """Three epochs in which every layer passes on ``shrink`` of the gradient."""
    base = {"weight_norm": 1.0, "update_ratio": 1e-3, "activation_mean": 0.0, "activation_std": 1.0}
    share = {"dead" if activation == "relu" else "saturated": dead}
    layers = [
        base | {"grad_norm": shrink ** (depth - layer)} | (share if layer < depth else {}) for layer in range(depth + 1)
    ]
    return [FlowReport(epoch, tuple(layers), 0.25) for epoch in range(3)]


def section(
    trials: Sequence[TrialRecord], flows: dict[int, list[FlowReport]], spec: SweepSpec = SPEC
) -> dict[str, Any]:
    found = gradient_section(RECORD, spec, trials, flows)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def mixed() -> dict[str, Any]:
    """relu with he_normal passes on all, normal a tenth a layer; half of the normal ones lose most units."""
    trials, flows = [], {}
    for depth in (1, 2, 4, 8):
        for initialization, shrink, value in (("he_normal", 1.0, 0.1), ("normal", 0.1, 2.3)):
            for activation in ("relu", "tanh"):
                number = len(trials)
                trials.append(trial(number, activation, initialization, depth, value))
                flows[number] = flow(depth, shrink, 0.75 if shrink < 1 and depth == 8 else 0.0, activation)
    return section(trials, flows)


def test_the_answer_names_what_reaches_the_first_layer_of_the_deepest_networks(mixed: dict[str, Any]) -> None:
    assert mixed["title"] == "Gradient flow"
    for activation, sentence in zip(("relu", "tanh"), mixed["sentences"], strict=False):
        assert sentence == (
            f"{activation}, 8 hidden layers: as a multiple of the last layer's gradient "
            "(each relative to its weights), the first layer gets 1 with he_normal, 1e-08 with N(0, 0.01)."
        )


def test_flagged_trials_are_counted_with_how_they_ended(mixed: dict[str, Any]) -> None:
    counts = "4 of 16 trials are flagged (4 vanishing, 1 dead, 1 saturated), 4 of them with N(0, 0.01)."
    assert mixed["sentences"][-1] == f"{counts} Their median val_loss is 2.3; that of the others is 0.1."


def test_pictures_by_epoch_and_depth_and_of_lost_units_have_texts_and_lines(mixed: dict[str, Any]) -> None:
    by_epoch, by_depth, losses = mixed["plots"]
    assert [plot.name for plot in mixed["plots"]] == ["flow-epochs", "flow-depth", "flow-losses"]
    assert "relu with N(0, 0.01) 1e-08" in by_epoch.alt
    assert "tanh with he_normal 1 at 8" in by_depth.alt
    assert "relu, N(0, 0.01) (4): 19% lost, 25% clipped" in losses.alt
    assert "Networks of 8 hidden layers only" in by_epoch.caption
    for plot in mixed["plots"]:
        assert plot.svg.count("<path") > 4
        assert "N(0, 0.01)" in re.sub("<title>.*?</title>", "", plot.svg)


def test_one_depth_needs_no_picture_by_depth_and_healthy_trials_say_so() -> None:
    found = section([trial(0, "gelu", "he_normal", 2)], {0: flow(2, 0.5)})
    assert [plot.name for plot in found["plots"]] == ["flow-epochs", "flow-losses"]
    assert found["sentences"][-1].startswith("None of 1 trials shows vanishing")


def test_a_gradient_of_nothing_is_drawn() -> None:
    found = section([trial(0, "relu", "normal", 4)], {0: flow(4, 0.0)})
    assert "the first layer gets nothing with N(0, 0.01)" in found["sentences"][0]


@pytest.mark.parametrize("flows", [{}, {0: flow(0, 1.0)}], ids=["not measured", "no hidden layer"])
def test_without_a_hidden_layer_measured_there_is_no_section(flows: dict[int, list[FlowReport]]) -> None:
    assert gradient_section(RECORD, SPEC, [trial(0, "relu", "normal", 0)], flows) is None


def test_of_many_trials_a_sample_is_read() -> None:
    trials = [trial(number, "relu", "normal", 1) for number in range(MAX_TRIALS + 500)]
    assert len(set(flow_numbers(trials))) == MAX_TRIALS
    assert flow_numbers(trials[:5]) == [0, 1, 2, 3, 4]
    assert flow_numbers([TrialRecord(0)]) == []
