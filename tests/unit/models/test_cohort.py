"""Cohorts: a trial's history depends on nothing but its configuration, its seed and the data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch

from sweeper.models import (
    ACTIVATIONS,
    OPTIMIZERS,
    Cohort,
    Data,
    History,
    PlateauConfig,
    TrainConfig,
    TrialConfig,
    build_mlp,
    train_cohort,
    train_solo,
)
from sweeper.models.paths import PATHS
from sweeper.models.solo import evaluate
from tests.tiny import BLOCKS, EXTRAS, identical, tiny_data

TRAIN = TrainConfig(epochs=4, batch_size=8, clip_norm=0.5, plateau=PlateauConfig(patience=0, threshold=0.2))
HIDDEN = (7, 5)
CPU_PATHS = [name for name, path in PATHS.items() if path.available(torch.device("cpu"))]
PLACES = [(name, "cpu") for name in CPU_PATHS] + [pytest.param("eager", "cuda", marks=pytest.mark.cuda)]

# 17 rows: every activation and optimizer, with two that diverge; then dropout and whatever else a trial may have
CONFIGS = [
    TrialConfig(optimizer=optimizer, activation=activation, learning_rate=0.03, hidden_layers=HIDDEN, weight_decay=0.01)
    for optimizer, activation in itertools.islice(itertools.product(OPTIMIZERS, ACTIVATIONS), 0, 34, 2)
]
CONFIGS[4] = CONFIGS[11] = TrialConfig(optimizer="sgd", learning_rate=1e30, clip_norm=1e30, hidden_layers=HIDDEN)
CONFIGS += [TrialConfig(**({"learning_rate": 0.03, "hidden_layers": HIDDEN} | extra)) for extra in EXTRAS]
SEEDS = [number % 4 for number in range(len(CONFIGS))]


def run(
    numbers: Sequence[int], data: Data, path: str, width: int | None = None, train: TrainConfig = TRAIN
) -> dict[int, History]:
    """The histories of the trials ``numbers``, trained in that order."""
    configs, seeds = [CONFIGS[number] for number in numbers], [SEEDS[number] for number in numbers]
    return dict(zip(numbers, train_cohort(configs, train, data, seeds, path=path, width=width), strict=True))


@pytest.mark.parametrize(("path", "device"), PLACES)
@pytest.mark.parametrize("batch_size", [8, 1])
def test_a_row_is_bit_identical_whatever_width_slot_order_and_neighbours(
    path: str, device: str, batch_size: int
) -> None:
    data = tiny_data(dtype=torch.float32, device=device)
    train = TrainConfig(epochs=3, batch_size=batch_size, clip_norm=0.5, plateau=TRAIN.plateau)
    everyone = list(range(len(CONFIGS)))
    wanted = run(everyone, data, path, train=train)
    assert [number for number, history in wanted.items() if history.diverged] == [4, 11]
    for numbers, width in [
        (everyone[::-1], None),  # other slots
        (everyone[5:] + everyone[:5], 3),  # a narrow cohort, slots refilled, rows at different epochs
        ([0, 4, 7], None),  # few neighbours, one of which diverges
        ([16, 2], 2),
        *(([number], 1) for number in (0, 1, 2, 3, 9, 17, 18)),  # alone
    ]:
        got = run(numbers, data, path, width, train)
        assert all(identical(got[number], wanted[number]) for number in numbers), numbers


@pytest.mark.parametrize("path", CPU_PATHS)
@pytest.mark.parametrize(("hidden", "batch_size"), [((), 8), ((33,), 1), ((64, 130), 16), ((1, 1), 7)])
def test_rows_of_any_shape_are_the_same_alone_and_together(path: str, hidden: tuple[int, ...], batch_size: int) -> None:
    data = tiny_data(dtype=torch.float32)
    train = TrainConfig(epochs=2, batch_size=batch_size)
    configs = [TrialConfig(hidden_layers=hidden, activation=name, learning_rate=0.02) for name in ACTIVATIONS] * 3
    seeds = [number % 4 for number in range(len(configs))]
    together = train_cohort(configs, train, data, seeds, path=path)
    for number in (0, 1, 2, 6, 20):
        alone = train_cohort(configs[number : number + 1], train, data, [seeds[number]], path=path)
        assert identical(alone[0], together[number]), configs[number].activation


@pytest.mark.parametrize("path", CPU_PATHS)
def test_the_number_of_threads_does_not_matter(path: str) -> None:
    data, config = tiny_data(dtype=torch.float32, n=130), TrialConfig(hidden_layers=(129, 67), activation="tanh")
    train, threads = TrainConfig(epochs=2), torch.get_num_threads()
    histories = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        histories.append(train_cohort([config] * 9, train, data, range(9), path=path))
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    for other in histories[1:]:
        assert all(identical(a, b) for a, b in zip(histories[0], other, strict=True))


@pytest.mark.parametrize("path", CPU_PATHS)
def test_legs_of_any_length_add_up_to_the_whole_run(path: str) -> None:
    data = tiny_data(dtype=torch.float32)
    wanted = run([0, 1, 2], data, path)
    cohort = Cohort(TRAIN, HIDDEN, data, width=3, path=path)
    for number in range(3):
        cohort.admit(number, CONFIGS[number], SEEDS[number])
    first, second = cohort.leg(1), cohort.leg(99)
    assert [(r.key, r.first_epoch, r.finished, r.diverged, r.state_dict) for r in first] == [
        (number, 0, False, None, None) for number in range(3)
    ]
    for number, (a, b) in enumerate(zip(first, second, strict=True)):
        assert (b.first_epoch, b.finished, len(b.metrics["val_loss"])) == (1, True, 3)
        assert b.state_dict is not None
        assert a.metrics.keys() == {"train_loss", "grad_norm", "val_loss", "val_accuracy", "learning_rate"}
        for name, values in a.metrics.items():
            assert values + b.metrics[name] == getattr(wanted[number], name)
        assert all(torch.equal(b.state_dict[name], w) for name, w in wanted[number].state_dict.items())
    assert cohort.free == 3
    assert cohort.leg(1) == []


@pytest.mark.parametrize("path", CPU_PATHS)
def test_an_exported_trial_goes_on_elsewhere_exactly(path: str) -> None:
    data = tiny_data(dtype=torch.float32)
    numbers = [0, 7, 13, 16, *range(17, len(CONFIGS))]  # sgd, momentum, rmsprop or adam with moments under way
    wanted = run(numbers, data, path)
    here = Cohort(TRAIN, HIDDEN, data, width=len(numbers), path=path)
    for number in numbers:
        here.admit(number, CONFIGS[number], SEEDS[number])
    here.leg(2)
    there = Cohort(TRAIN, HIDDEN, data, width=len(numbers) + 2, path=path)
    there.admit("neighbour", CONFIGS[1], seed=9)
    there.leg(1)
    for number in reversed(numbers):
        state = here.export(number)
        assert all(tensor.device.type == "cpu" for tensor in state.values())
        there.admit(number, CONFIGS[number], SEEDS[number], state=state)
    for report in there.leg(2):
        if report.key == "neighbour":
            continue
        history = wanted[report.key]
        assert (report.first_epoch, report.finished) == (2, True)
        assert all(values == getattr(history, name)[2:] for name, values in report.metrics.items())
        assert report.state_dict is not None
        assert all(torch.equal(report.state_dict[name], w) for name, w in history.state_dict.items())


@pytest.mark.parametrize("path", CPU_PATHS)
def test_a_diverged_trial_is_reported_and_leaves_its_slot(path: str) -> None:
    cohort = Cohort(TRAIN, HIDDEN, tiny_data(dtype=torch.float32), width=2, path=path)
    cohort.admit("calm", CONFIGS[0], seed=0)
    cohort.admit("wild", CONFIGS[4], seed=0)
    calm, wild = cohort.leg(3)
    assert (calm.finished, calm.diverged, len(calm.metrics["val_loss"])) == (False, None, 3)
    assert not wild.finished
    assert wild.diverged is not None
    assert wild.diverged.endswith(f"in epoch {len(wild.metrics['val_loss'])}")
    assert wild.state_dict is not None
    assert cohort.free == 1


def test_a_dropped_trial_makes_room_and_its_neighbour_goes_on() -> None:
    data = tiny_data(dtype=torch.float32)
    wanted = run([2], data, "auto")[2]
    cohort = Cohort(TRAIN, HIDDEN, data, width=2)
    cohort.admit(1, CONFIGS[1], SEEDS[1])
    cohort.admit(2, CONFIGS[2], SEEDS[2])
    cohort.leg(2)
    cohort.drop(1)
    assert cohort.free == 1
    cohort.admit(3, CONFIGS[3], SEEDS[3])
    reports = {report.key: report for report in cohort.leg(2)}
    assert reports[2].metrics["val_loss"] == wanted.val_loss[2:]
    assert len(reports[3].metrics["val_loss"]) == 2


def test_the_weights_of_a_running_trial_can_be_read() -> None:
    cohort = Cohort(TRAIN, HIDDEN, tiny_data(), width=1)
    cohort.admit(0, CONFIGS[0], seed=0)
    before = cohort.state_dict(0)
    cohort.leg(1)
    assert not torch.equal(before["0.weight"], cohort.state_dict(0)["0.weight"])


def test_what_does_not_fit_is_refused_with_the_reason() -> None:
    cohort = Cohort(TRAIN, HIDDEN, tiny_data(), width=1)
    with pytest.raises(ValueError, match="hidden_layers"):
        cohort.admit(0, TrialConfig(hidden_layers=(3,)), seed=0)
    with pytest.raises(ValueError, match="batch_size 4 is not this cohort's 8"):
        cohort.admit(0, TrialConfig(hidden_layers=HIDDEN, batch_size=4), seed=0)
    cohort.admit(0, CONFIGS[0], seed=0)
    with pytest.raises(ValueError, match="already in this cohort"):
        cohort.admit(0, CONFIGS[0], seed=0)
    with pytest.raises(ValueError, match="slots are taken"):
        cohort.admit(1, CONFIGS[0], seed=0)
    with pytest.raises(ValueError, match="no trial 5"):
        cohort.drop(5)
    state = cohort.export(0)
    cohort.drop(0)
    with pytest.raises(ValueError, match="does not fit"):
        cohort.admit(0, CONFIGS[0], seed=0, state=state | {"theta": torch.zeros(3)})
    assert cohort.free == 1


def test_trials_of_different_shapes_come_back_in_the_order_given() -> None:
    configs = [TrialConfig(hidden_layers=hidden, batch_size=size) for hidden in ((4,), (), (4,)) for size in (None, 5)]
    histories = train_cohort(configs, TRAIN, tiny_data(), [0] * 6)
    for config, history in zip(configs, histories, strict=True):
        assert len(history.state_dict) == 2 + 2 * len(config.hidden_layers)
        assert identical(history, train_cohort([config], TRAIN, tiny_data(), [0])[0])


def test_an_unknown_path_is_refused() -> None:
    with pytest.raises(ValueError, match="use auto or one of"):
        train_cohort(CONFIGS[:1], TRAIN, tiny_data(), [0], path="fast")


@pytest.mark.parametrize("hidden", [HIDDEN, (33,), (64, 130, 130)])
def test_rows_with_other_layers_are_the_same_alone_and_together(hidden: tuple[int, ...]) -> None:
    data, train = tiny_data(dtype=torch.float32), TrainConfig(epochs=2, batch_size=8)
    kinds = [*({"normalization": "layer"} | extra for extra in EXTRAS), *BLOCKS]
    configs = [TrialConfig(**({"hidden_layers": hidden} | kind)) for kind in kinds]
    numbers = range(len(configs))
    wanted = train_cohort(configs, train, data, numbers)
    narrow = train_cohort(configs[::-1], train, data, numbers[::-1], width=3)[::-1]
    assert all(identical(a, b) for a, b in zip(narrow, wanted, strict=True))
    for number in (0, 4, 7, 8, 9, 10):
        assert identical(train_cohort([configs[number]], train, data, [number])[0], wanted[number])


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_running_statistics_travel_with_a_row_and_are_those_of_its_best_epoch(ema_decay: float) -> None:
    config = TrialConfig(normalization="batch", ema_decay=ema_decay, hidden_layers=HIDDEN, learning_rate=0.1)
    train, data = TrainConfig(epochs=6, batch_size=8, keep="best"), tiny_data()
    cohort = Cohort(train, HIDDEN, data, width=1, normalization="batch")
    cohort.admit(0, config, seed=7)
    cohort.leg(3)
    elsewhere = Cohort(train, HIDDEN, data, width=2, normalization="batch")
    elsewhere.admit(0, config, seed=7, state=cohort.export(0))
    (report,) = elsewhere.leg(3)
    wanted = train_solo(config, train, data, 7)
    assert report.state_dict is not None
    assert wanted.best_epoch not in (None, 0, 5)
    assert report.best_epoch == wanted.best_epoch
    model = build_mlp(config, 5, 3, seed=0).double().eval()
    model.load_state_dict(report.state_dict)
    assert evaluate(model, data, "classification")[0] == pytest.approx(min(wanted.val_loss), rel=1e-9)


@pytest.mark.parametrize(("n", "batch_size"), [(21, 1), (21, 5), (21, 20)])
def test_batch_normalisation_of_a_single_row_is_refused(n: int, batch_size: int) -> None:
    data, config = tiny_data(n=n), TrialConfig(normalization="batch", hidden_layers=HIDDEN)
    with pytest.raises(ValueError, match="batch normalization has no use for a minibatch of one row"):
        train_cohort([config], TrainConfig(epochs=1, batch_size=batch_size), data, [0])


def test_a_cohort_takes_no_trial_with_another_normalisation() -> None:
    cohort = Cohort(TRAIN, HIDDEN, tiny_data(), width=2, normalization="layer")
    with pytest.raises(ValueError, match="normalization none is not this cohort's layer"):
        cohort.admit(0, TrialConfig(hidden_layers=HIDDEN), seed=0)
