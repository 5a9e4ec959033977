"""Learning-rate schedules in closed form: what the rate is multiplied by in each optimizer step. Needs no torch.

======================  ===============================================================================================
constant                1
plateau                 1; the rate itself drops between epochs (``plateau.py``), the warm-up's epochs not counting
cosine                  from 1 to 0 along half a cosine (Loshchilov and Hutter 2017)
one_cycle               from 1/25 to 1 in the first 30% of the steps, then to 1/250,000 (Smith and Topin 2019)
coslog4                 four cosine cycles, each as long as twice the one before (RealMLP, Holzmueller et al. 2024)
======================  ===============================================================================================

A warm-up comes first, in which the rate rises linearly; one_cycle and coslog4 bring their own. A schedule spans all
epochs of the sweep, whether or not patience or a pruner ends the trial before.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from sweeper.models.config import SCHEDULES, TrainConfig, TrialConfig


class Schedule(NamedTuple):
    """One trial's schedule, its optimizer steps in all, and those of its warm-up."""

    kind: str
    total: int
    warmup: int


# indices of schedules: after a warm-up the rate does not change from step to step
STEADY = frozenset(SCHEDULES.index(kind) for kind in ("constant", "plateau"))
RISING = ("one_cycle", "coslog4")  # they begin low by themselves
CONSTANT = Schedule("constant", 1, 0)


def schedule_of(config: TrialConfig, train: TrainConfig, n: int, batch_size: int) -> Schedule:
    """The schedule of a trial on n training rows: its own, else the sweep's; without a plateau that one is constant."""
    steps = -(-n // batch_size)
    kind = config.schedule or train.schedule
    epochs = train.warmup_epochs if config.warmup_epochs is None else config.warmup_epochs
    if kind == "plateau" and train.plateau is None:
        kind = "constant"
    warmup = 0 if kind in RISING else min(round(epochs * steps), train.epochs * steps - 1)
    return Schedule(kind, train.epochs * steps, warmup)


def factor(kind: str, step: int, total: int, warmup: int) -> float:
    """What the learning rate is multiplied by in optimizer step ``step`` (from 0) of ``total``."""
    if kind == "one_cycle":
        top, last = 0.3 * total - 1, total - 1
        start, end, part = (1 / 25, 1.0, step / top) if step <= top else (1.0, 1 / 250_000, (step - top) / (last - top))
        return end + (start - end) / 2 * (1 + math.cos(math.pi * part))
    if kind == "coslog4":
        return (1 - math.cos(2 * math.pi * math.log2(1 + 15 * step / total))) / 2
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / (total - warmup))) / 2 if kind == "cosine" else 1.0
