"""How large the networks of a shape are, and how many of them a device has room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweeper.scheduling.events import Shape

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.models.embedding import EmbeddingLayout
    from sweeper.training.pool import Device

MEMORY_SHARE = 0.25  # of a device's free memory that one cohort may take
MAX_ROWS_CPU = 64  # more rows than this only make a CPU's legs longer


def network_of(dataset: Dataset, shape: Shape) -> tuple[tuple[int, ...], EmbeddingLayout | None]:
    """The sizes of a network's layers and how it embeds its inputs; at most, where that depends on the training rows.

    ``sizes = (D, H1, .., C)``; D are the inputs, or what an embedding makes of them.
    """
    from sweeper.models.embedding import layout_of

    kinds = dataset.most_kinds(shape.inputs)
    layout = layout_of(shape.embedding, kinds, len(kinds))
    return (layout.width if layout else len(kinds), *shape.hidden_layers, dataset.n_outputs), layout


def rows_on(device: Device, dataset: Dataset, shape: Shape) -> int:
    """How many rows of a shape one cohort on the device may have."""
    from sweeper.models import rows_that_fit

    sizes, layout = network_of(dataset, shape)
    batch = dataset.n_train if shape.batch_size == "full" else shape.batch_size
    free, kind = int(device.free_bytes * MEMORY_SHARE), shape.normalization
    rows = rows_that_fit(sizes, batch, free, layout=layout, normalization=kind)
    return max(1, min(rows, MAX_ROWS_CPU) if device.kind == "cpu" else rows)
