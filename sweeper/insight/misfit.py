"""What smooth curves leave over of the numbers' effect, such as cliffs and bends, taken out of the scores.

An adaptive sampler tries each choice at other numbers. What the curves miss there, such as a cliff in the learning
rate, would then look like a difference between choices or like an interaction. Each trial's share is predicted from
the other trials, so that its own noise is not taken out with it: kernel ridge regression (Saunders et al. 1998), its
predictions without the trial itself in closed form, ``(H r - h r) / (1 - h)`` with ``h`` the diagonal of the hat
matrix H.

Names of dimensions: n trials, m of them that are learnt from, k numbers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sweeper.insight.factors import Array, Factor

WIDTHS = (0.3, 0.6, 1.2)  # of the kernel, in standard deviations of the numbers
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
MAX_ROWS = 600  # that are learnt from


def misfit(numbers: tuple[Factor, ...], residual: Array, seed: int = 0) -> Array:
    """(n,) what the numbers still tell of the (n,) residuals of a model; zeros where they tell nothing."""
    if not numbers or not residual.any():
        return np.zeros_like(residual)
    columns = np.column_stack([_known(f.codes) for f in numbers])
    points = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    learnt = np.random.default_rng(seed).permutation(len(residual))[:MAX_ROWS]
    predicted = min((_without_itself(points, residual, learnt, width) for width in WIDTHS), key=lambda found: found[0])[
        1
    ]
    predicted -= predicted.mean()
    size = float(predicted @ predicted)
    share = float(predicted @ residual) / size if size > 0 else 0.0
    found: Array = predicted * min(max(share, 0.0), 1.0)
    return found


def _without_itself(points: Array, residual: Array, learnt: NDArray[np.intp], width: float) -> tuple[float, Array]:
    """The mean squared error of the best penalty, and (n,) its predictions."""
    kernel = _kernel(points[learnt], points[learnt], width)  # (m, m)
    known, best = residual[learnt], (np.inf, 0.0, np.zeros(len(learnt)))
    eigenvalues, vectors = np.linalg.eigh(kernel)
    turned = vectors.T @ known
    for penalty in PENALTIES:
        kept = np.maximum(eigenvalues, 0.0) / (np.maximum(eigenvalues, 0.0) + penalty)
        own = np.square(vectors) @ kept  # the diagonal of the hat matrix
        predicted = (vectors @ (kept * turned) - own * known) / (1 - own)
        error = float(np.mean(np.square(known - predicted)))
        if error < best[0]:
            best = (error, penalty, predicted)
    error, penalty, predicted = best
    weights = vectors @ (turned / (np.maximum(eigenvalues, 0.0) + penalty))
    everywhere: Array = np.empty_like(residual)
    rest = np.setdiff1d(np.arange(len(residual)), learnt)
    everywhere[learnt] = predicted
    everywhere[rest] = _kernel(points[rest], points[learnt], width) @ weights
    return error, everywhere


def _kernel(first: Array, second: Array, width: float) -> Array:
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1) - 2 * first @ second.T
    kernel: Array = np.exp(-np.maximum(squares, 0.0) / (2 * width**2))
    return kernel


def _known(codes: Array) -> Array:
    """Trials without the number stand below all others."""
    low, high = float(np.nanmin(codes)), float(np.nanmax(codes))
    return np.nan_to_num(codes, nan=low - (high - low))
