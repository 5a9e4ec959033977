"""What population based training needs of a sweep file: the size of a population, and hyperparameters to change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.models.changes import CHANGEABLE
from sweeper.search_spaces.vocabulary import FloatRange
from sweeper.spec.section import refuse

if TYPE_CHECKING:
    from sweeper.search_spaces import Space
    from sweeper.spec.models import SweepSpec

PBT = "pbt"
POPULATION, READY = 32, 4
KEYS = ("population", "ready")


def with_population(data: dict[str, Any]) -> dict[str, Any]:
    """The search section with the defaults of a population, which is all trials of its sweep."""
    if data.get("sampler") != PBT:
        for key in KEYS:
            if data.get(key) is not None:
                refuse("only population based training has it", key, "Set search.sampler: pbt, or remove it")
        return data
    given = {key: value for key, value in data.items() if value is not None}
    size = given.get("population", given.get("trials", POPULATION))
    trials = given.get("trials", size)
    if trials != size:
        problem = f"the members of a population are the sweep's trials, and there are {trials!r} of {size!r}"
        refuse(problem, "population", "Write one of search.population and search.trials")
    return {**data, "population": size, "trials": trials, "ready": given.get("ready", READY)}


def ranges_to_change(space: Space) -> dict[str, FloatRange]:
    """The hyperparameters that may change while a trial trains, with their ranges: those that a range is searched of.

    An ``ema_decay`` whose range begins at 0 stays: averaging cannot begin or end while a trial trains.
    """
    found = {p.name: p.domain for p in space.parameters if p.name in CHANGEABLE and not p.constant}
    ranges = {name: domain for name, domain in found.items() if isinstance(domain, FloatRange)}
    return {name: domain for name, domain in ranges.items() if name != "ema_decay" or domain.low > 0}


def check_population(spec: SweepSpec) -> None:
    """Refuse what population based training cannot do."""
    search, training = spec.search, spec.training
    if search.sampler != PBT:
        return
    other = "Use another sampler, such as tpe"
    if spec.model is not None:
        refuse("rows of a model of your own cannot be copied yet", "search.sampler", other)
    if search.pruner != "none":
        remedy = "Remove it: the worst members copy better ones, and none is stopped"
        refuse("a population has no pruner", "search.pruner", remedy)
    if search.stop is not None:
        refuse("all members of a population train together", "search.stop", "Remove it")
    if training.patience is not None:
        refuse("members of a population train to the end together", "training.patience", "Remove it")
    if len(spec.objectives) > 1 or spec.constraints:
        key = "objectives" if len(spec.objectives) > 1 else "constraints"
        refuse("a population is compared by one objective only", key, other)
    if search.ready is not None and search.ready >= training.epochs:
        problem = f"after {search.ready} of {training.epochs} epochs nothing is left to train with what was found"
        refuse(problem, "search.ready", "Use fewer, or set more training.epochs")
    if spec.space.is_function:
        refuse("the ranges of a function's hyperparameters are not known before it runs", "search.sampler", other)
    if not ranges_to_change(spec.space):
        remedy = "Give one of them a range such as learning_rate: {float: [1.0e-4, 1.0e-1], log: true}"
        refuse(f"nothing can change while a trial trains, such as {', '.join(CHANGEABLE[:4])}", "space", remedy)
