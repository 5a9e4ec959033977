"""What pruned trials would have come to: drawn many times over from how those that went on have learnt.

A pruner looks at what a trial has shown so far and at nothing else. So of two trials that have shown the same with the
same parameters, the one that was stopped would have gone on as the other did, and what it would have come to can be
drawn (monotone missing values, missing at random: Rubin 1987, Multiple Imputation for Nonresponse in Surveys,
section 5.4). From each epoch l at which trials were stopped to the next one k, over the trials that reached k,

    y(k) - y(l) = b0 + b1 y(l) + b * parameters + (pairs of these) + residual

A choice that learns faster at the beginning has its own b, so it gains nothing by that at the end. Each draw has other
coefficients, as far as they are uncertain (with HC3 weights, MacKinnon and White 1985), and residuals of other trials,
so that the spread of the draws is what is not known.

Names of dimensions: n trials, E epochs, q columns, M draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.least_squares import MAX_LEVERAGE, Array, p_added, svd

DRAWS = 40
PER_COLUMN = 4  # trials that went on, for each column of the parameters
PER_PAIR_COLUMN = 3  # the same with the pairs that learning depends on, which are added below this p value:
SURE = 0.05
FEW = 5  # choices, and combinations of two, with fewer trials than this are not asked for:
LEFT = 8  # trials of each choice that went on
LEFT_OF_BOTH = 2  # the same of each combination of two choices

Flags = NDArray[np.bool_]
Lengths = NDArray[np.intp]
Pair = tuple[int, int]  # two blocks of columns; the second -1: what was seen so far


def last_epoch(
    lengths: Lengths, columns: int, choices: Sequence[Array], epochs: int, missing: float
) -> tuple[int, bool]:
    """The last epoch for which all can be compared, and whether what was not seen there can be drawn.

    It can be when enough trials of each choice went on. Else those that were stopped have to be left out, and may be
    ``missing`` of all at most. ``columns`` are those of the parameters, ``choices`` the (n,) codes of the choices.
    """
    for epoch in sorted({epochs, *lengths.tolist()}, reverse=True):
        seen = lengths >= epoch
        if seen.sum() >= PER_COLUMN * (columns + 2) and _spread(seen, choices):
            return epoch, True
        if 1 - seen.mean() <= missing:
            return epoch, False
    raise AssertionError("all trials have reached the first epoch")


def _spread(seen: Flags, choices: Sequence[Array]) -> bool:
    """Whether trials of each choice, and of each combination of two, were ``seen`` (n,)."""
    each = [list(_each(codes)) for codes in choices]
    groups = [(group, LEFT) for groups in each for group in groups]
    groups += [(one & other, LEFT_OF_BOTH) for a, b in combinations(each, 2) for one in a for other in b]
    return all((group & seen).sum() >= left for group, left in groups if group.sum() >= FEW)


def _each(codes: Array) -> Iterator[Flags]:
    for code in np.unique(codes[~np.isnan(codes)]):
        yield codes == code


def ends(curves: Array, lengths: Lengths, blocks: Sequence[Array], epoch: int, seed: int = 0) -> Array:
    """(M, n) scores at ``epoch``: those seen, the same in all draws, and draws of those that were not.

    ``curves`` (n, E) are scores by epoch, of which the first ``lengths`` (n,) were seen; ``blocks`` hold the (n, k)
    columns of each parameter.
    """
    rng = np.random.default_rng(seed)
    stages = [*sorted({length for length in lengths.tolist() if length < epoch}), epoch]
    current = np.repeat(curves[None, :, stages[0] - 1], DRAWS, axis=0)  # (M, n)
    pairs = _pairs(curves, lengths >= epoch, blocks, stages[0], epoch) if len(stages) > 1 else []
    fixed, moving = _columns(blocks, pairs)
    for before, after in pairwise(stages):
        seen = lengths >= after
        start = curves[seen, before - 1]
        middle = start.mean()
        design = np.hstack([fixed[seen], (start - middle)[:, None] * moving[seen]])
        coefficients, residuals = _drawn(design, curves[seen, after - 1] - start, rng)
        at = current[:, ~seen]
        gain = coefficients[:, : fixed.shape[1]] @ fixed[~seen].T
        gain += coefficients[:, fixed.shape[1] :] @ moving[~seen].T * (at - middle)
        current[:, seen] = curves[seen, after - 1]
        current[:, ~seen] = at + gain + rng.choice(residuals, at.shape)
    return current


def _columns(blocks: Sequence[Array], pairs: Sequence[Pair]) -> tuple[Array, Array]:
    """(n, q) columns, and (n, r) columns that are multiplied by what was seen so far."""
    one = np.ones((len(blocks[0]), 1))
    fixed = [one, *blocks, *(_products(blocks[a], blocks[b]) for a, b in pairs if b >= 0)]
    return np.hstack(fixed), np.hstack([one, *(blocks[a] for a, b in pairs if b < 0)])


def _pairs(curves: Array, seen: Flags, blocks: Sequence[Array], first: int, epoch: int) -> list[Pair]:
    """The pairs that learning from epoch ``first`` to ``epoch`` depends on, the strongest first."""
    start = curves[seen, first - 1]
    gain, start = curves[seen, epoch - 1] - start, (start - start.mean())[:, None]
    own = [block[seen] for block in blocks]
    columns = {(a, -1): own[a] * start for a in range(len(own))}
    columns |= {(a, b): _products(own[a], own[b]) for a, b in combinations(range(len(own)), 2)}
    design = np.hstack([np.ones((len(start), 1)), *own, start])
    chosen: list[Pair] = []
    while True:
        base, room = svd(design)[0], len(start) // PER_PAIR_COLUMN - design.shape[1]
        found = {pair: p_added(base, block, gain) for pair, block in columns.items() if block.shape[1] <= room}
        best = min(found, key=lambda pair: found[pair], default=None)
        if best is None or found[best] >= SURE:
            return chosen
        chosen.append(best)
        design = np.hstack([design, columns.pop(best)])


def _products(first: Array, second: Array) -> Array:
    """(n, j) and (n, k) columns -> (n, j k) products."""
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)


def _drawn(design: Array, gain: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """(M, p) coefficients that the (n, p) design and (n,) gains allow, and (n,) residuals."""
    u, s, vt = svd(design)
    inverse = (vt.T / s) @ u.T
    estimate = inverse @ gain
    free = 1 - np.minimum(np.sum(u**2, axis=1), MAX_LEVERAGE)
    residual = gain - design @ estimate
    noise = rng.standard_normal((DRAWS, len(gain)))
    return estimate + (noise * (residual / free)) @ inverse.T, residual / np.sqrt(free)
