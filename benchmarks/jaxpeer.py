"""The cohort as a JAX user would write it by hand: vmap over trials, scan over batches and epochs, one jit.

Dimensions: K rows, E epochs, n training rows, B batch, D features, C classes. The arithmetic is that of
``models/update.py``: one update rule with per-row coefficients. All rows visit the data in one order, so a batch is
gathered once and shared, and so are the random numbers of dropout, whose rate is each row's own.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from torch import nn

from sweeper.models import Data, TrainConfig, TrialConfig, batch_order, build_mlp
from sweeper.models.rows import columns_of

Weights = dict[str, Any]  # linears: (in, out) and (out,) of each; norms: (2, out); embedding: frequencies, W, b
METRICS = ("train_loss", "grad_norm", "val_loss", "val_accuracy", "learning_rate")


class Row(NamedTuple):
    """The state of one trial; vmap adds K in front."""

    theta: Weights
    m: Weights
    v: Weights
    t: jax.Array
    lr: jax.Array
    best: jax.Array
    bad: jax.Array
    cooldown: jax.Array


class Peer:
    """A program compiled for K rows of the shape of ``config``, with layer norm or without, with plr or without."""

    def __init__(self, train: TrainConfig, config: TrialConfig, data: Data, rows: int, seed: int) -> None:
        self.train, self.seed, self.n_inputs = train, seed, data.x_train.shape[1]
        self.n_outputs = int(data.y_train.max()) + 1
        self.drops = config.dropout > 0
        self.data = [jnp.asarray(t.numpy()) for t in (data.x_train, data.y_train.int(), data.x_val, data.y_val.int())]
        n = len(data.y_train)
        self.orders = jnp.asarray(np.stack([batch_order(n, seed, e).numpy() for e in range(train.epochs)]), jnp.int32)
        program = jax.jit(jax.vmap(self._train_row, in_axes=(0, 0, None)))
        example = self.start([config] * rows)
        begin = time.perf_counter()
        self.program = program.lower(*example, self.orders).compile()
        self.compile_seconds = time.perf_counter() - begin

    def run(self, configs: Sequence[TrialConfig]) -> dict[str, np.ndarray]:
        """Train K trials; each metric as ``(K, E)``."""
        numbers = self.program(*self.start(configs), self.orders)
        return {name: np.asarray(values) for name, values in zip(METRICS, numbers, strict=True)}

    def start(self, configs: Sequence[TrialConfig]) -> tuple[Row, dict[str, jax.Array]]:
        """Initial rows and their coefficient columns."""
        models = [weights_of(build_mlp(config, self.n_inputs, self.n_outputs, self.seed)) for config in configs]
        theta = jax.tree.map(lambda *rows: jnp.stack(rows), *models)
        zeros = jax.tree.map(jnp.zeros_like, theta)
        columns = [
            columns_of(config, self.train.clip_norm) | activation_columns(config.activation) for config in configs
        ]
        c = {name: jnp.asarray([column[name] for column in columns], jnp.float32) for name in columns[0]}
        k = len(configs)
        counts = [jnp.zeros(k, jnp.int32) for _ in range(3)]
        best = jnp.full(k, jnp.inf)
        row = Row(theta, zeros, jax.tree.map(jnp.copy, zeros), counts[0], jnp.copy(c["lr"]), best, *counts[1:])
        return row, c

    def _train_row(self, row: Row, c: dict[str, jax.Array], orders: jax.Array) -> tuple[jax.Array, ...]:
        """All epochs of one trial; each metric as ``(E,)``."""
        epochs = jnp.arange(len(orders))
        return lax.scan(lambda row, at: self._epoch(row, *at, c), row, (orders, epochs))[1]

    def _epoch(
        self, row: Row, order: jax.Array, epoch: jax.Array, c: dict[str, jax.Array]
    ) -> tuple[Row, tuple[jax.Array, ...]]:
        x_train, y_train, x_val, y_val = self.data
        n, size = len(y_train), self.train.batch_size
        full = n // size * size

        def step(row: Row, at: tuple[jax.Array, jax.Array]) -> tuple[Row, tuple[jax.Array, jax.Array]]:
            batch, number = at
            key = jax.random.fold_in(jax.random.key(self.seed), number) if self.drops else None
            return update(row, x_train[batch], y_train[batch], c, key)

        steps = -(-n // size)
        numbers = epoch * steps + jnp.arange(steps)
        row, (losses, norms) = lax.scan(step, row, (order[:full].reshape(-1, size), numbers[: full // size]))
        loss_sum, norm_sum = losses.sum() * size, norms.sum()
        if full < n:
            row, (loss, norm) = step(row, (order[full:], numbers[-1]))
            loss_sum, norm_sum = loss_sum + loss * (n - full), norm_sum + norm
        val_loss, logits = loss_of(row.theta, x_val, y_val, c)
        accuracy = (logits.argmax(axis=1) == y_val).mean()
        row = plateau(row, val_loss, self.train)
        return row, (loss_sum / n, norm_sum / steps, val_loss, accuracy, row.lr)


def activation_columns(name: str) -> dict[str, float]:
    """relu, or a * tanh(slope * z) + b: sigmoid(z) = (tanh(z / 2) + 1) / 2, so one transcendental serves both."""
    tanh = {"relu": 0.0, "slope": 1.0, "a": 1.0, "b": 0.0}
    return {"relu": tanh | {"relu": 1.0}, "tanh": tanh, "sigmoid": {"relu": 0.0, "slope": 0.5, "a": 0.5, "b": 0.5}}[
        name
    ]


def weights_of(model: nn.Sequential) -> Weights:
    """The parameters of ``build_mlp``'s module."""
    found: Weights = {"linears": [], "norms": [], "embedding": []}
    for module in model:
        own = [jnp.asarray(p.detach().numpy()) for p in module.parameters()]
        if isinstance(module, nn.Linear):
            found["linears"].append((own[0].T, own[1]))
        elif isinstance(module, nn.LayerNorm):
            found["norms"].append(jnp.stack(own))
        elif own:
            found["embedding"] = own
    return found


