"""The compiled libraries beside this file: which of them this processor runs, and whether they fit their sources.

Needs neither torch nor the rest of the package: ``setup.py`` reads it, too.
"""

from __future__ import annotations

import ctypes
from functools import cache
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeper.models.config import TrialConfig

VARIANTS = ((4, "_native_v4"), (3, "_native_v3"), (0, "_native"))  # (the level a processor needs, module), best first
REBUILD = "python setup.py build_ext --inplace"


class StaleBuildError(RuntimeError):
    """A library was built from other sources than those beside it: it has to be built again."""


@cache
def libraries() -> dict[str, ctypes.CDLL]:
    """The built variants that this processor runs, the best first, by module name.

    Raises:
        StaleBuildError: one of them was built from other sources.
    """
    built = {module: _open(module) for _, module in VARIANTS}
    baseline = built["_native"]
    level = -1 if baseline is None else baseline.cohort_cpu_level()
    return {module: library for needs, module in VARIANTS if needs <= level and (library := built[module]) is not None}


def trains(config: TrialConfig) -> bool:
    """Whether the libraries can train a configuration: everything."""
    return True


def digest_of_sources(folder: Path) -> str | None:
    """What tells these C++ sources from others; None: an installation without them."""
    files = sorted((*folder.glob("native*.cpp"), *folder.glob("native*.h")))
    return sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest() if files else None


def _open(module: str) -> ctypes.CDLL | None:
    folder = Path(__file__).parent
    for suffix in EXTENSION_SUFFIXES:
        file = folder / (module + suffix)
        if file.exists():
            try:
                library = ctypes.CDLL(str(file))
            except OSError:  # built for another machine
                continue
            sources = digest_of_sources(folder)
            if sources not in (None, _built_from(library)):
                raise StaleBuildError(f"{file} was built from other sources than those beside it. Run: {REBUILD}")
            return library
    return None


def _built_from(library: ctypes.CDLL) -> str:
    sources = getattr(library, "cohort_sources", None)
    if sources is None:
        return ""
    sources.restype = ctypes.c_char_p
    return str(sources().decode())
