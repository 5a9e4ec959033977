"""Trials of any shapes trained to their end, side by side where their shapes allow it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sweeper.models.changes import Changes
from sweeper.models.cohort import Cohort
from sweeper.models.config import TrainConfig, TrialConfig
from sweeper.models.data import Data
from sweeper.models.history import History
from sweeper.models.metrics import Scorer
from sweeper.models.own_config import OwnConfig
from sweeper.models.sizes import bucket_of

WIDTH = 64  # slots


def train_cohort(
    configs: Sequence[TrialConfig],
    train: TrainConfig,
    data: Data,
    seeds: Sequence[int],
    path: str = "auto",
    *,
    width: int | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    until: int | None = None,
    changes: Sequence[Changes] | None = None,
    padded: bool | None = None,
) -> list[History]:
    """Train each trial as ``train_solo`` would, side by side; histories in the order of ``configs``.

    Trials are grouped by shape; a group wider than ``width`` (default ``WIDTH``) has its slots refilled as
    trials end. ``until`` ends each after so many of its epochs, as if it had been stopped there.
    ``changes`` are those of each trial's hyperparameters (None: none). ``padded``: trials of one bucket train together
    (None: on a GPU).

    Raises:
        ValueError: a module of the user's own cannot be built or trained.
    """
    groups: dict[tuple[Any, ...], list[int]] = {}
    padded = data.x_train.device.type == "cuda" if padded is None else padded
    for number, (config, _) in enumerate(zip(configs, seeds, strict=True)):
        hidden = bucket_of(config.hidden_layers) if padded else config.hidden_layers
        key = (hidden, config.batch_size, config.normalization, config.embedding)
        groups.setdefault(key, []).append(number)
    histories = [History() for _ in configs]
    for (hidden_layers, batch_size, normalization, embedding), numbers in groups.items():
        shared = train if batch_size is None else replace(train, batch_size=batch_size)
        rows = min(len(numbers), width or WIDTH)
        if isinstance(configs[numbers[0]], OwnConfig):
            from sweeper.models.own_cohort import OwnCohort  # only models of the user's own need it

            cohort: Cohort = OwnCohort(shared, data, rows, scorers)
        else:
            cohort = Cohort(
                shared,
                hidden_layers,
                data,
                rows,
                path,
                scorers,
                normalization=normalization,
                embedding=embedding,
                padded=padded,
            )
        waiting = deque(numbers)
        while waiting or cohort.occupants:
            while waiting and cohort.free:
                number = waiting.popleft()
                later = () if changes is None else changes[number]
                cohort.admit(number, configs[number], seeds[number], changes=later)
            for report in cohort.leg(1):
                if report.failed is not None:
                    raise ValueError(report.failed)
                history = histories[report.key]
                history.extend(report.metrics, cohort.scorers)
                history.diverged, history.divergence = report.diverged is not None, report.diverged
                history.state_dict = report.state_dict or {}
                history.flow |= report.flow
                history.best_epoch = report.best_epoch
                if history.epochs == until and report.state_dict is None:
                    history.state_dict = cohort.kept_weights(report.key)
                    cohort.drop(report.key)
    return histories
