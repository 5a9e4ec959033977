"""The winner with its preprocessing as an ONNX model, which runs without Python, torch and this project.

Names of dimensions: n rows, F columns that the network uses, D inputs, C classes. The graph is that of
``tracking_model.RawNetwork``: preprocessing in float64, the network in float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.data.recipe import MISSING_TEXT, NUMBER, UNKNOWN, CodedRule, knot_tables
from sweeper.export.onnx_embeddings import embedded
from sweeper.export.onnx_places import normal_places

if TYPE_CHECKING:
    from sweeper.data.dataset import Dataset
    from sweeper.training.averaging import Part, TrialModel

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8  # old enough for every runtime in use


def is_available() -> bool:
    """Whether the package ``onnx`` is installed."""
    return find_spec("onnx") is not None


def onnx_model(winner: TrialModel, about: Mapping[str, str]) -> bytes:
    """The model's file. Inputs are the columns by name, ``(n, 1)`` each: double (NaN is missing) or string ("" is).

    A classifier has the outputs ``label (n,)`` and ``probabilities (n, C)``, a regression ``value (n,)`` in the
    target's unit. ``about`` becomes metadata of the model.
    """
    import onnx
    from onnx import helper

    graph, dataset = _Graph(), winner.dataset
    made = _outputs(graph, winner, _inputs(graph, dataset))
    if dataset.class_names is None:
        graph.add("Squeeze", [made, graph.array(np.array([1]))], "one_column")
        graph.add("Mul", ["one_column", graph.array(np.float32(dataset.target_std))], "scaled")
        graph.add("Add", ["scaled", graph.array(np.float32(dataset.target_mean))], "value")
        graph.outputs.append(helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, ["n"]))
    else:
        graph.add("Softmax", [made], "probabilities", axis=1)
        graph.add("ArgMax", ["probabilities"], "index", axis=1, keepdims=0)
        graph.add("Gather", [graph.array(np.array(dataset.class_names, dtype=object)), "index"], "label")
        shape: list[str | int | None] = ["n", len(dataset.class_names)]
        graph.outputs.append(helper.make_tensor_value_info("label", onnx.TensorProto.STRING, ["n"]))
        graph.outputs.append(helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, shape))
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph.made(), opset_imports=opsets, ir_version=IR_VERSION)
    model.producer_name, model.producer_version = "sweeper", version("sweeper")
    helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


class _Graph:
    """Nodes in order, with names for constants. Names of our own begin with ``/``, which no column's has to."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain or None, **attributes))
        return output

    def array(self, values: Any) -> str:
        """A constant's name."""
        from onnx import numpy_helper

        name = f"/constant/{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def made(self) -> Any:
        from onnx import helper

        return helper.make_graph(self.nodes, "sweeper winner", self.inputs, self.outputs, self.constants)


def _inputs(graph: _Graph, dataset: Dataset) -> str:
    """Raw columns to the network's inputs: ``(n, 1)`` each -> ``(n, D)`` float32."""
    from onnx import TensorProto, helper

    known, rules = dataset.recipe.categories(), dataset.recipe.coded
    used = list(dict.fromkeys(rule.column for rule in rules))
    columns = []
    for i, name in enumerate(used):
        kind = TensorProto.STRING if name in known else TensorProto.DOUBLE
        graph.inputs.append(helper.make_tensor_value_info(name, kind, ["n", 1]))
        columns.append(_codes(graph, name, known[name], f"/column/{i}") if name in known else name)
    graph.add("Concat", columns, "/columns", axis=1)
    positions = np.array([used.index(rule.column) for rule in rules])
    graph.add("Gather", ["/columns", graph.array(positions)], "/values", axis=1)
    graph.add("IsNaN", ["/values"], "/missing")
    graph.add("Where", ["/missing", graph.array(_column(rules, "fill")), "/values"], "/filled")
    made, code = _numbers(graph, rules), _column(rules, "code")
    if (code != NUMBER).any():
        graph.add("Equal", ["/filled", graph.array(code)], "/equal")
        graph.add("Cast", ["/equal"], "/flags", to=TensorProto.DOUBLE)
        made = graph.add("Where", [graph.array(code == NUMBER), made, "/flags"], "/prepared")
    return graph.add("Cast", [made], "/inputs", to=TensorProto.FLOAT)


def _column(rules: Sequence[CodedRule], name: str) -> np.ndarray:
    return np.array([getattr(rule, name) for rule in rules])


def _numbers(graph: _Graph, rules: Sequence[CodedRule]) -> str:
    """``/filled (n, D)`` through the steps of numbers (``sweeper.data.recipe``), those that any input needs."""
    graph.add("Sub", ["/filled", graph.array(_column(rules, "offset"))], "/moved")
    made = graph.add("Div", ["/moved", graph.array(_column(rules, "scale"))], "/scaled")
    limit = _column(rules, "limit")
    if np.isfinite(limit).any():
        graph.add("Div", [made, graph.array(limit)], "/share")
        graph.add("Mul", ["/share", "/share"], "/square")
        graph.add("Add", ["/square", graph.array(1.0)], "/more")
        made = graph.add("Div", [made, graph.add("Sqrt", ["/more"], "/root")], "/limited")
    low, high = _column(rules, "low"), _column(rules, "high")
    if np.isfinite(low).any() or np.isfinite(high).any():
        graph.add("Max", [made, graph.array(low)], "/above")
        made = graph.add("Min", ["/above", graph.array(high)], "/clipped")
    ranked = [rule.quantiles for rule in rules if rule.quantiles]
    if ranked:
        positions = np.flatnonzero([bool(rule.quantiles) for rule in rules])
        graph.add("Gather", ["/filled", graph.array(positions)], "/ranked", axis=1)
        normal = normal_places(graph, "/ranked", knot_tables(ranked))
        order = np.arange(len(rules))
        order[positions] = len(rules) + np.arange(len(positions))
        graph.add("Concat", [made, normal], "/both", axis=1)
        made = graph.add("Gather", ["/both", graph.array(order)], "/numbers", axis=1)
    return made


