"""Least squares: a basis of a design, and whether columns add anything to it.

Names of dimensions: n trials, p columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
MAX_LEVERAGE = 0.95  # a trial that determines a coefficient alone has no residual to judge it by
CAUTION = 3.0  # what the variance over draws is multiplied by: they are drawn where few others went on


def svd(design: Array) -> tuple[Array, Array, Array]:
    """(n, rank), (rank,) and (rank, p) of a design, without what its columns repeat."""
    u, s, vt = np.linalg.svd(design, full_matrices=False)
    rank = int(np.sum(s > s[0] * 1e-8))
    return u[:, :rank], s[:rank], vt[:rank]


def p_added(base: Array, columns: Array, scores: Array, at_least: int = 1, unseen: int = 0) -> float:
    """The p value of ``columns`` (n, k) beyond an orthonormal ``base`` (n, rank): the larger of the F test's and HC3's.

    By the Frisch-Waugh theorem the added coefficients are those of the added columns cleared of the base. 1 where
    fewer than ``at_least`` of them are left.
    """
    added = columns - base @ (base.T @ columns)
    v, s, _ = independent(added, float(np.linalg.norm(columns)))
    q, dof = len(s), len(base) - base.shape[1] - len(s)
    if q < at_least or dof < 1:
        return 1.0
    drawn = np.atleast_2d(scores)  # (M, n)
    residual = drawn - (drawn @ base) @ base.T
    coefficients = residual @ v  # (M, q) on orthonormal columns
    rest = residual - coefficients @ v.T
    rss = float(np.mean(np.sum(rest**2, axis=1)))
    if rss <= 0.0:
        return 1.0
    leverage = np.minimum(np.sum(base**2, axis=1) + np.sum(v**2, axis=1), MAX_LEVERAGE)
    weighted = v.T * (np.sqrt(np.mean(rest**2, axis=0)) / (1 - leverage))
    covariances = [np.eye(q) * rss / dof, weighted @ weighted.T]
    if len(drawn) > 1:
        covariances = [one + between(coefficients) for one in covariances]
        dof -= unseen
        if dof < 1:
            return 1.0
    mean = coefficients.mean(axis=0)
    return max(float(stats.f.sf(mean @ np.linalg.pinv(c, hermitian=True) @ mean / q, q, dof)) for c in covariances)


def between(estimates: Array) -> Array:
    """(p, p) what (M, p) estimates from M draws of what is not known add to their covariance (Rubin 1987)."""
    found: Array = CAUTION * np.atleast_2d(np.cov(estimates.T)) * (1 + 1 / len(estimates))
    return found


def independent(matrix: Array, size: float) -> tuple[Array, Array, Array]:
    """As ``svd``, with the rank judged against the size of the matrix it was cleared from."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    rank = int(np.sum(s > size * 1e-8))
    return u[:, :rank], s[:rank], vt[:rank]
