"""What a sweep of an objective of the user's own would run, as far as that is known before it runs."""

from __future__ import annotations

from typing import Any

from sweeper.data.loading import load
from sweeper.running.parts import make_study, window_and_batch
from sweeper.running.windows import choose_window, in_words, settled
from sweeper.spec.objective_file import ResourcesSpec
from sweeper.spec.parse import SweepSpec
from sweeper.training.pool import local_device


def plan_objective(spec: SweepSpec, cluster: bool) -> dict[str, Any]:
    """Trials, search and resources; how long a trial takes is known to its function alone, and nothing is run.

    Raises:
        SpecError: the function or the sampler cannot be used.
    """
    function, takes = spec.objective.function, spec.resources or ResourcesSpec()
    assert function is not None
    make_study(spec, load(spec))
    chosen = choose_window(spec, "auto", cluster)
    spec = settled(spec, chosen)
    window, _ = window_and_batch(spec, spec.search.trials)
    device = local_device()
    limit, gpu = spec.objective.time_limit, device.kind == "cuda"
    without = "; this machine has no GPU, so here they run without one" if takes.gpus and not gpu else ""
    return {
        "name": spec.name,
        "function": function.reference,
        "direction": spec.objective.direction,
        "trials": spec.search.trials,
        "sampler": in_words(spec, chosen),
        "pruner": spec.search.pruner,
        "resources": f"{takes.cpus:g} cores and {takes.gpus:g} GPUs for each trial{without}",
        "trials_at_once": min(window, takes.at_once(device.cores, gpu)),
        **({} if spec.search.stop is None else {"may_end_before": spec.search.stop.in_words}),
        **({} if limit is None else {"time_limit": f"{limit:g} s for each trial"}),
    }