def embed(embedding: list[jax.Array], x: jax.Array) -> jax.Array:
    """``(B, N) -> (B, N E)``: relu(W [cos 2 pi w x, sin 2 pi w x] + b) of each number."""
    frequencies, weight, bias = embedding  # (N, k), (N, E, 2 k), (N, E)
    z = 2 * jnp.pi * frequencies * x[:, :, None]
    waves = jnp.concatenate([jnp.cos(z), jnp.sin(z)], axis=2)
    return jnp.maximum(jnp.einsum("bnf,nef->bne", waves, weight) + bias, 0.0).reshape(len(x), -1)


def loss_of(
    theta: Weights, x: jax.Array, y: jax.Array, c: dict[str, jax.Array], key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Mean cross-entropy, and the logits ``(B, C)``; with a ``key`` there is dropout."""
    h = embed(theta["embedding"], x) if theta["embedding"] else x
    for layer, (w, b) in enumerate(theta["linears"][:-1]):
        z = h @ w + b
        if theta["norms"]:
            scale, shift = theta["norms"][layer]
            away = z - z.mean(axis=1, keepdims=True)
            z = away * lax.rsqrt((away**2).mean(axis=1, keepdims=True) + 1e-5) * scale + shift
        h = jnp.where(c["relu"] > 0, jnp.maximum(z, 0.0), c["a"] * jnp.tanh(c["slope"] * z) + c["b"])
        if key is not None:
            u = jax.random.uniform(jax.random.fold_in(key, layer), h.shape)
            h = jnp.where(u >= c["dropout"], h / (1.0 - c["dropout"]), 0.0)
    logits = h @ theta["linears"][-1][0] + theta["linears"][-1][1]
    log_p = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_p, y[:, None], axis=1).mean(), logits


def update(
    row: Row, x: jax.Array, y: jax.Array, c: dict[str, jax.Array], key: jax.Array | None
) -> tuple[Row, tuple[jax.Array, jax.Array]]:
    """One step: gradient, clip by global norm, the update rule."""
    (loss, _), g = jax.value_and_grad(loss_of, has_aux=True)(row.theta, x, y, c, key)
    norm = jnp.sqrt(sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(g)))
    scale, t = jnp.minimum(1.0, c["clip"] / (norm + 1e-6)), row.t + 1
    c1 = jnp.where(c["corrected"] > 0, 1.0 / (1.0 - c["b1"] ** t), 1.0)
    c2 = jnp.where(c["corrected"] > 0, 1.0 / (1.0 - c["b2"] ** t), 1.0)

    def rule(theta: jax.Array, g: jax.Array, m: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        theta = theta * (1.0 - row.lr * c["wd_decoupled"])
        d = g * scale + c["wd_coupled"] * theta
        m = c["b1"] * m + c["cg"] * d
        v = c["b2"] * v + (1.0 - c["b2"]) * d * d
        return theta - row.lr * c1 * m / (c["s"] * (jnp.sqrt(v * c2) + c["eps"]) + (1.0 - c["s"])), m, v

    new: Any = jax.tree.map(rule, row.theta, g, row.m, row.v)
    theta, m, v = jax.tree.transpose(jax.tree.structure(row.theta), jax.tree.structure((0, 0, 0)), new)
    return row._replace(theta=theta, m=m, v=v, t=t), (loss, norm)


def plateau(row: Row, val_loss: jax.Array, train: TrainConfig) -> Row:
    """``ReduceLROnPlateau`` of one row."""
    p = train.plateau
    better = val_loss < row.best * (1.0 - p.threshold)
    bad = jnp.where(better | (row.cooldown > 0), 0, row.bad + 1)
    cooldown = jnp.maximum(row.cooldown - 1, 0)
    reduce = bad > p.patience
    lower = jnp.maximum(row.lr * p.factor, p.min_lr)
    return row._replace(
        lr=jnp.where(reduce & (row.lr - lower > 1e-8), lower, row.lr),
        best=jnp.where(better, val_loss, row.best),
        bad=jnp.where(reduce, 0, bad),
        cooldown=jnp.where(reduce, p.cooldown, cooldown),
    )