def _codes(graph: _Graph, name: str, texts: list[str], prefix: str) -> str:
    """A text column as the positions of its categories; missing texts are a category of their own, if known."""
    from onnx import TensorProto

    from sweeper.data.numerals import MISSING

    codes = {text: float(i) for i, text in enumerate(texts)}
    missing = codes.get(MISSING_TEXT, UNKNOWN)
    codes |= {text: missing for text in MISSING if text not in codes}
    keys = {"keys_strings": list(codes), "values_floats": list(codes.values()), "default_float": UNKNOWN}
    graph.add("LabelEncoder", [name], f"{prefix}/code", domain="ai.onnx.ml", **keys)
    return graph.add("Cast", [f"{prefix}/code"], f"{prefix}/double", to=TensorProto.DOUBLE)


def _outputs(graph: _Graph, winner: TrialModel, x: str) -> str:
    """``(n, D) -> (n, C)`` logits, or standardised values ``(n, 1)``: the sum of the parts."""
    if winner.single:
        return _network(graph, winner.parts[0], x, "")
    made = []
    for number, part in enumerate(winner.parts):
        ends = [graph.array(np.array([end])) for end in (part.start, part.stop, 1)]
        own = graph.add("Slice", [x, *ends], f"/inputs/{number}")
        outputs = _network(graph, part, own, f"/network/{number}")
        made.append(graph.add("Mul", [outputs, graph.array(np.float32(part.share))], f"/share/{number}"))
    return graph.add("Sum", made, "/outputs")


def _network(graph: _Graph, part: Part, x: str, prefix: str) -> str:
    """One network: its own inputs to its outputs."""
    own = {name: np.asarray(array, dtype=np.float32) for name, array in part.weights.items()}
    layers = sorted(
        {int(name.partition(".")[0]) for name, array in own.items() if name[0].isdigit() and array.ndim == 2}
    )
    if part.layout is not None:
        x = embedded(graph, part.layout, own, x, f"{prefix}/embedding")
    ntk = part.config.parametrization == "ntk"
    for depth, layer in enumerate(layers):
        weight, before = own[f"{layer}.weight"], x
        weight = weight / np.float32(math.sqrt(weight.shape[1])) if ntk else weight
        parts = [graph.array(weight), graph.array(own[f"{layer}.bias"])]
        x = graph.add("Gemm", [x, *parts], f"{prefix}/layer/{depth}", transB=1)
        if layer != layers[-1]:
            x = _normalized(graph, own, layer + 1, x, f"{prefix}/norm/{depth}")
            x = _activation(graph, part.config.activation, x, f"{prefix}/activation/{depth}")
            if part.config.residual and depth > 0 and weight.shape[0] == weight.shape[1]:
                x = graph.add("Add", [x, before], f"{prefix}/sum/{depth}")
    return x


def _normalized(graph: _Graph, own: Mapping[str, np.ndarray], place: int, x: str, out: str) -> str:
    """The normalisation at ``place`` of a network's modules, if there is one, with its running statistics."""
    names = ("weight", "bias", "running_mean", "running_var")
    parts = [graph.array(own[f"{place}.{name}"]) for name in names if f"{place}.{name}" in own]
    if not parts:
        return x
    if len(parts) == len(names):
        return graph.add("BatchNormalization", [x, *parts], out, epsilon=1e-5)
    return graph.add("LayerNormalization", [x, *parts], out, axis=-1, epsilon=1e-5)


def _activation(graph: _Graph, kind: str, x: str, out: str) -> str:
    """The activation as torch computes it."""
    simple: dict[str, tuple[str, dict[str, Any]]] = {
        "relu": ("Relu", {}),
        "tanh": ("Tanh", {}),
        "sigmoid": ("Sigmoid", {}),
        "leaky_relu": ("LeakyRelu", {"alpha": 0.01}),
        "elu": ("Elu", {"alpha": 1.0}),
        "selu": ("Selu", {}),
    }
    if kind in simple:
        operator, attributes = simple[kind]
        return graph.add(operator, [x], out, **attributes)
    if kind == "silu":
        return graph.add("Mul", [x, graph.add("Sigmoid", [x], f"{out}/gate")], out)
    if kind == "mish":
        gate = graph.add("Tanh", [graph.add("Softplus", [x], f"{out}/softplus")], f"{out}/gate")
        return graph.add("Mul", [x, gate], out)
    if kind == "gelu":  # x/2 * (1 + erf(x / sqrt 2))
        graph.add("Mul", [x, graph.array(np.float32(math.sqrt(0.5)))], f"{out}/scaled")
        graph.add("Erf", [f"{out}/scaled"], f"{out}/erf")
        graph.add("Add", [f"{out}/erf", graph.array(np.float32(1.0))], f"{out}/gate")
        graph.add("Mul", [x, graph.array(np.float32(0.5))], f"{out}/half")
        return graph.add("Mul", [f"{out}/half", f"{out}/gate"], out)
    raise NotImplementedError(f"the activation {kind} in ONNX")


def metadata(dataset: Dataset, sweep: str, trial: int) -> dict[str, str]:
    """Where the model comes from and what it predicts."""
    classes = {} if dataset.class_names is None else {"classes": json.dumps(list(dataset.class_names))}
    return {"sweep": sweep, "trial": str(trial), "target": dataset.target_name, "task": dataset.task, **classes}
