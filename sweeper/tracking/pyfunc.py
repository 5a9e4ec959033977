"""What an MLflow model of a winner runs at prediction. A copy lies in the model: it does not import this project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

MODEL_FILE, TABLE_FILE = "model.pt2", "table.json"
FLAGS = {"true": 1.0, "false": 0.0}


class Winner:
    """A network that takes raw columns.

    ``table`` has ``columns`` (the raw columns in order), ``required`` (those the network uses), ``categories`` (for
    each text column its known texts, whose positions are what the network takes), ``missing`` (texts that stand for
    none) and ``outputs`` (the names of the predicted columns).
    """

    def __init__(self, network: Any, table: dict[str, Any]) -> None:
        self.network, self.table = network, table

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per row: the classes' probabilities, or the predicted value in the target's unit.

        ``model_input`` is a data frame with the raw columns in any order; constant ones may be missing.

        Raises:
            ValueError: a column that the network uses is missing, or a cell in it is no number where it has to be.
        """
        frame = pd.DataFrame(model_input)
        missing = [name for name in self.table["required"] if name not in frame]
        if missing:
            raise ValueError(f"the rows have no column {', '.join(map(repr, missing))}")
        matrix = np.full((len(frame), len(self.table["columns"])), np.nan)
        for index, name in enumerate(self.table["columns"]):
            if name in self.table["required"]:
                known = self.table["categories"].get(name)
                matrix[:, index] = encode(frame[name], known, self.table["missing"])
        if not len(frame):
            return pd.DataFrame(np.empty((0, len(self.table["outputs"]))), frame.index, self.table["outputs"])
        with torch.no_grad():
            made = self.network(torch.from_numpy(matrix.astype(np.float32))).numpy()
        return pd.DataFrame(made.reshape(len(frame), -1), frame.index, self.table["outputs"])


def encode(column: pd.Series, categories: list[str] | None, missing: list[str]) -> np.ndarray:
    """Numbers as they are, texts as the positions of their categories; NaN is missing, -1 a text never seen.

    Rows that come as CSV hold numbers and flags as texts; texts in ``missing`` stand for none.
    """
    if categories is None and column.dtype.kind in "biuf":
        return column.to_numpy(dtype=np.float64)
    if categories is None:
        return np.array([number(value, missing) for value in column])
    position = {text: float(index) for index, text in enumerate(categories)}
    known = dict.fromkeys(missing, np.nan) | _as_read(position) | position
    return np.array([np.nan if pd.isna(cell) else known.get(cell, -1.0) for cell in column])


def _as_read(position: dict[str, float]) -> dict[Any, float]:
    """The codes of what a reader of CSV may make of texts: 7.0 of "007", True of "true"."""
    read: dict[Any, float] = {}
    for text, code in position.items():
        if text.lower() in FLAGS:
            read.setdefault(bool(FLAGS[text.lower()]), code)
    for text, code in position.items():
        try:
            value = float(text)
        except ValueError:
            continue
        read[value] = code if value not in read else -1.0  # two texts for one number: nobody knows which
    return read


def number(value: Any, missing: list[str]) -> float:
    """One cell as a number: true is 1, false is 0."""
    if value is None or value is pd.NA:
        return float("nan")
    if not isinstance(value, str):
        return float(value)
    text = value.strip()
    if text in missing:
        return float("nan")
    return FLAGS[text.lower()] if text.lower() in FLAGS else float(text)


def _load_pyfunc(path: str) -> Winner:
    """Called by MLflow with the folder of the model's data."""
    folder = Path(path)
    table = json.loads((folder / TABLE_FILE).read_text(encoding="utf-8"))
    return Winner(torch.export.load(folder / MODEL_FILE).module(), table)
