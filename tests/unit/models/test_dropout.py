"""Dropout's random numbers are those of Philox4x32-10, and a mask keeps the share that the rate leaves."""

from __future__ import annotations

import torch

from sweeper.models import TrainConfig, TrialConfig, train_cohort, train_solo
from sweeper.models.dropout import philox, threshold, words
from tests.tiny import identical, tiny_data

# the authors' own test vectors (Random123, kat_vectors): counter, key, words
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def test_the_generator_gives_the_authors_test_vectors() -> None:
    for counter, key, wanted in KNOWN:
        got = philox(tuple(map(torch.tensor, counter)), tuple(map(torch.tensor, key)))  # type: ignore[arg-type]
        assert tuple(int(word) for word in got) == wanted


def test_a_word_depends_on_seed_step_layer_and_place_as_documented() -> None:
    seeds, steps = torch.tensor([5, 2**40 + 3]), torch.tensor([7, 9])
    drawn = words(seeds, steps, 1, units=6, examples=10)
    assert drawn.shape == (2, 6, 10)
    for row, unit, example in ((0, 0, 0), (0, 5, 9), (1, 2, 6)):
        seed, step = int(seeds[row]), int(steps[row])
        counter = tuple(map(torch.tensor, (unit, example // 4, step, 1)))
        key = tuple(map(torch.tensor, (seed % 2**32, seed // 2**32)))
        assert drawn[row, unit, example] == philox(counter, key)[example % 4]  # type: ignore[arg-type]


def test_a_mask_keeps_the_share_that_the_rate_leaves() -> None:
    drawn = words(torch.tensor([0]), torch.tensor([0]), 0, units=1000, examples=1000)
    for rate in (0.0, 0.1, 0.5, 0.9):
        kept = (drawn >= threshold(torch.tensor(rate, dtype=torch.float64))).double().mean().item()
        assert abs(kept - (1.0 - rate)) < 3e-3
    assert threshold(torch.tensor([0.0, 0.5, 1.0 - 2.0**-40], dtype=torch.float64)).tolist() == [0, 2**31, 2**32]


def test_rate_0_is_training_without_dropout_bit_for_bit() -> None:
    data, train = tiny_data(dtype=torch.float32), TrainConfig(epochs=3, batch_size=8)
    plain = TrialConfig(hidden_layers=(6, 5))
    dropped = TrialConfig(hidden_layers=(6, 5), dropout=0.5)
    [wanted] = train_cohort([plain], train, data, [1], path="eager")
    mixed = train_cohort([dropped, plain, dropped], train, data, [2, 1, 3], path="eager")
    assert identical(mixed[1], wanted)
    assert not identical(mixed[0], wanted)
    assert identical(train_solo(TrialConfig(hidden_layers=(), dropout=0.5), train, data, 0),
                     train_solo(TrialConfig(hidden_layers=()), train, data, 0))  # fmt: skip
