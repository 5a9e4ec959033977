"""What a member of a population trained with, phase by phase: its own history, and the schedule that its row stands
for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HISTORY, SCHEDULE = "history", "schedule"  # keys of a trial's attributes


@dataclass(frozen=True)
class Phase:
    """From ``epoch`` on (counted from 0) a trial trained with ``params``.

    ``copied`` is the trial whose row it went on from then (None: its own).
    """

    epoch: int
    params: Mapping[str, Any]
    copied: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"epoch": self.epoch, "params": dict(self.params), "copied": self.copied}


Schedule = tuple[Phase, ...]
"""Phases by epoch, the first at epoch 0. As what a row stands for: from the first phase's initial weights on, trained
with one after another, it gives the row's weights."""


def attributes_of(history: Sequence[Phase], schedule: Sequence[Phase]) -> dict[str, Any]:
    """Both as attributes of a trial."""
    return {HISTORY: [phase.to_json() for phase in history], SCHEDULE: [phase.to_json() for phase in schedule]}


def history_in(attributes: Mapping[str, Any]) -> Schedule:
    """What the trial itself trained with, and whose row it copied when; empty: nothing has changed."""
    return _phases(attributes.get(HISTORY, ()))


def schedule_in(attributes: Mapping[str, Any]) -> Schedule:
    """What the trial's row was trained with from its initial weights on; empty: its parameters all the time."""
    return _phases(attributes.get(SCHEDULE, ()))


def _phases(data: Sequence[Mapping[str, Any]]) -> Schedule:
    return tuple(Phase(int(one["epoch"]), dict(one["params"]), one["copied"]) for one in data)


def phases_in_words(phases: Schedule) -> list[str]:
    """What began when, epochs counted from 1: the hyperparameters that changed, and whose row was copied."""
    found, before = [], dict[str, Any]()
    for phase in phases:
        changed = {name: value for name, value in phase.params.items() if before.get(name) != value}
        values = ", ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in changed.items()
        )
        copied = "" if phase.copied is None else f" a copy of trial {phase.copied},"
        found.append(f"from epoch {phase.epoch + 1}:{copied} {values or 'as before'}")
        before = dict(phase.params)
    return found
