"""The search's window, chosen once, when a sweep is created: as small as keeps the machine busy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeper.running.parts import ADAPTIVE, window_and_batch
from sweeper.search.pruning import BatchPruner, Objective, make_pruner
from sweeper.spec.objective_file import ResourcesSpec
from sweeper.spec.parse import SweepSpec

LEAST = 8
PER_CORE = 4  # of networks: two train, and two are asked for meanwhile
PER_SLOT = 2  # of a function of the user's own: one trial runs, one waits
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(frozen=True)
class Chosen:
    """A window, and why it is this one. None: that of ``SearchSpec.default_window``, alike on every machine."""

    window: int | None
    reason: str


def settled(spec: SweepSpec, chosen: Chosen) -> SweepSpec:
    """The spec with the window that its sweep keeps, whoever goes on with it."""
    if chosen.window is None:
        return spec
    return spec.model_copy(update={"search": spec.search.model_copy(update={"window": chosen.window})})


def choose_window(spec: SweepSpec, workers: str | int, cluster: bool) -> Chosen:
    """The window of a new sweep, on as many of this machine's cores as ``workers`` says (see ``parse_workers``).

    It is small where results help the search, unless more trials side by side pay: on a GPU, which trains many rows as
    fast as few, and on a ``cluster`` or a server, of which nobody knows here what it has.
    """
    search, own = spec.search, spec.objective.function is not None
    if search.window is not None:
        return Chosen(None, "as search.window says")
    if search.sampler not in ADAPTIVE:
        return Chosen(None, f"{search.sampler} suggests without results")
    reason = _why_usual(spec, own, cluster)
    if reason:
        return Chosen(None, f"{_usual(spec)}; {reason}")
    cores = workers if isinstance(workers, int) else len(os.sched_getaffinity(0))
    slots = max(1, int(cores / (spec.resources or ResourcesSpec()).cpus + 1e-9)) if own else cores
    wanted = max(LEAST, (PER_SLOT if own else PER_CORE) * slots)
    if wanted >= spec.default_window():
        return Chosen(spec.default_window(), _usual(spec))
    if wanted == LEAST:
        return Chosen(wanted, f"the least, for {_counted(slots, own)}")
    return Chosen(wanted, f"{PER_SLOT if own else PER_CORE} for each of {_counted(slots, own)}")


def in_words(spec: SweepSpec, chosen: Chosen) -> str:
    """The sampler of a settled spec, its window and the reason of that."""
    window, batch = window_and_batch(spec, spec.search.trials)
    return f"{spec.search.sampler}, window {window} ({chosen.reason}), asked in batches of {batch}"


def _why_usual(spec: SweepSpec, own: bool, cluster: bool) -> str:
    search = spec.search
    goal = Objective(spec.objective.metric, spec.objective.direction, spec.training.epochs)
    if cluster:
        return "the machines of a cluster or server come and go"
    if isinstance(make_pruner(search.pruner, objective=goal), BatchPruner):
        return f"{search.pruner} compares the trials of a batch"
    if search.sampler == "gp" and not own:
        return "gp takes long for a batch"
    return "a GPU trains many trials as fast as few" if has_gpu() else ""


def _usual(spec: SweepSpec) -> str:
    return f"a quarter of {spec.search.trials} trials, from {LEAST} to 64"


def _counted(slots: int, own: bool) -> str:
    what = "trial" if own else "core"
    return f"{slots} {what}{'s' * (slots > 1)}{' at once' * own}"


def has_gpu(environ: Mapping[str, str] | None = None) -> bool:
    """Whether this machine may train on a GPU. It does not ask torch, which takes a second to come."""
    visible = (os.environ if environ is None else environ).get("CUDA_VISIBLE_DEVICES")
    return visible not in ("", "-1") and any(Path(device).exists() for device in GPUS)
