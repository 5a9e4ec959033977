"""The report's section on gradient flow: how much of the gradient reaches the first layer, and which units are lost.

A trial's ratio is that of ``flow.first_to_last``: the first layer's gradient over the last layer's, each
relative to its weights. Trials are grouped by activation and initialization, and compared at equal depth.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sweeper.flow import VANISHING, find_flags, first_to_last
from sweeper.records import FlowReport, SweepRecord, TrialRecord
from sweeper.report.svg import BLUE, COLOURS, DASHES, INK, ORANGE, Plot, draw, plain_log
from sweeper.spec.parse import SweepSpec
from sweeper.text import counted, number

Group = tuple[str, str]  # activation, initialization
MAX_TRIALS = 500  # whose flow is read: 500 of 20 epochs are 15 MB
MAX_BARS = 24
COLUMNS = 3
FLOOR = 1e-12  # a smaller ratio is drawn here
MARKERS = ("o", "s", "^", "D", "v", "P")
NAMES = {"normal": "N(0, 0.01)"}  # of initializations, where the parameter's name says too little


@dataclass(frozen=True)
class _Seen:
    """One trial: its group, hidden layers, ratio by epoch, and at its last epoch the share of units lost."""

    group: Group
    depth: int
    value: float | None
    ratios: Mapping[int, float]
    lost: float | None
    clip_rate: float
    kinds: tuple[str, ...]


def flow_numbers(trials: Sequence[TrialRecord]) -> list[int]:
    """The trials whose flow the section needs: those that trained, or a sample of them."""
    trained = [trial.number for trial in trials if trial.epochs]
    if len(trained) <= MAX_TRIALS:
        return trained
    return sorted(np.random.default_rng(0).choice(trained, MAX_TRIALS, replace=False).tolist())


def gradient_section(
    record: SweepRecord, spec: SweepSpec, trials: Sequence[TrialRecord], flows: Mapping[int, Sequence[FlowReport]]
) -> dict[str, Any] | None:
    """``{"title", "sentences", "plots"}``, or None where no network with a hidden layer was measured."""
    seen = [found for trial in trials if (found := _look(trial, flows.get(trial.number, ()), spec)) is not None]
    if not seen:
        return None
    depths = sorted({trial.depth for trial in seen})
    plots = [_by_epoch([t for t in seen if t.depth == depths[-1]], depths), _by_depth(seen, depths), _losses(seen)]
    return {
        "title": "Gradient flow",
        "sentences": [*_answer(seen, depths), *_flagged(seen, spec)],
        "plots": [plot for plot in plots if plot is not None],
    }


def _look(trial: TrialRecord, flow: Sequence[FlowReport], spec: SweepSpec) -> _Seen | None:
    if not flow or len(flow[-1].layers) < 2:
        return None
    params = trial.params or {}
    group = (str(params.get("activation", "relu")), str(params.get("initialization", "he_uniform")))
    found = {report.epoch: ratio for report in flow if (ratio := first_to_last(report)) is not None}
    hidden = flow[-1].layers[:-1]
    shares = [layer[kind] for layer in hidden for kind in ("dead", "saturated") if kind in layer]
    return _Seen(
        group=group,
        depth=len(hidden),
        value=trial.value,
        ratios={epoch: ratio for epoch, ratio in found.items() if math.isfinite(ratio)},
        lost=sum(shares) / len(shares) if shares else None,
        clip_rate=sum(report.clip_rate for report in flow) / len(flow),
        kinds=tuple(flag.kind for flag in find_flags(flow, params, spec.training.batch_size)),
    )


def _grouped(seen: Sequence[_Seen]) -> dict[Group, list[_Seen]]:
    groups: dict[Group, list[_Seen]] = defaultdict(list)
    for trial in sorted(seen, key=lambda t: t.group):
        groups[trial.group].append(trial)
    return groups


def _typical(trials: Sequence[_Seen]) -> float | None:
    """The median over the trials of the median over their epochs."""
    medians = [median(trial.ratios.values()) for trial in trials if trial.ratios]
    return median(medians) if medians else None


def _named(initialization: str) -> str:
    return NAMES.get(initialization, initialization)


def _size(ratio: float) -> str:
    return "nothing" if ratio == 0 else f"{ratio:.1g}"


def _answer(seen: Sequence[_Seen], depths: Sequence[int]) -> list[str]:
    """One sentence for each activation, at the greatest depth at which its initializations were tried."""
    sentences = []
    for activation in sorted({trial.group[0] for trial in seen}):
        mine = [trial for trial in seen if trial.group[0] == activation]
        deepest = max(trial.depth for trial in mine)
        found = {
            group[1]: ratio
            for group, trials in _grouped([t for t in mine if t.depth == deepest]).items()
            if (ratio := _typical(trials)) is not None
        }
        if not found:
            continue
        ordered = sorted(found.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{_size(ratio)} with {_named(name)}" for name, ratio in ordered)
        layers = counted(deepest, "hidden layer")
        sentences.append(
            f"{activation}, {layers}: as a multiple of the last layer's gradient (each relative to its weights), "
            f"the first layer gets {shares}."
        )
    return sentences


def _flagged(seen: Sequence[_Seen], spec: SweepSpec) -> list[str]:
    """How many trials were flagged, for what, and how they ended."""
    flagged = [trial for trial in seen if trial.kinds]
    if not flagged:
        return [f"None of {len(seen)} trials shows vanishing, exploding, dead, saturated or symmetric layers."]
    kinds = Counter(kind for trial in flagged for kind in set(trial.kinds))
    worst = Counter(_named(trial.group[1]) for trial in flagged).most_common(1)[0]
    listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    text = f"{len(flagged)} of {len(seen)} trials are flagged ({listed}), {worst[1]} of them with {worst[0]}."
    ends = [[t.value for t in part if t.value is not None and math.isfinite(t.value)] for part in _halves(seen)]
    if all(ends):
        bad, good = (median(end) for end in ends)
        text += f" Their median {spec.objective.metric} is {number(bad, 3)}; that of the others is {number(good, 3)}."
    return [text]


def _halves(seen: Sequence[_Seen]) -> tuple[list[_Seen], list[_Seen]]:
    return [t for t in seen if t.kinds], [t for t in seen if not t.kinds]


def _panels(figure: Figure, activations: Sequence[str]) -> dict[str, Any]:
    rows = math.ceil(len(activations) / COLUMNS)
    columns = min(COLUMNS, len(activations))
    grid: Any = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in list(grid.flat)[len(activations) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel("first layer / last layer")
    return dict(zip(activations, grid.flat, strict=False))


def _line(axes: Any, x: Sequence[float], y: Sequence[float], initialization: str, order: Sequence[str]) -> None:
    i = order.index(initialization)
    axes.plot(
        x,
        np.maximum(y, FLOOR),
        color=COLOURS[i % len(COLOURS)],
        linestyle=DASHES[i % len(DASHES)],
        marker=MARKERS[i % len(MARKERS)] if len(x) < 40 else None,
        markersize=4,
        label=_named(initialization),
    )


def _finish(figure: Figure, panels: Mapping[str, Any], xlabel: str) -> None:
    for activation, axes in panels.items():
        axes.set_yscale("log")
        axes.set_title(activation)
        axes.set_xlabel(xlabel)
        axes.axhline(VANISHING, color=INK, linewidth=0.8, linestyle=":")
    plain_log(next(iter(panels.values())).yaxis)
    known: dict[str, Any] = {}
    for axes in panels.values():
        known |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(known.values(), known.keys(), loc="outside upper right", ncols=min(6, len(known)))


def _by_epoch(seen: Sequence[_Seen], depths: Sequence[int]) -> Plot | None:
    """The ratio after each epoch, of the deepest networks."""
    groups = {group: trials for group, trials in _grouped(seen).items() if any(t.ratios for t in trials)}
    if not groups:
        return None
    activations, order = sorted({g[0] for g in groups}), sorted({g[1] for g in groups})

    def paint(figure: Figure) -> None:
        panels = _panels(figure, activations)
        for (activation, initialization), trials in groups.items():
            epochs = sorted({epoch for trial in trials for epoch in trial.ratios})
            middle = [median([t.ratios[e] for t in trials if e in t.ratios]) for e in epochs]
            _line(panels[activation], [e + 1 for e in epochs], middle, initialization, order)
        for axes in panels.values():
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        _finish(figure, panels, "epoch")

    which = f" Networks of {depths[-1]} hidden layers only." if len(depths) > 1 else ""
    caption = "The first layer's gradient over the last layer's, each relative to its weights: the median over the "
    caption += f"trials. Below the dotted line it counts as vanishing; 0 is drawn at {FLOOR:g}.{which}"
    starts = ", ".join(
        f"{activation} with {_named(name)} {_size(ratio)}"
        for (activation, name), trials in groups.items()
        if (ratio := _typical(trials)) is not None
    )
    alt = f"Gradient of the first layer relative to the last by epoch. Medians: {starts}."
    rows = math.ceil(len(activations) / COLUMNS)
    return draw("flow-epochs", "The first layer's gradient by epoch", caption, alt, 2.6 * rows + 0.5, paint)


def _by_depth(seen: Sequence[_Seen], depths: Sequence[int]) -> Plot | None:
    """The ratio by the number of hidden layers."""
    if len(depths) < 2:
        return None
    lines: dict[Group, dict[int, float]] = {}
    for group, trials in _grouped(seen).items():
        typical = {d: _typical([t for t in trials if t.depth == d]) for d in depths}
        known = {depth: ratio for depth, ratio in typical.items() if ratio is not None}
        if known:
            lines[group] = known
    if not lines:
        return None
    activations, order = sorted({g[0] for g in lines}), sorted({g[1] for g in lines})

    def paint(figure: Figure) -> None:
        panels = _panels(figure, activations)
        for (activation, initialization), known in lines.items():
            _line(panels[activation], list(known), list(known.values()), initialization, order)
        for axes in panels.values():
            axes.set_xticks(depths if len(depths) <= 8 else depths[:: len(depths) // 6])
        _finish(figure, panels, "hidden layers")

    caption = "The same ratio by depth: the median over trials and epochs. Trials differ in everything else as well."
    ends = ", ".join(
        f"{activation} with {_named(name)} {_size(known[max(known)])} at {max(known)}"
        for (activation, name), known in lines.items()
    )
    alt = f"Gradient of the first layer relative to the last by number of hidden layers: {ends}."
    rows = math.ceil(len(activations) / COLUMNS)
    return draw("flow-depth", "The first layer's gradient by depth", caption, alt, 2.6 * rows + 0.5, paint)


def _losses(seen: Sequence[_Seen]) -> Plot | None:
    """Units lost at the end, and steps clipped, for every group."""
    groups = dict(sorted(_grouped(seen).items(), key=lambda item: -len(item[1]))[:MAX_BARS])
    names = [f"{group[0]}, {_named(group[1])} ({len(trials)})" for group, trials in groups.items()]
    lost = [_mean([t.lost for t in trials if t.lost is not None]) for trials in groups.values()]
    clipped = [_mean([t.clip_rate for t in trials]) for trials in groups.values()]
    y = np.arange(len(groups))[::-1]

    def paint(figure: Figure) -> None:
        panels: Any = figure.subplots(1, 2, sharey=True)
        for axes, shares, colour, title in (
            (panels[0], lost, BLUE, "units lost in hidden layers"),
            (panels[1], clipped, ORANGE, "steps clipped"),
        ):
            axes.barh(y, [100 * share for share in shares], color=colour, height=0.6)
            axes.set_title(title)
            axes.set_xlabel("%")
            axes.set_xlim(0, 100)
            axes.grid(visible=False, axis="y")
        panels[0].set_yticks(y, names)

    caption = "Left: at the last epoch, the share of relu units that are 0 for a whole minibatch, or of tanh and "
    caption += "sigmoid activations with hardly any slope; other activations have neither. Right: the share of steps "
    caption += "whose gradient was clipped. Means over the trials, whose number is in brackets."
    parts = "; ".join(
        f"{name}: {100 * a:.0f}% lost, {100 * b:.0f}% clipped" for name, a, b in zip(names, lost, clipped, strict=True)
    )
    height = 0.28 * len(groups) + 0.9
    return draw("flow-losses", "Dead and saturated units, clipped steps", caption, f"Shares. {parts}.", height, paint)


def _mean(shares: Sequence[float]) -> float:
    return sum(shares) / len(shares) if shares else 0.0
