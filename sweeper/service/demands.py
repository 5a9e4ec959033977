"""What a sweep's largest network takes, and the refusal of what no worker could ever hold."""

from __future__ import annotations

from itertools import pairwise

from sweeper.data.memory import gigabytes
from sweeper.errors import SpecError
from sweeper.search_spaces.vocabulary import Choice, Fixed
from sweeper.spec.parse import SweepSpec

COPIES = 5  # weights, gradient, two moments and a temporary
BYTES = 4  # of a float32


def check_can_run(spec: SweepSpec, device_bytes: int) -> None:
    """Refuse a sweep of which one trial alone is larger than ``device_bytes``, the memory of the largest worker.

    It is a lower bound: inputs and activations are not counted. A function's space cannot be known before it runs.

    Raises:
        SpecError: with both sizes.
    """
    largest = max(_hidden_layers(spec), key=_parameters, default=())
    needed = spec.training.replicates * COPIES * BYTES * _parameters(largest)
    if needed > device_bytes:
        raise SpecError(
            f"one trial with {list(largest)} takes at least {gigabytes(needed)}, "
            f"and the largest worker has {gigabytes(device_bytes)}: it would wait for ever",
            key="space.hidden_layers",
            remedy="Use smaller layers or fewer replicates, or let a larger machine join the cluster",
        )


def _hidden_layers(spec: SweepSpec) -> list[tuple[int, ...]]:
    for parameter in spec.space.parameters:
        if parameter.name == "hidden_layers":
            domain = parameter.domain
            values = domain.values if isinstance(domain, Choice) else ()
            listed = [domain.value] if isinstance(domain, Fixed) else list(values)
            return [tuple(value) for value in listed if isinstance(value, list | tuple)]
    return []


def _parameters(hidden: tuple[int, ...]) -> int:
    """Weights and biases between the hidden layers, with one input and one output."""
    sizes = (1, *hidden, 1)
    return sum(before * after + after for before, after in pairwise(sizes))
