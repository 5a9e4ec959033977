"""The places of numbers among quantiles and their normal quantiles in ONNX, which can neither search nor invert erf.

Names of dimensions: n rows, Q inputs, K knots of each.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from sweeper.data.recipe import NORMAL_BOUND

# P. J. Wichura, Algorithm AS 241, Applied Statistics 37 (1988): PPND16, coefficients from the highest power on, exact
# to about 1e-16. The centre is a ratio in r = 0.180625 - q^2, q = p - 1/2; the tails one in sqrt(-log p).
_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_NEAR = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_CUT, _SHIFT = 0.425, 1.6


class Graph(Protocol):
    """Where nodes and constants are added."""

    def add(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        """A node; its output's name."""
        ...

    def array(self, values: Any) -> str:
        """A constant's name."""
        ...


def normal_places(graph: Graph, x: str, tables: tuple[np.ndarray, np.ndarray, np.ndarray]) -> str:
    """``x (n, Q)`` double -> standard normal quantiles of their places; ``tables`` are those of ``knot_tables``.

    The last knot that is not above x is found by halving: K is filled up to a power of two.
    """
    from onnx import TensorProto

    count, width = tables[0].shape
    size = 1 << (width - 1).bit_length()
    fills = (np.inf, 1.0, 1.0)
    knots, begins, ends = (
        np.pad(table, ((0, 0), (0, size - width)), constant_values=fill).ravel()
        for table, fill in zip(tables, fills, strict=True)
    )
    rows = np.arange(count) * size
    zero = graph.add("Mul", [graph.add("Cast", [x], "/rank/whole", to=TensorProto.INT64), graph.array(0)], "/rank/0")
    at = graph.add("Add", [zero, graph.array(rows)], "/rank/at")
    table, step = graph.array(knots), size // 2
    while step:
        ahead = graph.add("Add", [at, graph.array(step)], f"/rank/ahead/{step}")
        knot = graph.add("Gather", [table, ahead], f"/rank/knot/{step}")
        reached = graph.add("LessOrEqual", [knot, x], f"/rank/reached/{step}")
        at = graph.add("Where", [reached, ahead, at], f"/rank/at/{step}")
        step //= 2
    after = graph.add("Add", [at, graph.array(1)], "/rank/after")
    low, high = (graph.add("Gather", [table, i], f"/rank/{n}") for n, i in (("low", at), ("high", after)))
    start, end = (
        graph.add("Gather", [graph.array(values), i], f"/rank/{n}")
        for n, values, i in (("start", ends, at), ("end", begins, after))
    )
    inside = graph.add(
        "Div",
        [graph.add("Sub", [x, low], "/rank/beyond"), graph.add("Sub", [high, low], "/rank/gap")],
        "/rank/inside",
    )
    grown = graph.add("Mul", [inside, graph.add("Sub", [end, start], "/rank/rise")], "/rank/grown")
    place = graph.add("Add", [start, grown], "/rank/between")
    middle = graph.add("Gather", [graph.array((begins + ends) / 2), at], "/rank/middle")
    place = graph.add("Where", [graph.add("Equal", [x, low], "/rank/equal"), middle, place], "/rank/tied")
    below = graph.add("Less", [x, low], "/rank/below")  # the first knot is above x
    place = graph.add("Where", [below, graph.array(0.0), place], "/rank/place")
    return _normal(graph, place)


def _normal(graph: Graph, place: str) -> str:
    """The standard normal quantile of numbers in [0, 1], within ``NORMAL_BOUND``."""
    tiny = 1e-9  # further out than the bound
    bounded = graph.add("Max", [place, graph.array(tiny)], "/normal/above")
    p = graph.add("Min", [bounded, graph.array(1.0 - tiny)], "/normal/p")
    q = graph.add("Sub", [p, graph.array(0.5)], "/normal/q")
    square = graph.add("Mul", [q, q], "/normal/square")
    r = graph.add("Sub", [graph.array(_CUT**2), square], "/normal/r")
    centre = graph.add("Mul", [q, _ratio(graph, r, _CENTRE, "/normal/centre")], "/normal/centre")
    other = graph.add("Sub", [graph.array(1.0), p], "/normal/other")
    least = graph.add("Min", [p, other], "/normal/least")
    depth = graph.add("Neg", [graph.add("Log", [least], "/normal/log")], "/normal/depth")
    root = graph.add("Sqrt", [depth], "/normal/root")
    moved = graph.add("Sub", [root, graph.array(_SHIFT)], "/normal/moved")
    tail = graph.add(
        "Mul", [_ratio(graph, moved, _NEAR, "/normal/tail"), graph.add("Sign", [q], "/normal/sign")], "/normal/signed"
    )
    inner = graph.add("LessOrEqual", [graph.add("Abs", [q], "/normal/off"), graph.array(_CUT)], "/normal/inner")
    found = graph.add("Where", [inner, centre, tail], "/normal/found")
    floor = graph.add("Max", [found, graph.array(-NORMAL_BOUND)], "/normal/floor")
    return graph.add("Min", [floor, graph.array(NORMAL_BOUND)], "/normal")


def _ratio(graph: Graph, x: str, terms: tuple[tuple[float, ...], tuple[float, ...]], name: str) -> str:
    """A ratio of two polynomials, by Horner's rule."""
    sides = []
    for side, factors in zip(("over", "under"), terms, strict=True):
        made = graph.array(factors[0])
        for power, factor in enumerate(factors[1:]):
            product = graph.add("Mul", [made, x], f"{name}/{side}/{power}/times")
            made = graph.add("Add", [product, graph.array(factor)], f"{name}/{side}/{power}")
        sides.append(made)
    return graph.add("Div", sides, f"{name}/ratio")
