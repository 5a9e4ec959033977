"""What pruned trials would have come to: drawn many times over from how those that went on have learnt.

A pruner looks at what a trial has shown so far and at nothing else. So of two trials that have shown the same with the
same parameters, the one that was stopped would have gone on as the other did, and what it would have come to can be
drawn (monotone missing values, missing at random; Rubin 1987, Multiple Imputation for Nonresponse in Surveys,
section 5.4). From each epoch l at which trials were stopped to the next one k, over the trials that reached k,

    y(k) - y(l) = b0 + b1 y(l) + b * parameters + residual

A choice that learns faster at the beginning has its own b, so it gains nothing by that at the end. Each draw has other
coefficients, as far as they are uncertain (with HC3 weights, MacKinnon and White 1985), and residuals of other trials,
so that the spread of the draws is what is not known.

Names of dimensions: n trials, E epochs, q columns, M draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.least_squares import MAX_LEVERAGE, Array, p_added, svd

DRAWS = 40
PER_COLUMN = 4  # trials that went on, for each column of a stage
LEFT = 8  # trials of each choice that went on
PER_PAIR = 3
SURE = 0.05


def ends(curves: Array, lengths: NDArray[np.intp], blocks: Sequence[Array], epoch: int, seed: int = 0) -> Array:
    """(M, n) scores at ``epoch``: those seen, the same in all draws, and draws of those that were not.

    ``curves`` (n, E) are scores by epoch, of which the first ``lengths`` (n,) were seen; ``blocks`` hold the (n, k)
    columns of each parameter.
    """
    rng = np.random.default_rng(seed)
    stages = [*sorted({int(x) for x in lengths if x < epoch}), epoch]
    current = np.repeat(curves[None, :, stages[0] - 1], DRAWS, axis=0)  # (M, n)
    pairs = _pairs(curves, lengths, blocks, stages[0], epoch) if len(stages) > 1 else []
    for before, after in zip(stages, stages[1:], strict=False):
        seen = lengths >= after
        start = curves[seen, before - 1]
        fixed, moving = _design(blocks, pairs)
        middle = start.mean()
        design = np.hstack([fixed[seen], (start - middle)[:, None] * moving[seen]])
        coefficients, residuals = _drawn(design, curves[seen, after - 1] - start, rng)
        at = current[:, ~seen]
        gain = coefficients[:, : fixed.shape[1]] @ fixed[~seen].T
        gain += coefficients[:, fixed.shape[1] :] @ moving[~seen].T * (at - middle)
        current[:, seen] = curves[seen, after - 1]
        current[:, ~seen] = at + gain + rng.choice(residuals, at.shape)
    return current


Pair = tuple[int, int]  # two blocks; the second -1: what was seen so far


def _design(blocks: Sequence[Array], pairs: Sequence[Pair]) -> tuple[Array, Array]:
    """(n, q) columns, and (n, r) columns that are multiplied by what was seen so far."""
    one = np.ones((len(blocks[0]), 1))
    fixed = [one, *blocks, *(_products(blocks[a], blocks[b]) for a, b in pairs if b >= 0)]
    return np.hstack(fixed), np.hstack([one, *(blocks[a] for a, b in pairs if b < 0)])


def _products(first: Array, second: Array) -> Array:
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)


def _pairs(curves: Array, lengths: NDArray[np.intp], blocks: Sequence[Array], first: int, epoch: int) -> list[Pair]:
    """The pairs that learning depends on from the first stop to ``epoch``: added while p is below ``SURE``."""
    seen = lengths >= epoch
    start = curves[seen, first - 1]
    gain, start = curves[seen, epoch - 1] - start, (start - start.mean())[:, None]
    own = [block[seen] for block in blocks]
    count = len(own)
    columns = {(a, -1): own[a] * start for a in range(count)}
    columns |= {(a, b): _products(own[a], own[b]) for a in range(count) for b in range(a + 1, count)}
    chosen: list[Pair] = []
    design = np.hstack([np.ones((len(start), 1)), *own, start])
    while True:
        left = [p for p in columns if p not in chosen]
        left = [p for p in left if (design.shape[1] + columns[p].shape[1]) * PER_PAIR <= len(start)]
        if not left:
            return chosen
        base = svd(design)[0]
        found = {p: p_added(base, columns[p], gain) for p in left}
        best = min(found, key=lambda p: found[p])
        if found[best] >= SURE:
            return chosen
        chosen.append(best)
        design = np.hstack([design, columns[best]])


def _drawn(design: Array, gain: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """(M, p) coefficients that the (n, p) design and (n,) gains allow, and (n,) residuals."""
    u, s, vt = svd(design)
    inverse = (vt.T / s) @ u.T
    estimate = inverse @ gain
    free = 1 - np.minimum(np.sum(u**2, axis=1), MAX_LEVERAGE)
    residual = gain - design @ estimate
    signs = rng.standard_normal((DRAWS, len(gain)))
    return estimate + (signs * (residual / free)) @ inverse.T, residual / np.sqrt(free)


def last_epoch(
    lengths: NDArray[np.intp], columns: int, choices: Sequence[NDArray[np.intp]], few: int, epochs: int
) -> int:
    """The last epoch that enough trials have seen, in all and of each choice, to say how the others would have gone on.

    ``choices`` are the (n,) levels of each choice; those of fewer than ``few`` trials are not counted.
    """
    needed = PER_COLUMN * (columns + 2)
    for epoch in sorted({epochs, *(int(x) for x in lengths)}, reverse=True):
        seen = lengths >= epoch
        if seen.all():
            return epoch
        levels = [(level == k, seen & (level == k)) for level in choices for k in np.unique(level[level >= 0])]
        if seen.sum() >= needed and all(left.sum() >= LEFT for of, left in levels if of.sum() >= few):
            return epoch
    return int(lengths.min())
