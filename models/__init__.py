"""Multilayer perceptrons and the ways to train them: one by one, or many side by side. Needs torch only.

Names are loaded when they are first asked for: records and sizes come without torch, which takes a second to import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.models.cohort import Cohort, RowReport
    from sweeper.models.config import ACTIVATIONS, INITIALIZATIONS, OPTIMIZERS, PlateauConfig, TrainConfig, TrialConfig
    from sweeper.models.data import Data, batch_order
    from sweeper.models.history import History
    from sweeper.models.mlp import build_mlp, count_outputs, predict_probabilities
    from sweeper.models.sizes import n_parameters, preferred_rows, rows_that_fit
    from sweeper.models.solo import train_solo
    from sweeper.models.train import train_cohort

_HOMES = {
    "cohort": ("Cohort", "RowReport"),
    "config": ("ACTIVATIONS", "INITIALIZATIONS", "OPTIMIZERS", "PlateauConfig", "TrainConfig", "TrialConfig"),
    "data": ("Data", "batch_order"),
    "history": ("History",),
    "mlp": ("build_mlp", "count_outputs", "predict_probabilities"),
    "sizes": ("n_parameters", "preferred_rows", "rows_that_fit"),
    "solo": ("train_solo",),
    "train": ("train_cohort",),
}

__all__ = [
    "ACTIVATIONS",
    "INITIALIZATIONS",
    "OPTIMIZERS",
    "Cohort",
    "Data",
    "History",
    "PlateauConfig",
    "RowReport",
    "TrainConfig",
    "TrialConfig",
    "batch_order",
    "build_mlp",
    "count_outputs",
    "n_parameters",
    "predict_probabilities",
    "preferred_rows",
    "rows_that_fit",
    "train_cohort",
    "train_solo",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module 'sweeper.models' has no attribute {name!r}")
