"""The frozen records that say what is trained: one trial's hyperparameters and one sweep's training rules."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from sweeper.models.embedding import KINDS, Embedding

Task = Literal["classification", "regression"]

OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam", "adamw", "nadam", "adagrad", "lion")
ACTIVATIONS = ("relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "mish", "selu")
INITIALIZATIONS = ("normal", "xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "zeros")
SHAPES = ("constant", "funnel")
NORMALIZATIONS = ("none", "layer", "batch")
PARAMETRIZATIONS = ("standard", "ntk")
SCHEDULES = ("constant", "plateau", "cosine", "one_cycle", "coslog4")
# of each layer, in this order; what they are: gradient_flow.py
FLOW_STATISTICS = (
    "grad_norm",
    "weight_norm",
    "update_ratio",
    "activation_mean",
    "activation_std",
    "saturated",
    "dead",
)


@dataclass(frozen=True)
class PlateauConfig:
    """Reduce the learning rate on a plateau of the validation loss, as ``torch.optim.lr_scheduler.ReduceLROnPlateau``.

    ``threshold`` is relative: a loss counts as better below ``best * (1 - threshold)``. Epochs are the unit of
    ``patience`` and ``cooldown``.
    """

    factor: float = 0.5
    patience: int = 3
    min_lr: float = 1e-6
    threshold: float = 1e-4
    cooldown: int = 0

    def __post_init__(self) -> None:
        _require(0.0 < self.factor < 1.0, "factor", self.factor, "between 0 and 1, both excluded")
        _require(self.patience >= 0, "patience", self.patience, "0 or more")
        _require(self.min_lr >= 0.0, "min_lr", self.min_lr, "0 or more")
        _require(0.0 <= self.threshold < 1.0, "threshold", self.threshold, "in [0, 1)")
        _require(self.cooldown >= 0, "cooldown", self.cooldown, "0 or more")


@dataclass(frozen=True)
class TrainConfig:
    """What all trials of a sweep share while they train.

    ``batch_size`` is a number of rows, ``"full"`` for batch gradient descent, or 1 for stochastic gradient descent.
    ``clip_norm`` bounds the global gradient norm (None: no clipping). ``schedule`` says how the learning rate changes
    over all epochs, after a linear rise over ``warmup_epochs`` (``schedules.py``); with ``plateau=None`` the schedule
    ``plateau`` keeps the rate.
    ``gradient_flow`` is the number of epochs from one measurement (``gradient_flow.py``) to the next, the first
    epoch being measured (None: none is); it changes no number of the training.

    An epoch is the best so far when its metric ``monitor`` (any per-epoch metric of the validation split) is below all
    before it, or above where not ``minimize``; the earliest counts among equals, and an undefined (NaN) one is worse
    than any. ``keep`` says whose weights a trial leaves: those of its last epoch or of its best. With ``patience`` N a
    trial has finished when N epochs in a row were not the best so far.
    """

    epochs: int = 20
    batch_size: int | Literal["full"] = 64
    clip_norm: float | None = 1.0
    schedule: str = "plateau"
    warmup_epochs: float = 0.0
    plateau: PlateauConfig | None = field(default_factory=PlateauConfig)
    task: Task = "classification"
    gradient_flow: int | None = None
    keep: Literal["last", "best"] = "last"
    patience: int | None = None
    monitor: str = "val_loss"
    minimize: bool = True

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "1 or more")
        _check_batch_size(self.batch_size)
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "above 0, or null")
        _check_schedule(self.schedule, self.warmup_epochs)
        _require(self.task in ("classification", "regression"), "task", self.task, "classification or regression")
        interval = self.gradient_flow
        _require(interval is None or interval >= 1, "gradient_flow", interval, "1 epoch or more, or null")
        _require(self.keep in ("last", "best"), "keep", self.keep, "last or best")
        _require(self.patience is None or self.patience >= 1, "patience", self.patience, "1 epoch or more, or null")

    def check_monitor(self, names: Collection[str]) -> None:
        """Refuse a ``monitor`` that is none of the per-epoch metrics ``names``.

        Raises:
            ValueError: it is another one.
        """
        _require(self.monitor in names, "monitor", self.monitor, f"one of {', '.join(names)}")


@dataclass(frozen=True)
class TrialConfig:
    """One hyperparameter point.

    ``weight_decay`` is the L2 penalty ``weight_decay / 2 * |theta|^2``, i.e. the maximum a posteriori estimate under a
    Gaussian prior (coupled: added to the gradient), except for ``adamw`` and ``lion``, where it is decoupled
    (Loshchilov and Hutter 2019). ``hidden_layers=()`` is logistic or linear regression. ``batch_size`` and
    ``clip_norm`` of None take the sweep's ``TrainConfig`` values, and so do ``schedule`` and ``warmup_epochs``.
    ``momentum`` is read by ``momentum`` only; ``beta1, beta2`` by adam, adamw, nadam, lion (above 0).
    ``dropout`` is the share of hidden units left out of each training step (Srivastava et al. 2014; ``dropout.py``).
    ``label_smoothing`` e trains for 1 - e of the row's class and e of all classes alike (Szegedy et al. 2016); the
    validation loss has none. With ``ema_decay`` d above 0 the network that is validated and kept has a moving average
    of the weights: ``average = (1 - f) average + f theta`` after step t, f being 1 - d, and more than that in the first
    steps (``averages.py``).
    ``normalization: layer`` puts a layer normalisation (Ba et al. 2016) between each hidden Linear and its activation,
    ``batch`` a batch normalisation (Ioffe and Szegedy 2015), which counts its running statistics with a momentum of
    0.1 and is validated with them. With ``residual`` a hidden layer's input is added to its output, after dropout,
    where it comes from a hidden layer of the same width (He et al. 2016). ``parametrization: ntk`` divides what a
    Linear's weights make of its n inputs by sqrt(n) (Jacot et al. 2018) and multiplies the initial weights by it: the
    network begins as the same function, and a step of the optimizer changes wide layers less.

    With ``numeric_embedding`` each number among the inputs is embedded in ``embedding_size`` by so many
    ``frequencies``, which start from N(0, ``frequency_scale``^2), and with ``category_embedding`` each text column with
    more than ``max_one_hot`` values in this size (``embeddings.py``; 0: none is).
    """

    learning_rate: float = 3e-4
    optimizer: str = "adam"
    momentum: float = 0.9
    nesterov: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    initialization: str = "he_uniform"
    weight_decay: float = 0.0
    activation: str = "relu"
    hidden_layers: tuple[int, ...] = (128, 128)
    batch_size: int | Literal["full"] | None = None
    clip_norm: float | None = None
    dropout: float = 0.0
    label_smoothing: float = 0.0
    schedule: str | None = None
    warmup_epochs: float | None = None
    ema_decay: float = 0.0
    normalization: str = "none"
    numeric_embedding: str = "none"
    frequencies: int = 48
    embedding_size: int = 24
    frequency_scale: float = 0.01
    category_embedding: int = 0
    max_one_hot: int = 9
    residual: bool = False
    parametrization: str = "standard"

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_layers", tuple(int(width) for width in self.hidden_layers))
        rate_ok = self.learning_rate > 0 and math.isfinite(self.learning_rate)
        _require(rate_ok, "learning_rate", self.learning_rate, "a finite number above 0")
        _require(self.optimizer in OPTIMIZERS, "optimizer", self.optimizer, f"one of {', '.join(OPTIMIZERS)}")
        _require(0.0 <= self.momentum < 1.0, "momentum", self.momentum, "in [0, 1)")
        _require(0.0 <= self.beta1 < 1.0, "beta1", self.beta1, "in [0, 1)")
        _require(0.0 <= self.beta2 < 1.0, "beta2", self.beta2, "in [0, 1)")
        _require(self.optimizer != "lion" or self.beta2 > 0.0, "beta2", self.beta2, "above 0 with lion")
        _require(
            self.initialization in INITIALIZATIONS,
            "initialization",
            self.initialization,
            f"one of {', '.join(INITIALIZATIONS)}",
        )
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(self.activation in ACTIVATIONS, "activation", self.activation, f"one of {', '.join(ACTIVATIONS)}")
        wanted = f"one of {', '.join(NORMALIZATIONS)}"
        _require(self.normalization in NORMALIZATIONS, "normalization", self.normalization, wanted)
        wanted = f"one of {', '.join(PARAMETRIZATIONS)}"
        _require(self.parametrization in PARAMETRIZATIONS, "parametrization", self.parametrization, wanted)
        _require(all(w >= 1 for w in self.hidden_layers), "hidden_layers", self.hidden_layers, "widths of 1 or more")
        if self.batch_size is not None:
            _check_batch_size(self.batch_size)
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "above 0, or null")
        for name in ("dropout", "label_smoothing", "ema_decay"):
            _require(0.0 <= getattr(self, name) < 1.0, name, getattr(self, name), "in [0, 1)")
        _check_schedule(self.schedule or "constant", self.warmup_epochs or 0.0)
        _check_embedding(self)

    @property
    def embedding(self) -> Embedding | None:
        """How inputs are embedded, as far as it is part of the shape key; None: they are not."""
        periodic = self.numeric_embedding != "none"
        if not periodic and self.category_embedding == 0:
            return None
        numbers = (self.numeric_embedding, self.frequencies, self.embedding_size) if periodic else ("none", 0, 0)
        texts = (self.category_embedding, self.max_one_hot) if self.category_embedding else (0, 0)
        return Embedding(*numbers, *texts)

    @property
    def normalized(self) -> str:
        """The normalization that its layers have: none where there is no hidden layer."""
        return self.normalization if self.hidden_layers else "none"

    def within(self, train: TrainConfig) -> TrialConfig:
        """This configuration with the sweep's schedule and warm-up where it has none of its own."""
        schedule = train.schedule if self.schedule is None else self.schedule
        warmup = train.warmup_epochs if self.warmup_epochs is None else self.warmup_epochs
        return replace(self, schedule=schedule, warmup_epochs=warmup)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> TrialConfig:
        """Build a configuration from suggested parameters (a space's names).

        ``depth`` and ``width`` together stand for ``hidden_layers = (width,) * depth``. With ``shape: funnel`` the
        widths fall evenly towards the output: layer i (from 0) has ``width * (depth - i) / depth`` units, rounded.

        Raises:
            ValueError: an unknown parameter name or a value out of its range.
        """
        values = dict(params)
        if {"depth", "width", "shape"} & set(values):
            if "hidden_layers" in values:
                raise ValueError("hidden_layers cannot be combined with depth and width: keep one of the two ways")
            depth, width = int(values.pop("depth", 2)), int(values.pop("width", 128))
            shape = values.pop("shape", "constant")
            _require(shape in SHAPES, "shape", shape, f"one of {', '.join(SHAPES)}")
            falling = range(depth, 0, -1) if shape == "funnel" else [depth] * depth
            values["hidden_layers"] = tuple(max(1, round(width * part / depth)) for part in falling)
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: not a hyperparameter of an MLP trial")
        return cls(**values)


