"""A trial's gradient flow as a handful of MLflow metrics, by which trials can be sorted, filtered and charted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweeper.gradient_flags import first_to_last
from sweeper.records import FlowReport

RATIO = "flow/first_over_last_gradient"
FLOW_METRICS = (RATIO, "flow/dead_units", "flow/saturated", "flow/longest_step", "flow/clip_rate")
MAX_EPOCHS = 5
"""Epochs that are written, the last included: MLflow's client takes 0.15 ms for a value, 15 ms for all epochs."""


def flow_metrics(report: FlowReport) -> Mapping[str, float]:
    """One epoch: the layers in which it looks worst. What has no meaning for the trial's activation is left out.

    The gradient of the first layer over that of the last, each relative to the layer's weights; the share of relu units
    that are dead and of tanh and sigmoid activations that are saturated; the longest step relative to the weights it
    changed; the share of steps whose gradient was clipped.
    """
    worst = {
        name: [layer[what] for layer in report.layers if what in layer]
        for name, what in zip(FLOW_METRICS[1:4], ("dead", "saturated", "update_ratio"), strict=True)
    }
    found = {name: max(values) for name, values in worst.items() if values}
    ratio = first_to_last(report) if report.layers else None
    return ({} if ratio is None else {RATIO: ratio}) | found | {FLOW_METRICS[4]: report.clip_rate}


def chosen_epochs(flow: Sequence[FlowReport]) -> list[FlowReport]:
    """At most ``MAX_EPOCHS`` of the measured epochs, evenly spread: the first and the last are among them."""
    steps = MAX_EPOCHS - 1
    if len(flow) <= MAX_EPOCHS:
        return list(flow)
    return [flow[round(i * (len(flow) - 1) / steps)] for i in range(MAX_EPOCHS)]
