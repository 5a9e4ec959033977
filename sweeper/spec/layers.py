"""What a sweep file says of layers and optimizers that cannot be, or that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from sweeper.search_spaces import Space
from sweeper.search_spaces.vocabulary import Parameter, listed
from sweeper.spec.schedules import values_of
from sweeper.spec.section import refuse

if TYPE_CHECKING:
    from sweeper.spec.sections import TrainingSpec

BETAS = ("adam", "adamw", "nadam", "lion")
READ_BY = {"momentum": ("momentum",), "nesterov": ("momentum",), "beta1": BETAS, "beta2": BETAS}  # by optimizers
OF_HIDDEN_LAYERS = ("dropout", "normalization", "residual")
USUAL_OPTIMIZER = "adam"  # of ``sweeper.models.TrialConfig``


def check_layers(space: Space, training: TrainingSpec) -> None:
    """Refuse batch normalization of a single row, and lion without a memory.

    Raises:
        ValueError: of pydantic's kind, with key and remedy.
    """
    if space.is_function:
        return
    key, sizes = normalized_batches(space, training)
    if 1 in sizes:
        problem = "batch normalization has nothing to average over in a minibatch of 1 row"
        refuse(problem, key, "Use 2 or more, or space.normalization: layer")
    beta2, lion = _parameter(space, "beta2"), "lion" in values_of(space, "optimizer")
    if lion and beta2 is not None and 0 in values_of(space, "beta2") and _may_meet(beta2, "optimizer", "lion"):
        refuse("lion has no memory with a beta2 of 0", "space.beta2", "Use values above 0, such as 0.99")


def normalized_batches(space: Space, training: TrainingSpec) -> tuple[str, tuple[Any, ...]]:
    """What sizes of a minibatch a trial with batch normalization may have (none without it), and the key of it."""
    searched = _parameter(space, "batch_size")
    if "batch" not in values_of(space, "normalization"):
        return "", ()
    if searched is None or not _may_meet(searched, "normalization", "batch"):
        return "training.batch_size", (training.batch_size,)
    return "space.batch_size", listed(searched.domain) or ()


def without_effect(space: Space) -> Iterator[str]:
    """A sentence for each parameter that no trial's network or optimizer has a use for."""
    if space.is_function:
        return
    optimizers = values_of(space, "optimizer") or (USUAL_OPTIMIZER,)
    for name, readers in READ_BY.items():
        if _parameter(space, name) is not None and not set(readers) & set(optimizers):
            yield f"space.{name}: it has no effect without optimizer: {' or '.join(readers)}."
    layers = values_of(space, "hidden_layers")
    for name in OF_HIDDEN_LAYERS:
        if _parameter(space, name) is not None and layers and not any(layers):
            yield f"space.{name}: it has no effect without hidden layers."
    asked = True in values_of(space, "residual") and any(layers)
    if asked and not any(a == b for each in layers if isinstance(each, tuple) for a, b in pairwise(each)):
        yield "space.residual: it has no effect, because no hidden layer is as wide as the one before it."
    if True in values_of(space, "residual") and set(values_of(space, "shape")) == {"funnel"}:
        yield "space.residual: it has no effect with shape: funnel, whose layers have different widths."


def _parameter(space: Space, name: str) -> Parameter | None:
    return next((parameter for parameter in space.parameters if parameter.name == name), None)


def _may_meet(parameter: Parameter, other: str, value: Any) -> bool:
    """Whether a parameter may count in a trial in which another one has this value."""
    return all(name != other or value in values for name, values in parameter.when)
