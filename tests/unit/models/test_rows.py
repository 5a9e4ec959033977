"""Rows: the layout of the slots and what a chunk or a memory budget holds."""

from __future__ import annotations

import torch

from sweeper.models import OPTIMIZERS, TrialConfig, build_mlp, n_parameters, preferred_rows, rows_that_fit
from sweeper.models.rows import COLUMNS, Rows, columns_of, linear_slices
from sweeper.models.sizes import ROW_ALIGN


def test_a_row_gives_its_weights_back_by_name() -> None:
    config = TrialConfig(hidden_layers=(4, 3))
    rows, model = Rows.empty((5, 4, 3, 2), 3, torch.float64), build_mlp(config, 5, 2, seed=1)
    rows.admit(1, config, model, clip_norm=1.0)
    state = rows.state_dict(1)
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(state[name], weight.double()) for name, weight in model.state_dict().items())
    rows.theta[1] = 0
    assert state["0.weight"].any(), "a state dict is a copy"


def test_the_layout_is_weight_then_bias_for_each_linear() -> None:
    assert linear_slices((5, 4, 2)) == ((0, 20, 4, 5, None, None), (24, 32, 2, 4, None, None))
    assert linear_slices((5, 4, 2), normalization="layer") == ((0, 20, 4, 5, 24, None), (32, 40, 2, 4, None, None))
    assert linear_slices((5, 4, 2), normalization="batch") == ((0, 20, 4, 5, 24, 42), (32, 40, 2, 4, None, None))
    assert n_parameters((5, 4, 2), normalization="layer") == n_parameters((5, 4, 2), normalization="batch") == 42
    assert n_parameters((5, 4, 2)) == 34
    assert Rows.empty((5, 4, 2), 3, torch.float32).theta.shape == (3, 48)
    assert Rows.empty((64, 128, 128, 10), 1, torch.float32).theta.shape[1] % ROW_ALIGN == 0


def test_clearing_a_slot_leaves_zeros_and_its_neighbours() -> None:
    rows, config = Rows.empty((5, 2), 2, torch.float32), TrialConfig(hidden_layers=())
    for slot in range(2):
        rows.admit(slot, config, build_mlp(config, 5, 2, seed=slot), clip_norm=1.0)
    rows.theta[0] = float("nan")
    rows.clear(0)
    assert not rows.theta[0].any()
    assert rows.theta[1].any()
    assert [getattr(rows, name)[0].item() for name in COLUMNS] == [0.0] * len(COLUMNS)


def test_weight_decay_is_decoupled_for_adamw_and_lion_only() -> None:
    for optimizer in OPTIMIZERS:
        column = columns_of(TrialConfig(optimizer=optimizer, weight_decay=0.1), None)
        decoupled = optimizer in ("adamw", "lion")
        assert (column["wd_decoupled"], column["wd_coupled"]) == ((0.1, 0.0) if decoupled else (0.0, 0.1))
        assert column["clip"] == float("inf")


def test_a_chunk_holds_fewer_large_networks_than_small_ones() -> None:
    assert preferred_rows((64, 4096, 10)) == 4
    assert 4 < preferred_rows((64, 128, 128, 10)) < 32
    assert preferred_rows((4, 3)) == 32


def test_memory_bounds_the_width() -> None:
    sizes = (64, 128, 128, 10)
    wide, narrow = (rows_that_fit(sizes, 64, gigabytes * 2**30) for gigabytes in (4, 1))
    assert wide == 4 * narrow or abs(wide - 4 * narrow) <= 4
    assert rows_that_fit(sizes, 64, 2**30, itemsize=8) == narrow // 2
    assert rows_that_fit(sizes, 64, 1000) == 1
    plain, normed = (rows_that_fit(sizes, 20_000, 2**32, normalization=kind) for kind in ("layer", "batch"))
    assert plain > 2 * normed  # the compiled path keeps all rows of a minibatch that is normalised together
