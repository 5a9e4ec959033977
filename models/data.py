"""Training and validation arrays as tensors, with the order in which minibatches visit them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Data:
    """The arrays a trial sees. n training rows, v validation rows, D features.

    x_train ``(n, D)`` and x_val ``(v, D)`` are float32 or float64, already normalised; their dtype is the dtype of
    all arithmetic. y_train ``(n,)`` and y_val ``(v,)`` are int64 class indices (classification) or floats of the same
    dtype as x (regression). w_train ``(n,)`` and w_val ``(v,)``, in the dtype of x, say how much each row counts in
    losses and metrics: they are means of the rows weighted so (None: all count the same). columns ``(D,)`` int64 says
    what each feature is for embeddings (``embedding.py``; None: a number).
    """

    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    w_train: Tensor | None = None
    w_val: Tensor | None = None
    columns: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x_train.ndim != 2 or self.x_val.ndim != 2 or self.x_train.shape[1] != self.x_val.shape[1]:
            raise ValueError("x_train and x_val must be (n, D) and (v, D) with the same D")
        if self.y_train.shape != self.x_train.shape[:1] or self.y_val.shape != self.x_val.shape[:1]:
            raise ValueError("y_train and y_val must be (n,) and (v,), one target per row of x")
        if self.x_train.dtype not in (torch.float32, torch.float64) or self.x_val.dtype != self.x_train.dtype:
            raise ValueError("x_train and x_val must both be float32 or both be float64")
        if self.columns is not None and self.columns.shape != self.x_train.shape[1:]:
            raise ValueError("columns must have one number per feature")
        for name, w, x in (("w_train", self.w_train, self.x_train), ("w_val", self.w_val, self.x_val)):
            if w is not None and (w.shape != x.shape[:1] or w.dtype != x.dtype or not w.sum() > 0 or w.min() < 0):
                raise ValueError(
                    f"{name} must have one number of 0 or more per row, in the dtype of x, not all of them 0"
                )

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Data:
        """The tensors of numpy arrays with this record's field names, of which weights may lack; they are copied."""
        return cls(**{f.name: torch.tensor(arrays[f.name]) for f in fields(cls) if f.name in arrays})

    def to(self, device: torch.device | str) -> Data:
        """The same arrays on another device."""
        named = {name: getattr(self, name) for name in ("x_train", "y_train", "x_val", "y_val", "w_train", "w_val")}
        moved: dict[str, Any] = {name: None if t is None else t.to(device) for name, t in named.items()}
        return replace(self, **moved)


def batch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The permutation ``(n,)`` in which epoch ``epoch`` (from 0) of a trial with ``seed`` visits the training rows.

    Minibatches are consecutive slices of it; the last one may be short. It depends on (n, seed, epoch) alone.
    """
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch * 7919 + 1) % (2**63 - 1))
    return torch.randperm(n, generator=generator)
