"""The ways to train a cohort, by name."""

from __future__ import annotations

from sweeper.models.config import TrialConfig
from sweeper.models.data import Data
from sweeper.models.eager import EagerPath
from sweeper.models.native import NativePath
from sweeper.models.rows import TrainingPath

PATHS: dict[str, type[TrainingPath]] = {"native": NativePath, "eager": EagerPath}  # the preferred one first
PLAIN = TrialConfig()


def choose(name: str, data: Data, config: TrialConfig = PLAIN) -> type[TrainingPath]:
    """The path that trains ``config`` on data's device, under the choice ``name``: one of ``PATHS``, or ``"auto"``.

    It is the path of that name, ``"auto"`` being the first that this installation has; where that lacks something of
    the configuration, the next one that has it. This depends on installation, device and configuration alone, so that
    a trial takes the same path again.

    Raises:
        ValueError: an unknown name, or a path that is not available here.
    """
    device = data.x_train.device
    available = [known for known, path in PATHS.items() if path.available(device)]
    if name != "auto" and name not in available:
        raise ValueError(f"path {name!r} is not available on {device}: use auto or one of {', '.join(available)}")
    preferred = available if name == "auto" else available[available.index(name) :]
    return next(PATHS[known] for known in preferred if PATHS[known].trains(config))
