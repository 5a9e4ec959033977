"""What an MLflow model of a winner runs at prediction. A copy lies in the model: it does not import this project.

Beside it lies a copy of ``data.numerals``, which reads the numbers among texts.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

MODEL_FILE, TABLE_FILE = "model.pt2", "table.json"
NUMERALS = "sweeper_numerals"  # the name of the copy of data.numerals
FLAGS = {"true": 1.0, "false": 0.0}

ReadNumber = Callable[[Any], float]


class Winner:
    """A network that takes raw columns.

    ``table`` has ``columns`` (the raw columns in order), ``required`` (those the network uses), ``categories`` (for
    each text column its known texts, whose positions are what the network takes), ``missing`` (texts that stand for
    none) and ``outputs`` (the names of the predicted columns). ``readers`` read the cells of the columns of numbers.
    """

    def __init__(self, network: Any, table: dict[str, Any], readers: dict[str, ReadNumber]) -> None:
        self.network, self.table, self.readers = network, table, readers

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
                if name in self.readers:
                    matrix[:, index] = numbers(frame[name], self.readers[name])
                else:
                    matrix[:, index] = codes(frame[name], self.table["categories"][name], self.table["missing"])
        if not len(frame):
            return pd.DataFrame(np.empty((0, len(self.table["outputs"]))), frame.index, self.table["outputs"])
        with torch.no_grad():
            made = self.network(torch.from_numpy(matrix.astype(np.float32))).numpy()
        return pd.DataFrame(made.reshape(len(frame), -1), frame.index, self.table["outputs"])


def numbers(column: pd.Series, read: ReadNumber) -> np.ndarray:
    """A column as float64; NaN is missing. Rows that come as CSV hold numbers and flags as texts.

    Raises:
        ValueError: a cell is no number; with the column and the row, from 1.
    """
    if column.dtype.kind in "biuf":
        return column.to_numpy(dtype=np.float64)
    made = np.empty(len(column))
    for row, cell in enumerate(column):
        try:
            made[row] = read(cell)
        except (ValueError, TypeError) as error:
            raise ValueError(f"column {column.name!r}, row {row + 1}: {error}") from error
    return made


def codes(column: pd.Series, categories: list[str], missing: list[str]) -> np.ndarray:
    """Texts as the positions of their categories; NaN is missing, as are texts in ``missing``, -1 one never seen."""
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


def readers_of(table: dict[str, Any], numerals: Any) -> dict[str, ReadNumber]:
    """What reads the cells of each column of numbers; ``numerals`` is the module or its copy."""
    written = numerals.from_json(table["written"])
    names = [name for name in table["required"] if name not in table["categories"]]
    return {name: partial(numerals.read_number, writing=written.get(name, numerals.PLAIN)) for name in names}


def _load_pyfunc(path: str) -> Winner:
    """Called by MLflow with the folder of the model's data."""
    folder = Path(path)
    table = json.loads((folder / TABLE_FILE).read_text(encoding="utf-8"))
    readers = readers_of(table, importlib.import_module(NUMERALS))
    return Winner(torch.export.load(folder / MODEL_FILE).module(), table, readers)
