"""An ensemble of a sweep's trials: greedy selection with replacement over their outputs on the validation rows.

Names of dimensions: M candidates, v validation rows, C outputs of a network.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from sweeper.models.metrics import Scorer

STEPS = 50  # members at most, one counted as often as it is chosen
CHUNK = 8_000_000  # outputs that are scored at once


@dataclass(frozen=True)
class Selection:
    """``shares`` of the candidates by position, adding up to 1; ``value`` of their weighted mean on these rows.

    ``steps`` are how many were chosen, one counted as often as it was. ``single`` is the best value of one alone.
    """

    shares: dict[int, float]
    steps: int
    value: float
    single: float


def select(
    outputs: torch.Tensor, y: torch.Tensor, w: torch.Tensor | None, scorers: Sequence[Scorer], maximize: bool
) -> Selection:
    """Choose candidates by their ``outputs (M, v, C)`` on rows with targets ``y (v,)`` and weights ``w (v,)``.

    From the best one on, the candidate joins that makes the mean of the outputs best by the first of the ``scorers``,
    by the next ones where that is the same (they are losses); the same one may join again. Of all means on the way the
    best counts, the smallest of equals (Caruana, Niculescu-Mizil, Crew and Ksikes 2004, Ensemble selection from
    libraries of models).

    Raises:
        ValueError: no candidate has a finite value.
    """
    import torch

    total = torch.zeros_like(outputs[0])
    chosen: list[int] = []
    ranks: list[tuple[float, ...]] = []
    for step in range(1, STEPS + 1):
        best = _best(_scores(outputs, total, step, y, w, scorers), maximize)
        if best is None:
            break
        at, rank = best
        chosen.append(at)
        ranks.append(rank)
        total += outputs[at]
    if not chosen:
        raise ValueError("no candidate has a finite value on the validation rows")
    steps = 1 + min(range(len(ranks)), key=lambda i: (ranks[i], i))
    sign = -1.0 if maximize else 1.0
    counts = Counter(chosen[:steps])
    shares = {at: count / steps for at, count in counts.items()}
    return Selection(shares, steps, sign * ranks[steps - 1][0], sign * ranks[0][0])


def _scores(
    outputs: torch.Tensor,
    total: torch.Tensor,
    step: int,
    y: torch.Tensor,
    w: torch.Tensor | None,
    scorers: Sequence[Scorer],
) -> torch.Tensor:
    """(scorers, M): of the mean of the chosen with each candidate."""
    import torch

    parts = outputs.split(max(1, CHUNK // max(1, total.numel())))
    made = [torch.stack([scorer((total + part) / step, y, w) for scorer in scorers]) for part in parts]
    return torch.cat(made, dim=1)


def _best(scores: torch.Tensor, maximize: bool) -> tuple[int, tuple[float, ...]] | None:
    """The best candidate with its scores, smaller ones being better; None: none is finite."""
    signed = scores.clone()
    if maximize:
        signed[0] = -signed[0]
    ranks = [tuple(column) for column in signed.T.tolist()]
    finite = [i for i, rank in enumerate(ranks) if all(map(math.isfinite, rank))]
    best = min(finite, key=lambda i: (ranks[i], i), default=None)
    return None if best is None else (best, ranks[best])
