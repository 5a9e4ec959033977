"""The plain PyTorch run of one trial: the oracle that every cohort path is compared with.

Weight decay is the gradient of ``weight_decay / 2 * |theta|^2``: training finds the maximum a posteriori estimate
under a Gaussian prior N(0, 1 / weight_decay) on the weights (per unit of log likelihood per example), not the
maximum likelihood one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, log2, pi

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from torch.optim.swa_utils import AveragedModel

from sweeper.models.averages import average_by
from sweeper.models.changes import Changes, change_optimizer, check_changes
from sweeper.models.config import Task, TrainConfig, TrialConfig
from sweeper.models.data import Data, batch_order
from sweeper.models.dropout import words
from sweeper.models.gradient_flow import EpochFlow, Watch, is_measured, measured_step
from sweeper.models.history import History, metric_names
from sweeper.models.lion import Lion
from sweeper.models.metrics import Scorer
from sweeper.models.mlp import Mlp, build_mlp, count_outputs
from sweeper.models.schedules import Schedule, schedule_of


def train_solo(
    config: TrialConfig,
    train: TrainConfig,
    data: Data,
    seed: int,
    scorers: Mapping[str, Scorer] | None = None,
    *,
    changes: Changes = (),
) -> History:
    """Train one MLP with torch.optim and return its history.

    The seed draws the initial weights, orders the minibatches and drops units; nothing else is random. ``scorers``
    judge the outputs on the validation rows after every epoch, by the name of their metric. ``changes`` are those of
    its hyperparameters between epochs (``changes.py``); weights, moments and schedules go on as they are.
    """
    later = dict(check_changes(config, changes))
    train.check_monitor(metric_names(train.task, scorers or {}))
    x, y, n = data.x_train, data.y_train, len(data.x_train)  # (n, D), (n,)
    model = build_mlp(config, x.shape[1], count_outputs(data, train.task), seed, data.columns).to(x)
    optimizer = make_optimizer(config, model)
    average = make_average(config, model)
    kept = model if average is None else average.module
    batch_size, clip_norm = resolve_batch_size(config, train, n), resolve_clip_norm(config, train)
    schedule = schedule_of(config, train, n, batch_size)
    scheduler = make_scheduler(schedule, optimizer)
    plateau = make_plateau(train, optimizer) if schedule.kind == "plateau" else None
    history, t = History(), 0

    for epoch in range(train.epochs):
        loss_sum, norm_sum, steps, clipped = 0.0, 0.0, 0, 0
        watch: Watch | None = None
        layers: Tensor | None = None
        if (after := later.get(epoch)) is not None:
            change_optimizer(optimizer, scheduler, average, config, after)
            config, clip_norm = after, resolve_clip_norm(after, train)
        for batch in batch_order(n, seed, epoch).to(x.device).split(batch_size):
            if is_measured(epoch, train.gradient_flow) and steps == measured_step(n, batch_size):
                watch = Watch(model, config.activation)
            optimizer.zero_grad()
            w = None if data.w_train is None else data.w_train[batch]
            output = outputs_in_training(model, x[batch], config.dropout, seed, t)
            loss = loss_of(output, y[batch], train.task, w, config.label_smoothing)
            loss.backward()
            if watch is not None:
                watch.backward_done()
            norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip_norm is None else clip_norm)
            optimizer.step()
            if average is not None:
                average.update_parameters(model)
            if watch is not None:
                layers, watch = watch.stepped(), None
            loss_sum += loss.item() * (len(batch) if w is None else w.sum().item())
            norm_sum += norm.item()
            steps, t = steps + 1, t + 1
            if scheduler is not None and t < schedule.total:
                scheduler.step()
            clipped += clip_norm is not None and clip_norm / (norm.item() + 1e-6) < 1.0
        val_loss, metric = evaluate(kept, data, train.task)
        scores = scores_of(scorers or {}, kept, data)
        if plateau is not None and t >= schedule.warmup:
            plateau.step(val_loss)
        going_on = history.record(
            train,
            train_loss=loss_sum / (n if data.w_train is None else data.w_train.sum().item()),
            grad_norm=norm_sum / steps,
            val_loss=val_loss,
            val_metric=metric,
            learning_rate=float(optimizer.param_groups[0]["lr"]),
            flow=None if layers is None else EpochFlow(layers, clipped / steps),
            scores=scores,
        )
        ended = not going_on or history.has_finished(train)
        if history.improved if train.keep == "best" and going_on else ended:
            history.state_dict = copied(kept)
        if ended:
            break
    return history


def copied(model: nn.Module) -> dict[str, Tensor]:
    """The weights of a network, and what it counts of its batches, on the CPU."""
    named = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    return {name: tensor.detach().cpu().clone() for name, tensor in named.items()}


def outputs_in_training(model: Mlp, x: Tensor, dropout: float, seed: int, t: int) -> Tensor:
    """The outputs for ``x (B, D)`` in optimizer step t (from 0), with the masks of ``dropout.py``."""
    model.train()
    if dropout == 0.0:
        return model(x)
    return model(x, lambda h, layer: dropout_mask(h, dropout, seed, t, layer))


def dropout_mask(h: Tensor, rate: float, seed: int, t: int, layer: int) -> Tensor:
    """What the activations ``h (B, H)`` of a hidden layer are multiplied by: 0, or 1 / (1 - rate)."""
    seeds, steps = (torch.tensor([number], device=h.device) for number in (seed, t))
    drawn = words(seeds, steps, layer, h.shape[1], h.shape[0])[0].T  # (B, H)
    return (drawn.double() / 2.0**32 >= rate).to(h) / (1.0 - rate)


def resolve_batch_size(config: TrialConfig, train: TrainConfig, n: int) -> int:
    """The number of examples in a minibatch: the trial's own, else the sweep's; ``"full"`` and too large mean n."""
    wanted = train.batch_size if config.batch_size is None else config.batch_size
    return n if wanted == "full" else min(wanted, n)


def resolve_clip_norm(config: TrialConfig, train: TrainConfig) -> float | None:
    """The bound on the global gradient norm: the trial's own, else the sweep's; None: no clipping."""
    return train.clip_norm if config.clip_norm is None else config.clip_norm


def make_optimizer(config: TrialConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that ``config`` names."""
    parameters, lr, decay = model.parameters(), config.learning_rate, config.weight_decay
    betas = (config.beta1, config.beta2)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr, weight_decay=decay)
    if config.optimizer == "momentum":
        nesterov = config.nesterov and config.momentum > 0  # torch refuses nesterov with momentum 0
        return torch.optim.SGD(parameters, lr, momentum=config.momentum, weight_decay=decay, nesterov=nesterov)
    if config.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, lr, alpha=0.99, eps=1e-8, weight_decay=decay)
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr, betas, eps=1e-8, weight_decay=decay)
    if config.optimizer == "nadam":
        return torch.optim.NAdam(parameters, lr, betas, eps=1e-8, weight_decay=decay)
    if config.optimizer == "lion":
        return Lion(parameters, lr, betas, decay)
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(parameters, lr, eps=1e-10, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr, betas, eps=1e-8, weight_decay=decay)


