"""Hyperparameter sweeps for MLPs: fused cohorts on Ray, Optuna search, a SQL ledger, every trial in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.api import Result as Result
    from sweeper.api import load as load
    from sweeper.api import run as run

__all__ = ["Result", "load", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the API on first use, so that the command line starts without it."""
    if name in __all__:
        from sweeper import api

        return getattr(api, name)
    raise AttributeError(f"module 'sweeper' has no attribute {name!r}")
