"""The layer that embeds numbers and categories in ONNX, as ``sweeper.models.embeddings`` has it.

Names of dimensions: n rows, D inputs, N numbers of them, k frequencies, F waves, E outputs of each number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sweeper.export.onnx_places import Graph

if TYPE_CHECKING:
    from sweeper.models.embedding import EmbeddingLayout


def embedded(graph: Graph, layout: EmbeddingLayout, weights: Mapping[str, np.ndarray], x: str, prefix: str) -> str:
    """``x (n, D)`` float -> ``(n, width)``; the weights' names begin with ``embedding.``."""
    own = {name.removeprefix("embedding."): array for name, array in weights.items()}
    parts = []
    if layout.numbers:
        values = graph.add("Gather", [x, graph.array(np.array(layout.numbers))], f"{prefix}/numbers", axis=1)
        parts.append(_numbers(graph, layout, own, values, f"{prefix}/numbers"))
    if layout.passed:
        parts.append(graph.add("Gather", [x, graph.array(np.array(layout.passed))], f"{prefix}/passed", axis=1))
    for i, (start, stop) in enumerate(layout.categories):
        ends = [graph.array(np.array([end])) for end in (start, stop, 1)]
        flags = graph.add("Slice", [x, *ends], f"{prefix}/flags/{i}")
        table = graph.array(own[f"categories.{i}"])
        parts.append(graph.add("MatMul", [flags, table], f"{prefix}/categories/{i}"))
    return graph.add("Concat", parts, prefix, axis=1)


def _numbers(graph: Graph, layout: EmbeddingLayout, own: Mapping[str, np.ndarray], values: str, prefix: str) -> str:
    """The numbers ``values (n, N)`` -> ``(n, N E)``."""
    last = graph.array(np.array([2]))
    x = graph.add("Unsqueeze", [values, last], f"{prefix}/each")  # (n, N, 1)
    angle = graph.add("Mul", [x, graph.array(np.float32(2.0 * np.pi) * own["frequencies"])], f"{prefix}/angle")
    if layout.kind == "pbld":
        angle = graph.add("Add", [angle, graph.array(own["phases"])], f"{prefix}/moved")
    waves = graph.add("Cos", [angle], f"{prefix}/cos")
    if layout.kind == "plr":
        sines = graph.add("Sin", [angle], f"{prefix}/sin")
        waves = graph.add("Concat", [waves, sines], f"{prefix}/waves", axis=2)  # (n, N, F)
    rows = graph.add("Unsqueeze", [waves, last], f"{prefix}/rows")  # (n, N, 1, F)
    weight = graph.array(np.ascontiguousarray(own["weight"].transpose(0, 2, 1)))  # (N, F, E)
    product = graph.add("MatMul", [rows, weight], f"{prefix}/product")
    made = graph.add("Squeeze", [product, last], f"{prefix}/linear")
    made = graph.add("Add", [made, graph.array(own["bias"])], f"{prefix}/biased")
    if layout.kind == "pbld":
        made = graph.add("Concat", [x, made], f"{prefix}/dense", axis=2)
    else:
        made = graph.add("Relu", [made], f"{prefix}/relu")
    return graph.add("Reshape", [made, graph.array(np.array([-1, layout.embedded]))], f"{prefix}/flat")