def make_scheduler(schedule: Schedule, optimizer: torch.optim.Optimizer) -> LRScheduler | None:
    """The scheduler to step after every optimizer step; None: the learning rate does not change between steps."""
    kind, total, warmup = schedule
    lr = optimizer.param_groups[0]["lr"]
    if kind == "one_cycle":
        return OneCycleLR(optimizer, max_lr=lr, total_steps=total, cycle_momentum=False)
    if kind == "coslog4":
        return LambdaLR(optimizer, lambda step: (1 - cos(2 * pi * log2(1 + 15 * step / total))) / 2)
    parts: list[LRScheduler] = []
    if warmup:
        parts.append(LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup))
    if kind == "cosine":
        parts.append(CosineAnnealingLR(optimizer, T_max=total - warmup))
    return parts[0] if len(parts) == 1 else SequentialLR(optimizer, parts, milestones=[warmup]) if parts else None


def make_average(config: TrialConfig, model: nn.Module) -> AveragedModel | None:
    """The moving average of the weights, or None."""
    decay = config.ema_decay
    return AveragedModel(model, multi_avg_fn=average_by(decay)) if decay > 0.0 else None


def make_plateau(train: TrainConfig, optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau | None:
    """The scheduler of ``train.plateau`` to step after every epoch; None: there is none."""
    if train.plateau is None:
        return None
    p = train.plateau
    return ReduceLROnPlateau(
        optimizer, factor=p.factor, patience=p.patience, threshold=p.threshold, cooldown=p.cooldown, min_lr=p.min_lr
    )


def loss_of(output: Tensor, y: Tensor, task: Task, w: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """The mean loss of ``output (B, C)`` against ``y (B,)``: cross-entropy of the logits, or mean squared error.

    With weights ``w (B,)`` it is ``sum w l / sum w``, and 0 where no row counts. ``smoothing`` is that of the labels.
    """
    reduction = "mean" if w is None else "none"
    if task == "classification":
        losses = functional.cross_entropy(output, y, reduction=reduction, label_smoothing=smoothing)
    else:
        losses = functional.mse_loss(output[:, 0], y, reduction=reduction)
    if w is None:
        return losses
    total = w.sum()
    return (w * losses).sum() / torch.where(total > 0, total, 1.0)


@torch.no_grad()
def scores_of(scorers: Mapping[str, Scorer], model: nn.Module, data: Data) -> dict[str, float]:
    """What each scorer says of a network's outputs on the validation rows."""
    outputs = model.eval()(data.x_val)[None] if scorers else data.x_val  # (1, v, C)
    return {name: scorer(outputs, data.y_val, data.w_val).item() for name, scorer in scorers.items()}


@torch.no_grad()
def evaluate(model: nn.Module, data: Data, task: Task) -> tuple[float, float]:
    """Loss and metric (accuracy, or root mean squared error) on the whole validation split."""
    output = model.eval()(data.x_val)
    loss = loss_of(output, data.y_val, task, data.w_val).item()
    if task == "regression":
        return loss, loss**0.5
    right = (output.argmax(dim=1) == data.y_val).double()
    if data.w_val is not None:
        return loss, ((right * data.w_val).sum() / data.w_val.sum()).item()
    return loss, right.mean().item()
