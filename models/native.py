"""The fast training path on a CPU: a compiled epoch in which each row trains alone in the core's cache."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int64, c_void_p
from dataclasses import fields

import torch
from torch import Tensor

from sweeper.models.compiled import REBUILD, libraries
from sweeper.models.config import ACTIVATIONS, OPTIMIZERS, Task, TrialConfig
from sweeper.models.data import Data
from sweeper.models.gradient_flow import Flow
from sweeper.models.rows import EpochSums, Rows

COLUMNS = (
    *("lr", "wd_coupled", "wd_decoupled", "b1", "cg", "b2", "s", "eps", "nesterov", "clip", "corrected"),
    "dropout",
)
NATIVE_ACTIVATIONS, NATIVE_OPTIMIZERS = ACTIVATIONS[:7], OPTIMIZERS[:5]  # of the rest the compiled code knows nothing


class _Job(ctypes.Structure):
    """``Job`` of native.cpp, field by field."""

    _fields_ = (
        *((name, c_int64) for name in ("linears", "batch", "train", "val", "classify", "active", "stride")),
        *((name, c_int64) for name in ("threads", "workspace_bytes")),
        *((name, c_void_p) for name in ("sizes", "slots", "orders", "x_train", "y_train", "x_val", "y_val")),
        *((name, c_void_p) for name in ("w_train", "w_val")),
        *((name, c_void_p) for name in ("theta", "m", "v", "workspace")),
        *((name, c_void_p) for name in COLUMNS),
        *((name, c_void_p) for name in ("t", "activation", "seed", *EpochSums._fields)),
        *((name, c_void_p) for name in ("measured", "flow", "clip_rate", "outputs")),
    )


class NativePath:
    """Trains rows one after another, or on several threads, in compiled code; the numbers are the same.

    ``threads`` defaults to torch's number of threads.

    Raises:
        RuntimeError: the compiled code is not there, see ``available``.
    """

    name = "native"

    def __init__(
        self, task: Task, batch_size: int, data: Data, sizes: tuple[int, ...], width: int, *, threads: int | None = None
    ) -> None:
        library = next(iter(variants().values()), None)
        if library is None:
            raise RuntimeError(f"the compiled training code is not built: {REBUILD}")
        self.task, self.batch_size, self.width = task, batch_size, width
        self.threads = max(1, min(threads or torch.get_num_threads(), width))
        suffix = "f32" if data.x_train.dtype == torch.float32 else "f64"
        self._run = getattr(library, f"cohort_epoch_{suffix}")
        tensors = {field.name: getattr(data, field.name) for field in fields(data)}
        self._data = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
        self._sizes = torch.tensor(sizes)
        self._bytes = getattr(library, f"cohort_workspace_{suffix}")(len(sizes) - 1, self._sizes.data_ptr())
        self._workspace = torch.zeros(self.threads * self._bytes + 64, dtype=torch.uint8)

    @classmethod
    def available(cls, device: torch.device | str) -> bool:
        """Whether this installation has the compiled code, and ``device`` is a CPU."""
        return torch.device(device).type == "cpu" and bool(variants())

    @classmethod
    def trains(cls, config: TrialConfig) -> bool:
        """Layers, optimizers and learning rates that the compiled code knows."""
        return (
            config.normalized == "none"
            and config.activation in NATIVE_ACTIVATIONS
            and config.optimizer in NATIVE_OPTIMIZERS
            and config.schedule in (None, "constant", "plateau")
            and not (config.warmup_epochs or config.label_smoothing or config.ema_decay)
        )

    def epoch(
        self, rows: Rows, active: Tensor, orders: Tensor, flow: Flow | None = None, outputs: Tensor | None = None
    ) -> EpochSums:
        """See ``TrainingPath.epoch``."""
        slots, orders = active.contiguous(), orders.contiguous()
        sums = EpochSums(*torch.empty(len(EpochSums._fields), len(slots), dtype=torch.float64))
        tensors = self._data | sums._asdict()
        tensors |= {name: getattr(rows, name) for name in ("theta", "m", "v", *COLUMNS, "t", "activation", "seed")}
        tensors |= {"sizes": self._sizes, "slots": slots, "orders": orders}
        if flow is not None:
            tensors |= {"measured": flow.wanted, "flow": flow.layers, "clip_rate": flow.clip_rate}
        if outputs is not None:
            tensors["outputs"] = outputs
        job = _Job(
            linears=len(self._sizes) - 1,
            batch=self.batch_size,
            train=self._data["x_train"].shape[0],
            val=self._data["x_val"].shape[0],
            classify=self.task == "classification",
            active=len(slots),
            stride=rows.theta.stride(0),
            threads=self.threads,
            workspace_bytes=self._bytes,
            workspace=-(-self._workspace.data_ptr() // 64) * 64,
            **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        )
        self._run(ctypes.byref(job))
        return sums


def variants() -> dict[str, ctypes.CDLL]:
    """The built variants that this processor runs, the best first, by module name.

    Raises:
        StaleBuildError: one of them was built from other sources.
    """
    for library in (found := libraries()).values():
        for dtype in ("f32", "f64"):
            getattr(library, f"cohort_epoch_{dtype}").argtypes = [POINTER(_Job)]
            getattr(library, f"cohort_epoch_{dtype}").restype = None
            workspace = getattr(library, f"cohort_workspace_{dtype}")
            workspace.argtypes, workspace.restype = [c_int64, c_void_p], c_int64
    return found