def _check_batch_size(value: Any) -> None:
    ok = value == "full" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)
    _require(ok, "batch_size", value, 'a whole number of 1 or more, or "full"')


def _check_schedule(schedule: str, warmup_epochs: float) -> None:
    _require(schedule in SCHEDULES, "schedule", schedule, f"one of {', '.join(SCHEDULES)}")
    ok = warmup_epochs >= 0 and math.isfinite(warmup_epochs)
    _require(ok, "warmup_epochs", warmup_epochs, "a finite number of 0 or more")


def _check_embedding(config: TrialConfig) -> None:
    kind, size, scale = config.numeric_embedding, config.embedding_size, config.frequency_scale
    _require(kind in KINDS, "numeric_embedding", kind, f"one of {', '.join(KINDS)}")
    _require(config.frequencies >= 1, "frequencies", config.frequencies, "1 or more")
    least = 2 if kind == "pbld" else 1
    _require(size >= least, "embedding_size", size, f"{least} or more")
    _require(scale > 0 and math.isfinite(scale), "frequency_scale", scale, "a finite number above 0")
    _require(config.category_embedding >= 0, "category_embedding", config.category_embedding, "0 or more")
    _require(config.max_one_hot >= 1, "max_one_hot", config.max_one_hot, "1 or more")


def _require(ok: bool, name: str, value: Any, wanted: str) -> None:
    if not ok:
        raise ValueError(f"{name} is {value!r}: it must be {wanted}")
