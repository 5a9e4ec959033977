"""How large a network, a row and a cohort are: arithmetic on shapes, which needs no torch."""

from __future__ import annotations

from itertools import pairwise

from sweeper.models.embedding import EmbeddingLayout

NARROWEST = 32  # units of a layer's bucket; with fewer a card takes no less time
ROW_ALIGN = 16  # P is a multiple of this, so that every row starts on a 64 byte boundary in either dtype


def n_parameters(sizes: tuple[int, ...], normalization: str = "none", layout: EmbeddingLayout | None = None) -> int:
    """Weights and biases of one network of ``sizes = (D, H1, .., C)``, and the scales and shifts of a normalisation.

    With the ``layout`` of an embedding D is its width, and its parameters count as well.
    """
    norms = 2 * sum(sizes[1:-1]) if normalization != "none" else 0
    return sum(n_in * n_out + n_out for n_in, n_out in pairwise(sizes)) + norms + (layout.parameters if layout else 0)


def row_length(sizes: tuple[int, ...], normalization: str = "none", layout: EmbeddingLayout | None = None) -> int:
    """P: the parameters of one row and its running statistics, padded to a multiple of ``ROW_ALIGN``."""
    length = n_parameters(sizes, normalization, layout) + n_statistics(sizes, normalization)
    return -(-length // ROW_ALIGN) * ROW_ALIGN


def n_statistics(sizes: tuple[int, ...], normalization: str) -> int:
    """The running means and variances of a batch normalisation."""
    return 2 * sum(sizes[1:-1]) if normalization == "batch" else 0


def bucket_of(hidden_layers: tuple[int, ...]) -> tuple[int, ...]:
    """The hidden widths that a network is padded to where networks of several widths are multiplied together.

    Each is rounded up to 32, 48, 64, 96, 128, ..: a power of two, or what lies halfway to the next one.
    """
    return tuple(max(NARROWEST, _rounded_up(width)) for width in hidden_layers)


def _rounded_up(width: int) -> int:
    power = 1 << (width - 1).bit_length()
    return power * 3 // 4 if width <= power * 3 // 4 else power


def preferred_rows(sizes: tuple[int, ...]) -> int:
    """How many rows one chunk wants, from the shape alone: 4 to 32, so that a chunk's parameters stay near 2 MB."""
    return max(4, min(32, 2**19 // n_parameters(sizes)))


def rows_that_fit(
    sizes: tuple[int, ...],
    batch: int,
    free_bytes: int,
    itemsize: int = 4,
    layout: EmbeddingLayout | None = None,
    normalization: str = "none",
) -> int:
    """The widest cohort within ``free_bytes``: parameters now and at their best, gradient, two moments, a temporary,
    activations twice, with batch normalisation five times: slopes, what is normalised and gradients stay, too.

    ``itemsize`` is that of a number: 4 bytes in float32.
    """
    units = sum(sizes) + (layout.units if layout else 0)
    kept = 5 if normalization == "batch" else 2
    per_row = 6 * row_length(sizes, normalization, layout) + kept * batch * units
    return max(1, free_bytes // (per_row * itemsize))


def has_lone_row(n: int, batch_size: int) -> bool:
    """Whether one of the minibatches of n rows is a single row, which has no deviation to be normalised by."""
    return n % min(batch_size, n) == 1 or batch_size == 1 or n == 1
