"""LCBench's neural networks as a function: the surrogate of YAHPO Gym, 34 tables, seven hyperparameters, 52 epochs.

Pfisterer et al. 2022, "YAHPO Gym", arXiv:2109.03670; the networks are those of Zimmer et al. 2021, arXiv:2006.13799.
Its folder is that of the environment variable ``YAHPO_LCBENCH``, else ``../shared/data/yahpo-lcbench`` beside the
checkout.

Names of dimensions: N points, T epochs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VARIABLE = "YAHPO_LCBENCH"
BESIDE = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "yahpo-lcbench"
EPOCHS = 52
ACCURACY = 1  # of the model's outputs: seconds, validation accuracy in percent, and four more
SPACE: dict[str, dict[str, Any]] = {
    "batch_size": {"int": [16, 512], "log": True},
    "learning_rate": {"float": [1e-4, 1e-1], "log": True},
    "momentum": {"float": [0.1, 0.99]},
    "weight_decay": {"float": [1e-5, 1e-1]},
    "depth": {"int": [1, 5]},
    "width": {"int": [64, 1024], "log": True},
    "dropout": {"float": [0.0, 0.99]},
}
"""LCBench's own space; in the order of the model's inputs, which an epoch comes before."""


class Missing(Exception):
    """The surrogate's files are not there."""


def folder() -> Path:
    """Where the surrogate lies.

    Raises:
        Missing: nowhere.
    """
    found = Path(os.environ.get(VARIABLE, BESIDE))
    if not (found / "model.onnx").is_file():
        raise Missing(f"{found} has no model.onnx: set {VARIABLE} to the folder of YAHPO Gym's lcbench")
    return found


class Surrogate:
    """Validation errors in percent of networks that were never trained, on one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def tasks(self) -> list[str]:
        """The OpenML tasks, by name."""
        space = json.loads((self._path / "config_space.json").read_text(encoding="utf-8"))
        return sorted(space["hyperparameters"][0]["choices"], key=int)

    def curves(self, task: str, points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """(N, T) the error of each point after each epoch."""
        epochs = np.tile(np.arange(1, EPOCHS + 1), len(points))
        return self._errors(task, epochs, np.repeat(_inputs(points), EPOCHS, axis=0)).reshape(-1, EPOCHS)

    def errors(self, task: str, points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """(N,) the error of each point after the last epoch."""
        return self._errors(task, np.full(len(points), EPOCHS), _inputs(points))

    def _errors(self, task: str, epochs: NDArray[np.int64], inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        numbers = np.column_stack([epochs, inputs]).astype(np.float32)
        codes = np.full((len(numbers), 1), self._codes[task], np.int32)
        made = self._session.run(None, {"x_cat": codes, "x_cont": numbers})[0]
        return 100.0 - np.clip(made[:, ACCURACY].astype(np.float64), 0.0, 100.0)

    @cached_property
    def _codes(self) -> dict[str, int]:
        return json.loads((self._path / "encoding.json").read_text(encoding="utf-8"))["OpenML_task_id"]

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(self._path / "model.onnx", options, providers=["CPUExecutionProvider"])


def _inputs(points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    return np.array([[point[name] for name in SPACE] for point in points], np.float64)
