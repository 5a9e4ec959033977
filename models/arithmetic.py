"""The name of the arithmetic that trials get on a device: equal names stand for equal bits."""

from __future__ import annotations

import platform

import torch

from sweeper.models.native import NativePath, variants


def arithmetic_of(device: torch.device | str) -> str:
    """What trials on this machine's ``device`` are computed in.

    ``native-2``: the compiled path on any x86-64 processor with AVX2 and FMA, whatever its registers. On others its
    name says what differs: products that are not fused with sums, in it or in torch, which draws the initial weights,
    or another family of processors. ``eager-...`` is torch's own arithmetic by the instruction set it chose, and
    ``cuda-2-...`` by the compute capability of the card. A change that alters the numbers of the native path, or those
    of a card, has to give them another number.
    """
    if torch.device(device).type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        return f"cuda-2-sm{major}{minor}"  # 2: networks are padded to buckets
    if not NativePath.available(device):
        return eager_arithmetic()
    capability = torch.backends.cpu.get_cpu_capability().lower()
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"native-2-{platform.machine().lower()}"
    fused = next(iter(variants().values())).cohort_fused() and capability in ("avx2", "avx512")
    return "native-2" if fused else "native-2-unfused"


def eager_arithmetic() -> str:
    """What trials that the compiled path does not train are computed in on this machine's processor."""
    return f"eager-{torch.backends.cpu.get_cpu_capability().lower()}"
