"""Where the bins of a piecewise-linear encoding end (Gorishniy et al. 2022, arXiv 2203.05556).

A number in bins with the edges b_0 < .. < b_k becomes k inputs, the share of each bin that lies below it:

    e_t = (x - b_(t-1)) / (b_t - b_(t-1)),  clipped below 0 but in the first bin, and above 1 but in the last
"""

from __future__ import annotations

import numpy as np

from sweeper.data.recipe import Feature

LEAF_SHARE = 0.1  # a leaf of the tree has at least this share of the rows that a bin would have if all were equal


def quantile_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges at evenly spaced quantiles of ``values (n,)``; there may be fewer bins where values repeat.

    A value that alone has more rows than a bin should have is an edge, and the quantiles are those of the other rows:
    else a column of zeros with a few numbers among them had one bin for all of these.
    """
    known, counts = np.unique(values, return_counts=True)
    if len(known) <= bins + 1:
        return known
    frequent = np.zeros(len(known), dtype=bool)
    while (free := bins + 1 - int(frequent.sum())) > 2:
        more = ~frequent & (counts > counts[~frequent].sum() / (free - 1))
        if not more.any():
            break
        frequent |= more
    if not frequent.any():
        return np.unique(np.quantile(values, np.linspace(0.0, 1.0, bins + 1)))
    rest = np.repeat(known[~frequent], counts[~frequent])
    spread = np.quantile(rest, np.linspace(0.0, 1.0, max(2, free)))
    edges = np.unique(np.concatenate([known[frequent], spread, known[[0, -1]]]))
    return edges if len(edges) <= bins + 1 else edges[np.round(np.linspace(0, len(edges) - 1, bins + 1)).astype(int)]


def target_edges(values: np.ndarray, y: np.ndarray, classifies: bool, bins: int) -> np.ndarray:
    """Edges where a decision tree with at most ``bins`` leaves cuts ``values (n,)`` to tell the targets ``y (n,)``."""
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    kind = DecisionTreeClassifier if classifies else DecisionTreeRegressor
    least = max(1, int(LEAF_SHARE * len(values) / bins))
    tree = kind(max_leaf_nodes=bins, min_samples_leaf=least, random_state=0).fit(values[:, None], y).tree_
    cuts = tree.threshold[tree.children_left != -1]
    return np.unique(np.concatenate([[values.min()], cuts, [values.max()]]))


def bin_features(column: str, fill: float, edges: np.ndarray, count: int | None = None) -> list[Feature]:
    """The inputs of one number column. ``count`` of them where it is given, so that all folds have the same inputs.

    Edges beyond ``count`` are thinned out; inputs that lack a bin are always 0.
    """
    bins = len(edges) - 1
    if count is not None and bins > count:
        edges = edges[np.round(np.linspace(0, bins, count + 1)).astype(int)]
        bins = count
    features = [
        Feature(
            column,
            fill=fill,
            offset=float(edges[t]),
            scale=float(edges[t + 1] - edges[t]),
            low=None if t == 0 else 0.0,
            high=None if t == bins - 1 else 1.0,
        )
        for t in range(bins)
    ]
    return features + [Feature(column, fill=fill, low=0.0, high=0.0)] * ((count or bins) - bins)
