"""The ways to train a cohort, by name."""

from __future__ import annotations

from sweeper.models.data import Data
from sweeper.models.eager import EagerPath
from sweeper.models.native import NativePath
from sweeper.models.rows import TrainingPath

PATHS: dict[str, type[TrainingPath]] = {"native": NativePath, "eager": EagerPath}  # the preferred one first


def choose(name: str, data: Data) -> type[TrainingPath]:
    """The path called ``name``; ``"auto"`` is the first of ``PATHS`` that this installation has for data's device.

    It depends on the installation and the device alone, so that the same sweep takes the same path again.

    Raises:
        ValueError: an unknown name, or a path that is not available here.
    """
    device = data.x_train.device
    available = [known for known, path in PATHS.items() if path.available(device)]
    if name == "auto":
        return PATHS[available[0]]
    if name not in available:
        raise ValueError(f"path {name!r} is not available on {device}: use auto or one of {', '.join(available)}")
    return PATHS[name]
