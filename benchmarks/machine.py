"""What the numbers were measured on: processor, cores, memory, versions, date."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "jax", "ray", "optuna", "mlflow", "sqlalchemy", "numpy", "scikit-learn")


def describe() -> dict[str, str]:
    """Names and values for the head of a section's results."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {_level()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load": f"{os.getloadavg()[0]:.1f} at the start",
        "versions": ", ".join([f"Python {platform.python_version()}", *(f"{p} {_version(p)}" for p in PACKAGES)]),
    }


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


def _processor() -> str:
    family, model = _cpuinfo("cpu family"), _cpuinfo("model\t")
    return f"{_cpuinfo('model name') or platform.processor()} (family {family}, model {model})"


def _level() -> str:
    flags = _cpuinfo("flags").split()
    return next((name for name in ("avx512f", "avx2", "avx") if name in flags), platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
