"""The plain run of one trial: what it records and what it finds."""

from __future__ import annotations

import math

import pytest
import torch

from sweeper.models import Data, PlateauConfig, TrainConfig, TrialConfig, batch_order, build_mlp, train_solo
from tests.tiny import curves, identical, tiny_data


def test_every_list_has_one_entry_per_epoch() -> None:
    history = train_solo(TrialConfig(hidden_layers=(4,)), TrainConfig(epochs=3, batch_size=8), tiny_data(), seed=0)
    assert set(curves(history)) == {"train_loss", "val_loss", "val_accuracy", "learning_rate", "grad_norm"}
    assert all(len(values) == 3 for values in curves(history).values())
    regression = train_solo(
        TrialConfig(hidden_layers=(4,)), TrainConfig(epochs=2, task="regression"), tiny_data("regression"), seed=0
    )
    assert regression.val_rmse == pytest.approx([math.sqrt(loss) for loss in regression.val_loss])


def test_losses_and_norms_of_the_first_epoch_are_those_of_the_initial_weights_with_one_batch() -> None:
    config, data = TrialConfig(hidden_layers=(4,)), tiny_data()
    history = train_solo(config, TrainConfig(epochs=1, batch_size="full"), data, seed=5)
    model = build_mlp(config, 5, 3, seed=5).double()
    loss = torch.nn.functional.cross_entropy(model(data.x_train), data.y_train)
    norm = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).norm()
    assert history.train_loss == [pytest.approx(loss.item())]
    assert history.grad_norm == [pytest.approx(norm.item())]


def test_train_loss_weighs_a_short_last_minibatch_by_its_examples() -> None:
    data, config = tiny_data(n=5), TrialConfig(hidden_layers=(), learning_rate=1e-12, optimizer="sgd")
    history = train_solo(config, TrainConfig(epochs=1, batch_size=4), data, seed=0)
    model = build_mlp(config, 5, 3, seed=0).double()
    whole = torch.nn.functional.cross_entropy(model(data.x_train), data.y_train)
    assert history.train_loss[0] == pytest.approx(whole.item(), rel=1e-9)


def test_learning_rate_is_listed_after_the_plateau_step() -> None:
    train = TrainConfig(epochs=3, plateau=PlateauConfig(patience=0, factor=0.5, threshold=0.99))
    history = train_solo(TrialConfig(learning_rate=0.01, hidden_layers=()), train, tiny_data(), seed=0)
    assert history.learning_rate == [0.01, 0.005, 0.0025]
    fixed = train_solo(TrialConfig(learning_rate=0.01), TrainConfig(epochs=3, plateau=None), tiny_data(), seed=0)
    assert fixed.learning_rate == [0.01] * 3


def test_divergence_ends_the_trial_at_the_first_epoch_that_is_not_finite() -> None:
    config = TrialConfig(learning_rate=1e9, optimizer="sgd", hidden_layers=(8, 8))
    train = TrainConfig(epochs=20, clip_norm=None, plateau=None, task="regression")
    history = train_solo(config, train, tiny_data("regression", torch.float32), seed=0)
    assert history.diverged
    assert history.epochs < 20
    assert history.divergence is not None
    assert history.divergence.endswith(f"in epoch {history.epochs}")
    assert all(math.isfinite(value) for values in curves(history).values() for value in values)


def test_trial_values_override_the_sweeps() -> None:
    data = tiny_data()
    own = TrialConfig(batch_size=4, clip_norm=0.1, hidden_layers=(3,))
    shared = TrainConfig(epochs=2, batch_size=16, clip_norm=5.0)
    plain = train_solo(TrialConfig(hidden_layers=(3,)), TrainConfig(epochs=2, batch_size=4, clip_norm=0.1), data, 1)
    assert identical(train_solo(own, shared, data, 1), plain)


def test_the_seed_fixes_the_run_and_the_global_generator_does_not_matter() -> None:
    config, train, data = TrialConfig(hidden_layers=(4,)), TrainConfig(epochs=2, batch_size=8), tiny_data()
    torch.manual_seed(0)
    first = train_solo(config, train, data, seed=3)
    torch.manual_seed(1)
    assert identical(train_solo(config, train, data, seed=3), first)
    assert not identical(train_solo(config, train, data, seed=4), first)


def test_weight_decay_finds_the_mode_of_the_posterior_under_a_gaussian_prior() -> None:
    """Linear regression: argmin mean (y - x w - b)^2 + wd/2 (|w|^2 + b^2) in closed form."""
    data, decay = tiny_data("regression"), 0.3
    config = TrialConfig(hidden_layers=(), optimizer="sgd", learning_rate=0.2, weight_decay=decay)
    train = TrainConfig(epochs=400, batch_size="full", clip_norm=None, plateau=None, task="regression")
    state = train_solo(config, train, data, seed=0).state_dict
    x = torch.cat([data.x_train, torch.ones(21, 1, dtype=torch.float64)], dim=1)
    precision = 2 / 21 * x.T @ x + decay * torch.eye(6, dtype=torch.float64)
    mode = torch.linalg.solve(precision, 2 / 21 * x.T @ data.y_train)
    torch.testing.assert_close(torch.cat([state["0.weight"][0], state["0.bias"]]), mode, rtol=1e-9, atol=1e-12)


def test_batch_order_is_a_permutation_that_changes_with_epoch_and_seed() -> None:
    orders = [batch_order(21, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order.tolist()) == list(range(21)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert torch.equal(orders[3], batch_order(21, 1, 1))


def test_data_of_other_shapes_is_refused() -> None:
    data = tiny_data()
    with pytest.raises(ValueError, match="one target per row"):
        Data(data.x_train, data.y_train[:3], data.x_val, data.y_val)
