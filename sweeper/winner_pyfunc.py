"""What an MLflow model of a winner runs at prediction. A copy lies in the model: it imports nothing of ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

MODEL_FILE, TABLE_FILE = "model.pt2", "table.json"


class Winner:
    """A network that takes raw columns.

    ``table`` has ``columns`` (the raw columns in order), ``categories`` (for each text column its known texts, whose
    positions are what the network takes) and ``outputs`` (the names of the predicted columns).
    """

    def __init__(self, network: Any, table: dict[str, Any]) -> None:
        self.network, self.table = network, table

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per row: the classes' probabilities, or the predicted value in the target's unit.

        ``model_input`` is a data frame with the raw columns in any order; constant ones may be missing.
        """
        frame = pd.DataFrame(model_input)
        matrix = np.full((len(frame), len(self.table["columns"])), np.nan)
        for index, name in enumerate(self.table["columns"]):
            if name in frame:
                matrix[:, index] = encode(frame[name], self.table["categories"].get(name))
        if not len(frame):
            return pd.DataFrame(np.empty((0, len(self.table["outputs"]))), frame.index, self.table["outputs"])
        with torch.no_grad():
            made = self.network(torch.from_numpy(matrix.astype(np.float32))).numpy()
        return pd.DataFrame(made.reshape(len(frame), -1), frame.index, self.table["outputs"])


def encode(column: pd.Series, categories: list[str] | None) -> np.ndarray:
    """Numbers as they are, texts as the positions of their categories; NaN is missing, -1 a text never seen."""
    if categories is None:
        return column.astype(np.float64).to_numpy()
    position = {text: float(index) for index, text in enumerate(categories)}
    return np.array([np.nan if pd.isna(text) else position.get(str(text), -1.0) for text in column])


def _load_pyfunc(path: str) -> Winner:
    """Called by MLflow with the folder of the model's data."""
    folder = Path(path)
    table = json.loads((folder / TABLE_FILE).read_text(encoding="utf-8"))
    return Winner(torch.export.load(folder / MODEL_FILE).module(), table)
