"""Multilayer perceptrons and the ways to train them: one by one, or many side by side. Needs torch only."""

from models.cohort import Cohort, RowReport, train_cohort
from models.config import ACTIVATIONS, INITIALIZATIONS, OPTIMIZERS, PlateauConfig, TrainConfig, TrialConfig
from models.data import Data, batch_order
from models.history import History
from models.mlp import build_mlp, count_outputs, predict_probabilities
from models.rows import n_parameters, preferred_rows, rows_that_fit
from models.solo import train_solo

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
