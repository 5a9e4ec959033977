"""Functions whose parameters depend on a choice: each branch has its own, and the best branch is seldom seen first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BRANCHES = {
    "optimizer": {"choice": ["sgd", "momentum", "adam"]},
    "dropout": {"float": [0.0, 0.9], "when": {"optimizer": ["sgd"]}},
    "label_smoothing": {"float": [0.0, 0.9], "when": {"optimizer": ["sgd"]}},
    "momentum": {"float": [0.0, 0.99], "when": {"optimizer": ["momentum"]}},
    "clip_norm": {"float": [0.01, 10.0], "log": True, "when": {"optimizer": ["momentum"]}},
    "beta1": {"float": [0.0, 0.99], "when": {"optimizer": ["adam"]}},
    "beta2": {"float": [0.0, 0.99], "when": {"optimizer": ["adam"]}},
    "ema_decay": {"float": [0.0, 0.99], "when": {"optimizer": ["adam"]}},
}
SHARED = {
    "learning_rate": {"float": [1e-5, 1.0], "log": True},
    "weight_decay": {"float": [0.0, 1.0]},
    **BRANCHES,
}


def three_branches(p: Mapping[str, Any]) -> float:
    """Three branches with two or three parameters of their own; the best is a narrow bowl with a bad average."""
    if p["optimizer"] == "sgd":
        return 0.3 + (p["dropout"] - 0.2) ** 2 + (p["label_smoothing"] - 0.6) ** 2
    if p["optimizer"] == "momentum":
        return 4 * (p["momentum"] - 0.8) ** 2 + 0.5 * _decades(p["clip_norm"], 1.0) ** 2
    return 0.15 + 2 * ((p["beta1"] - 0.7) ** 2 + (p["beta2"] - 0.3) ** 2 + (p["ema_decay"] - 0.5) ** 2)


def shared_and_branches(p: Mapping[str, Any]) -> float:
    """The same with two parameters that all branches share, the best of one of which depends on the branch."""
    centre = {"sgd": 1e-1, "momentum": 1e-2, "adam": 1e-3}[p["optimizer"]]
    shared = 0.3 * _decades(p["learning_rate"], centre) ** 2 + (p["weight_decay"] - 0.3) ** 2
    return three_branches(p) + shared


def _decades(value: float, centre: float) -> float:
    from math import log10

    return log10(value / centre)
