"""The closed forms of the schedules against torch's own schedulers, and which of them a trial has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sweeper.models import TrainConfig, TrialConfig, train_cohort
from sweeper.models.config import SCHEDULES
from sweeper.models.schedules import Schedule, factor, schedule_of
from sweeper.models.solo import make_scheduler
from tests.tiny import history_error, tiny_data


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(40, 0), (40, 7), (1, 0), (2, 1)])
def test_every_schedule_is_torchs(kind: str, total: int, warmup: int) -> None:
    warmup = 0 if kind in ("one_cycle", "coslog4") else warmup
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.3)
    scheduler = make_scheduler(Schedule(kind, total, warmup), optimizer)
    for step in range(total):
        rate = optimizer.param_groups[0]["lr"]
        assert rate == pytest.approx(0.3 * factor(kind, step, total, warmup), rel=1e-12, abs=1e-15)
        optimizer.step()
        if scheduler is not None and step + 1 < total:
            scheduler.step()


def test_a_trials_schedule_goes_before_the_sweeps_and_spans_all_epochs() -> None:
    train = TrainConfig(epochs=10, schedule="cosine", warmup_epochs=2)
    assert schedule_of(TrialConfig(), train, n=21, batch_size=8) == ("cosine", 30, 6)
    assert schedule_of(TrialConfig(schedule="constant", warmup_epochs=0.5), train, 21, 8) == ("constant", 30, 2)
    assert schedule_of(TrialConfig(schedule="one_cycle"), train, 21, 8) == ("one_cycle", 30, 0)
    assert schedule_of(TrialConfig(warmup_epochs=99), train, 21, 8).warmup == 29
    assert schedule_of(TrialConfig(schedule="plateau"), TrainConfig(plateau=None), 21, 8).kind == "constant"


def test_the_sweeps_schedule_is_that_of_a_trial_without_one() -> None:
    data = tiny_data()
    named = TrialConfig(hidden_layers=(4,), schedule="cosine", warmup_epochs=1)
    [wanted] = train_cohort([named], TrainConfig(epochs=3), data, [0])
    shared = TrainConfig(epochs=3, schedule="cosine", warmup_epochs=1)
    [got] = train_cohort([TrialConfig(hidden_layers=(4,))], shared, data, [0])
    assert history_error(got, wanted) == 0
    assert got.learning_rate[-1] < 3e-4
