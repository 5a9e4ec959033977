"""The fast training path on a CPU: a compiled epoch in which each row trains alone in the core's cache."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_int64, c_void_p
from dataclasses import fields

import torch
from torch import Tensor

from sweeper.models.compiled import REBUILD, libraries, trains
from sweeper.models.config import NORMALIZATIONS, OPTIMIZERS, Task, TrialConfig
from sweeper.models.data import Data
from sweeper.models.embedding import KINDS, EmbeddingLayout
from sweeper.models.gradient_flow import Flow
from sweeper.models.rows import EpochSums, Rows
from sweeper.models.schedules import STEADY
from sweeper.models.update import nadam_shares, rates

COLUMNS = (
    *("lr", "wd_coupled", "wd_decoupled", "b1", "cg", "b2", "s", "eps", "nesterov", "clip", "corrected"),
    *("dropout", "smoothing", "ema", "residual", "ntk"),
)
CATEGORIES_ALONE = len(KINDS)  # a kind of embedding to the compiled code: numbers are none of its business


class _Job(ctypes.Structure):
    """``Job`` of native.cpp, field by field."""

    _fields_ = (
        *((name, c_int64) for name in ("linears", "normalization", "batch", "train", "val", "steps", "classify")),
        *((name, c_int64) for name in ("active", "stride", "threads", "workspace_bytes")),
        *((name, c_int64) for name in ("inputs", "embedding", "frequencies", "embedding_size", "category_size")),
        *((name, c_int64) for name in ("n_numbers", "n_passed", "n_columns")),
        *((name, c_void_p) for name in ("numbers", "passed", "categories")),
        *((name, c_void_p) for name in ("sizes", "slots", "orders", "x_train", "y_train", "x_val", "y_val")),
        *((name, c_void_p) for name in ("w_train", "w_val")),
        *((name, c_void_p) for name in ("theta", "m", "v", "average", "workspace")),
        *((name, c_void_p) for name in COLUMNS),
        *((name, c_void_p) for name in ("rates", "share_d", "share_m")),
        *((name, c_void_p) for name in ("t", "activation", "optimizer", "seed", *EpochSums._fields)),
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
        self._bytes_for = getattr(library, f"cohort_workspace_{suffix}")
        tensors = {field.name: getattr(data, field.name) for field in fields(data) if field.name != "columns"}
        self._data = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
        self._sizes = torch.tensor(sizes)
        self._workspace, self._per_thread = torch.empty(0, dtype=torch.uint8), 0  # until the first epoch

    @classmethod
    def available(cls, device: torch.device | str) -> bool:
        """Whether this installation has the compiled code, and ``device`` is a CPU."""
        return torch.device(device).type == "cpu" and bool(variants())

    @classmethod
    def trains(cls, config: TrialConfig) -> bool:
        """See ``compiled.trains``, which a driver without torch asks."""
        return trains(config)

    def epoch(
        self, rows: Rows, active: Tensor, orders: Tensor, flow: Flow | None = None, outputs: Tensor | None = None
    ) -> EpochSums:
        """See ``TrainingPath.epoch``."""
        slots, orders = active.contiguous(), orders.contiguous()
        sums = EpochSums(*torch.empty(len(EpochSums._fields), len(slots), dtype=torch.float64))
        train = self._data["x_train"].shape[0]
        steps = -(-train // self.batch_size)
        tensors = self._data | sums._asdict() | _per_step(rows, slots, steps)
        tensors |= {name: getattr(rows, name) for name in ("theta", "m", "v", *COLUMNS)}
        tensors |= {name: getattr(rows, name) for name in ("t", "activation", "optimizer", "seed")}
        tensors |= {"sizes": self._sizes, "slots": slots, "orders": orders}
        if rows.average is not None:
            tensors["average"] = rows.average
        if flow is not None:
            tensors |= {"measured": flow.wanted, "flow": flow.layers, "clip_rate": flow.clip_rate}
        if outputs is not None:
            tensors["outputs"] = outputs
        embedding, positions = _embedding(rows.layout)
        tensors |= positions
        job = _Job(
            **embedding,
            linears=len(self._sizes) - 1,
            normalization=NORMALIZATIONS.index(rows.normalization),
            batch=self.batch_size,
            train=train,
            val=self._data["x_val"].shape[0],
            steps=steps,
            classify=self.task == "classification",
            active=len(slots),
            inputs=self._data["x_train"].shape[1],
            stride=rows.theta.stride(0),
            threads=self.threads,
            **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        )
        job.workspace_bytes = self._bytes_for(ctypes.byref(job))
        job.workspace = self._room(job.workspace_bytes)
        self._run(ctypes.byref(job))
        return sums

    def _room(self, per_thread: int) -> int:
        """The address of the threads' memory, zeros at first, which begins on a boundary of 64 bytes."""
        if per_thread != self._per_thread:
            self._per_thread = per_thread
            self._workspace = torch.zeros(self.threads * per_thread + 64, dtype=torch.uint8)
        return -(-self._workspace.data_ptr() // 64) * 64


def _embedding(layout: EmbeddingLayout | None) -> tuple[dict[str, int], dict[str, Tensor]]:
    """The numbers and the positions of inputs that describe an embedding; nothing without one."""
    if layout is None:
        return {}, {}
    own = layout.embedding
    numbers = {
        "embedding": KINDS.index(own.kind) or CATEGORIES_ALONE,
        **{"frequencies": own.frequencies, "embedding_size": own.size, "category_size": own.category_size},
        **{"n_numbers": len(layout.numbers), "n_passed": len(layout.passed), "n_columns": len(layout.categories)},
    }
    positions = {name: torch.tensor(getattr(layout, name)) for name in ("numbers", "passed", "categories")}
    return numbers, {name: tensor.to(torch.int64) for name, tensor in positions.items()}


def _per_step(rows: Rows, slots: Tensor, steps: int) -> dict[str, Tensor]:
    """What changes from step to step in these rows, ``(A, S)`` float64 each; nothing where the rate is ``rows.lr``."""
    found = dict[str, Tensor]()
    kinds, t, warmup = (getattr(rows, name)[slots].tolist() for name in ("schedule", "t", "warmup"))
    if not STEADY.issuperset(kinds) or any(step < first for step, first in zip(t, warmup, strict=True)):
        found["rates"] = rates(rows, slots, steps).T.contiguous()
    nadam = rows.optimizer[slots] == _NADAM
    if nadam.any():
        shares = nadam_shares(rows.b1[slots], rows.t[slots], steps, nadam)
        found |= {name: share.T.contiguous() for name, share in zip(("share_d", "share_m"), shares, strict=True)}
    return found


_NADAM = OPTIMIZERS.index("nadam")


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
            workspace.argtypes, workspace.restype = [POINTER(_Job)], c_int64
    return found
