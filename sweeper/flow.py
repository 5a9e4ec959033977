"""A trial's gradient flow: how an epoch of it is packed for the ledger, and what it says went wrong, in sentences.

A layer's gradient is judged relative to its weights, r = |g| / |theta|: a step of plain gradient descent changes the
layer by the share learning rate * r. Layers are numbered from 1, the output layer last.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from sweeper.models.config import FLOW_STATISTICS
from sweeper.records import FlowReport

LARGEST = 3.4028234e38  # of float32

VANISHING = 1e-3
"""r of the first layer over r of the last. Below it the first layer moves by a thousandth of its size while the last
one is replaced as a whole: it keeps the weights it was drawn with. He and Xavier stay above 0.1 at 8 layers."""

EXPLODING = 1e3
"""The same ratio the other way round: the gradient grows on its way back through the layers."""

TOO_LONG_A_STEP = 1.0
"""|step| / |theta|. From 1 on a single step is longer than the weights it changes; about 1e-3 is usual."""

DEAD = 0.5
"""The share of a layer's relu units that are 0 for every example of a minibatch. Such a unit gets no gradient; when it
is most of them, the layer has less than half of its width left."""

MIN_EXAMPLES = 16
"""Examples in a minibatch from which a silent unit counts as dead: one that is active for half of all examples is
silent for 16 of them with probability 2^-16, but for one example every other time."""

SATURATED = 0.5
"""The share of a layer's tanh or sigmoid activations whose slope is below 5% of the largest: from one half on, the
layer passes on less than about half of the gradient that reaches it."""

Kind = Literal["vanishing", "exploding", "dead", "saturated", "symmetric"]
FATAL: frozenset[Kind] = frozenset({"vanishing", "exploding", "symmetric"})
"""What a trial does not recover from by training on; with half of its units lost it may still learn well."""


def pack_flow(layers: Sequence[Sequence[float]], clip_rate: float) -> bytes:
    """The bytes of an epoch's statistics, one row of ``FLOW_STATISTICS`` for each layer.

    They are float32 numbers, little-endian: first the clip rate, then the statistics of each layer; NaN: it has no
    meaning there; too large for float32: infinite. A network of three layers takes 88 bytes an epoch: 10,000 trials
    of 20 epochs take 18 MB.
    """
    numbers = [clip_rate, *(number for row in layers for number in row)]
    narrow = [n if abs(n) <= LARGEST or math.isnan(n) else math.copysign(math.inf, n) for n in numbers]
    return struct.pack(f"<{len(narrow)}f", *narrow)


def unpack_flow(epoch: int, blob: bytes) -> FlowReport:
    """What ``pack_flow`` packed, for one epoch."""
    clip_rate, *numbers = struct.unpack(f"<{len(blob) // 4}f", blob)
    width = len(FLOW_STATISTICS)
    rows = (zip(FLOW_STATISTICS, numbers[at : at + width], strict=True) for at in range(0, len(numbers), width))
    return FlowReport(epoch, tuple({name: n for name, n in row if not math.isnan(n)} for row in rows), clip_rate)


@dataclass(frozen=True)
class Flag:
    """One thing that is wrong, and the sentence that says so."""

    kind: Kind
    sentence: str


def flags(flow: Sequence[FlowReport], params: Mapping[str, Any] | None = None, batch_size: Any = 64) -> list[str]:
    """What a trial's measured epochs say, in sentences; empty: nothing is wrong. See ``find_flags``."""
    return [flag.sentence for flag in find_flags(flow, params, batch_size)]


def find_flags(flow: Sequence[FlowReport], params: Mapping[str, Any] | None = None, batch_size: Any = 64) -> list[Flag]:
    """The flags of a trial with the parameters ``params``; ``batch_size`` is a number of examples or ``"full"``.

    Ratios are medians over the measured epochs, a single long step counts whenever it happened, and shares of units
    are those of the last epoch.
    """
    if not flow or len(flow[-1].layers) == 0:
        return []
    params = params or {}
    if params.get("initialization") == "zeros" and len(flow[-1].layers) > 1:
        return [_symmetric(flow)]
    size = params.get("batch_size", batch_size)
    enough = size == "full" or size >= MIN_EXAMPLES
    found = [_ratio(flow), _long_step(flow), _share(flow[-1], "dead", DEAD) if enough else None]
    return [flag for flag in (*found, _share(flow[-1], "saturated", SATURATED)) if flag is not None]


def first_to_last(report: FlowReport) -> float | None:
    """r of the first layer over r of the last; None with one layer, or where the last has no gradient or weights."""
    first, last = report.layers[0], report.layers[-1]
    if len(report.layers) < 2 or not last["grad_norm"] > 0 or not first["weight_norm"] > 0:
        return None
    return (first["grad_norm"] / first["weight_norm"]) * (last["weight_norm"] / last["grad_norm"])


def _ratio(flow: Sequence[FlowReport]) -> Flag | None:
    known = [ratio for report in flow if (ratio := first_to_last(report)) is not None and not math.isnan(ratio)]
    if not known:
        return None
    ratio = median(known)
    if VANISHING <= ratio <= EXPLODING:
        return None
    kind: Kind = "vanishing" if ratio < VANISHING else "exploding"
    got = f"{ratio:.1g} times" if ratio > 0 else "nothing of"
    text = f"the first of {len(flow[-1].layers)} layers gets {got} the last layer's gradient"
    return Flag(kind, f"{kind}: {text} (each relative to its weights)")


def _long_step(flow: Sequence[FlowReport]) -> Flag | None:
    steps = [
        (layer["update_ratio"], report.epoch, -number)
        for report in flow
        for number, layer in enumerate(report.layers, start=1)
        if layer["weight_norm"] > 0
    ]
    ratio, epoch, number = max(steps, default=(0.0, 0, 0))
    if ratio <= TOO_LONG_A_STEP:
        return None
    text = f"a step in epoch {epoch} changed layer {-number} by {ratio:.2g} times the size of its weights"
    return Flag("exploding", f"exploding: {text}")


def _share(report: FlowReport, kind: Literal["dead", "saturated"], limit: float) -> Flag | None:
    shares = [(layer[kind], -number) for number, layer in enumerate(report.layers, start=1) if kind in layer]
    share, number = max(shares, default=(0.0, 0))
    if share < limit:
        return None
    what, how = ("units", "are 0 for every example") if kind == "dead" else ("activations", "have hardly any slope")
    return Flag(kind, f"{kind}: {share:.0%} of the {what} of layer {-number} {how} in epoch {report.epoch}")


def _symmetric(flow: Sequence[FlowReport]) -> Flag:
    still = all(layer["grad_norm"] == 0 for report in flow for layer in report.layers[:-1])
    text = "no gradient ever reaches them" if still else "they get equal gradients"
    return Flag("symmetric", f"symmetric: weights that begin at zero make all units of a hidden layer equal: {text}")
