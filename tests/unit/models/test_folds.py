"""Folds and scorers inside a cohort: each row is the plain run on its own rows, and is scored there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sweeper.models import Cohort, Data, History, TrainConfig, TrialConfig, train_solo
from sweeper.models.config import Task
from sweeper.models.metrics import Scorer, make_scorers
from tests.tiny import curves, history_error, identical, tiny_data

PATHS = ["native", "eager"]
SCORED: dict[Task, tuple[str, ...]] = {"classification": ("roc_auc", "f1_macro"), "regression": ("mae", "r2")}
CONFIGS = [
    TrialConfig(hidden_layers=(9, 6), activation=activation, optimizer=optimizer)
    for activation, optimizer in (("relu", "adam"), ("tanh", "sgd"), ("relu", "rmsprop"))
]


def folds_of(task: Task, dtype: torch.dtype = torch.float64) -> list[Data]:
    """Three folds of one table, of unequal sizes."""
    whole = tiny_data(task, dtype, n=31, v=10)
    x, y = torch.cat([whole.x_train, whole.x_val]), torch.cat([whole.y_train, whole.y_val])
    parts = [torch.arange(len(y)) % 3 == k for k in range(3)]
    return [Data(x[~part] * (1 + k), y[~part], x[part] * (1 + k), y[part]) for k, part in enumerate(parts)]


def scorers_of(task: Task) -> dict[str, Scorer]:
    return {f"val_{name}": scorer for name, scorer in make_scorers(SCORED[task], task, 2.0, 3.0).items()}


def trained(cohort: Cohort, rows: list[tuple[int, TrialConfig, int]], scorers: dict[str, Scorer]) -> dict[int, History]:
    """The history of each row (key, configuration, fold), trained together."""
    for key, config, fold in rows:
        cohort.admit(key, config, seed=key, fold=fold)
    histories = {key: History() for key, _, _ in rows}
    while cohort.occupants:
        for report in cohort.leg(2):
            histories[report.key].extend(report.metrics, scorers)
            histories[report.key].state_dict = report.state_dict or {}
    return histories


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("batch_size", [8, "full"])
def test_a_row_is_the_plain_run_on_its_fold_with_its_scores(path: str, task: Task, batch_size: int | str) -> None:
    folds, scorers = folds_of(task), scorers_of(task)
    train = TrainConfig(epochs=5, batch_size=batch_size, task=task)
    rows = [(3 * k + i, config, k) for k in range(3) for i, config in enumerate(CONFIGS)]
    got = trained(Cohort(train, (9, 6), folds, len(rows), path, scorers), rows, scorers)
    for key, config, fold in rows:
        wanted = train_solo(config, train, folds[fold], key, scorers)
        assert history_error(got[key], wanted) < 1e-9
        assert set(got[key].extra) == set(wanted.extra) == set(scorers)
        for name, values in wanted.extra.items():
            assert len(values) == 5
            assert got[key].extra[name] == pytest.approx(values, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("path", PATHS)
def test_a_row_depends_neither_on_its_neighbours_folds_nor_on_the_scorers(path: str) -> None:
    folds, scorers = folds_of("classification", torch.float32), scorers_of("classification")
    train = TrainConfig(epochs=4, batch_size=8)
    rows = [(k, CONFIGS[k % 3], k % 3) for k in range(7)]
    together = trained(Cohort(train, (9, 6), folds, 7, path, scorers), rows, scorers)
    without = trained(Cohort(train, (9, 6), folds, 7, path), rows, {})
    for row in rows:
        alone = trained(Cohort(train, (9, 6), folds, 4, path, scorers), [row], scorers)
        assert identical(together[row[0]], alone[row[0]])
        assert together[row[0]].extra == alone[row[0]].extra
        assert curves(together[row[0]]) == curves(without[row[0]])


@pytest.mark.parametrize("path", PATHS)
def test_an_exported_row_keeps_its_scores_and_goes_on_in_its_fold(path: str) -> None:
    folds, scorers = folds_of("regression"), scorers_of("regression")
    train = TrainConfig(epochs=6, batch_size=8, task="regression")
    first = Cohort(train, (9, 6), folds, 2, path, scorers)
    first.admit("a", CONFIGS[0], seed=5, fold=2)
    first.leg(3)
    second = Cohort(train, (9, 6), folds, 3, path, scorers)
    second.admit("b", CONFIGS[1], seed=1, fold=0)
    second.admit("a", CONFIGS[0], seed=5, state=first.export("a"), fold=2)
    report = next(r for r in second.leg(3) if r.key == "a")
    whole = train_solo(CONFIGS[0], train, folds[2], 5, scorers)
    for name in scorers:
        assert report.metrics[name] == pytest.approx(whole.extra[name][3:], rel=1e-9)


def test_folds_of_different_widths_are_refused() -> None:
    data = tiny_data()
    narrow = replace(data, x_train=data.x_train[:, :4], x_val=data.x_val[:, :4])
    with pytest.raises(ValueError, match="same number of columns"):
        Cohort(TrainConfig(), (9, 6), [data, narrow], 2)
