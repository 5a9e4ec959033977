"""How number columns are scaled; F columns of n training rows, without missing values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LIMIT = 3.0  # of the smooth clipping that comes with robust scaling (Holzmueller et al. 2024, arXiv 2407.04491)
ROWS_PER_QUANTILE, FEWEST, MOST = 30, 10, 1000  # as in Gorishniy et al. 2021, arXiv 2106.11959


@dataclass(frozen=True, eq=False)
class Scaling:
    """Column by column: ``(value - offset) / scale``, clipped smoothly at ``limit``; or its place in ``quantiles``."""

    offset: np.ndarray
    scale: np.ndarray
    limit: float | None = None
    quantiles: np.ndarray | None = None  # (q, F)


def fit_scaling(kind: str, values: np.ndarray) -> Scaling:
    """``standard``, ``minmax`` and ``none`` as scikit-learn, ``robust`` as RealMLP, ``quantile`` to a normal
    distribution as scikit-learn's QuantileTransformer, of ``values (n, F)``."""
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    zeros, ones = np.zeros(values.shape[1]), np.ones(values.shape[1])
    if kind == "standard":
        standard = StandardScaler(copy=False).fit(values)
        return Scaling(standard.mean_, standard.scale_)
    if kind == "minmax":
        minmax = MinMaxScaler().fit(values)
        return Scaling(minmax.data_min_, 1.0 / minmax.scale_)
    if kind == "robust":
        low, first, median, third, high = np.quantile(values, [0.0, 0.25, 0.5, 0.75, 1.0], axis=0)
        spread = np.where(third > first, third - first, (high - low) / 2.0)
        return Scaling(median, np.where(spread > 0, spread, ones), LIMIT)
    if kind == "quantile":
        count = max(min(len(values) // ROWS_PER_QUANTILE, MOST), FEWEST)
        quantiles = np.quantile(values, np.linspace(0.0, 1.0, count), axis=0)
        return Scaling(zeros, ones, quantiles=np.maximum.accumulate(quantiles))
    return Scaling(zeros, ones)
