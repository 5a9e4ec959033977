"""Hyperparameters that change between epochs: a row is still the plain run that changes them in torch.optim."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweeper.models import Cohort, PlateauConfig, TrainConfig, TrialConfig, train_cohort, train_solo
from sweeper.models.changes import Changes
from tests.tiny import curves, same_bits, tiny_data

TRAIN = TrainConfig(epochs=7, batch_size=8, plateau=PlateauConfig(patience=0, threshold=0.5))
BASE = TrialConfig(learning_rate=0.01, hidden_layers=(6,), weight_decay=0.01, dropout=0.2, clip_norm=0.5)


def changed(config: TrialConfig, **others: float) -> Changes:
    """Two changes of everything that can change with its optimizer."""
    first = replace(config, learning_rate=0.008, weight_decay=0.02, dropout=0.1, clip_norm=1.0, label_smoothing=0.1)
    return [(2, replace(first, **others)), (5, replace(first, learning_rate=0.0125, dropout=0.0))]


@pytest.mark.parametrize(
    ("config", "others"),
    [
        (replace(BASE, optimizer="sgd"), {}),
        (replace(BASE, optimizer="momentum", nesterov=True), {"momentum": 0.7}),
        (replace(BASE, optimizer="rmsprop", schedule="cosine", warmup_epochs=1.5), {}),
        (replace(BASE, optimizer="adam", schedule="one_cycle"), {"beta1": 0.8, "beta2": 0.99}),
        (replace(BASE, optimizer="adamw", schedule="coslog4"), {"beta1": 0.8}),
        (replace(BASE, optimizer="nadam", warmup_epochs=3.0), {"beta2": 0.99}),
        (replace(BASE, optimizer="adagrad"), {}),
        (replace(BASE, optimizer="lion", ema_decay=0.9), {"beta1": 0.8, "beta2": 0.98, "ema_decay": 0.8}),
    ],
    ids=lambda value: value.optimizer if isinstance(value, TrialConfig) else "",
)
def test_a_row_that_changes_is_the_plain_run_that_changes(config: TrialConfig, others: dict[str, float]) -> None:
    data, changes = tiny_data(), changed(config, **others)
    plain = train_solo(config, TRAIN, data, seed=3, changes=changes)
    [row, fixed] = train_cohort([config, config], TRAIN, data, [3, 3], changes=[changes, ()])
    for name, values in curves(plain).items():
        assert curves(row)[name] == pytest.approx(values, rel=1e-9), name
    assert curves(fixed)["val_loss"][:2] == curves(row)["val_loss"][:2]
    assert curves(fixed)["val_loss"][2] != curves(row)["val_loss"][2]
    assert row.learning_rate != fixed.learning_rate


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_copied_row_goes_on_as_if_it_had_been_its_own_from_the_start(keep: str) -> None:
    train, data = replace(TRAIN, keep=keep), tiny_data()
    ours = replace(BASE, optimizer="momentum", initialization="normal", ema_decay=0.5)
    [_, (_, second)] = changes = changed(ours)
    cohort = Cohort(train, (6,), data, width=2)
    cohort.admit("donor", ours, 3, changes=changes[:1])
    cohort.admit("loser", replace(ours, optimizer="adam", learning_rate=0.1), 3)
    cohort.leg(5)
    state = cohort.export("donor")
    cohort.drop("loser")
    cohort.admit("loser", ours, 3, state=state, changes=[*changes[:1], (5, second)])
    copied = next(report for report in cohort.leg(2) if report.key == "loser")
    [whole] = train_cohort([ours], train, data, [3], changes=[changes])
    assert {name: curves(whole)[name][5:] for name in curves(whole)} == dict(copied.metrics)
    assert same_bits(copied.state_dict or {}, whole.state_dict)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([(0, BASE)], "epochs have to rise"),
        ([(3, BASE), (3, BASE)], "epochs have to rise"),
        ([(1, replace(BASE, activation="tanh"))], "only learning_rate"),
        ([(1, replace(BASE, ema_decay=0.5))], "ema_decay"),
    ],
)
def test_what_cannot_change_is_refused(changes: Changes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        train_solo(BASE, TRAIN, tiny_data(), seed=0, changes=changes)
    nadam = replace(BASE, optimizer="nadam")
    with pytest.raises(ValueError, match="beta1 of nadam"):
        train_cohort([nadam], TRAIN, tiny_data(), [0], changes=[[(1, replace(nadam, beta1=0.5))]])
