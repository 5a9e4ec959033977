"""The words of a search space: the hyperparameters it may name and the domains they may range over."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

from sweeper.search_spaces.errors import SpaceError, shown
from sweeper.search_spaces.names import nearest

# One hyperparameter's value. Layer widths are a tuple inside this package and a list in the parameters it hands out.
Value = str | int | float | bool | tuple[int, ...]
Kind = Literal["number", "whole", "name", "flag", "layers"]

MAX_LAYERS = 64
MAX_WIDTH = 65_536
MAX_BATCH = 2**31 - 1
MAX_BINS = 1024
MAX_EMBEDDING = 1024


@dataclass(frozen=True)
class Known:
    """What a hyperparameter accepts: its kind, its bounds (``below_high``: the upper one is excluded), its words."""

    kind: Kind
    low: float = -math.inf
    high: float = math.inf
    above_low: bool = False
    below_high: bool = False
    words: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """The valid values, in words."""
        if self.kind == "flag":
            return "true or false"
        if self.kind == "layers":
            return f"a list of at most {MAX_LAYERS} layer widths from 1 to {MAX_WIDTH}, such as [128, 128] or []"
        if self.kind == "name":
            return f"one of {', '.join(self.words)}"
        low = f"{'above' if self.above_low else 'at least'} {self.low:g}"
        high = "" if math.isinf(self.high) else f" and {'below' if self.below_high else 'at most'} {self.high:g}"
        words = "".join(f", or {word!r}" for word in self.words)
        return f"a {'whole ' if self.kind == 'whole' else ''}number {low}{high}{words}"

    def admits(self, number: float) -> bool:
        """Whether a number lies within the bounds."""
        above = number > self.low if self.above_low else number >= self.low
        below = number < self.high if self.below_high else number <= self.high
        return above and below and math.isfinite(number)


# The hyperparameters that ``sweeper.models.TrialConfig.from_params`` and ``sweeper.spec.inputs.Inputs`` take; a test
# keeps the lists equal.
KNOWN: Mapping[str, Known] = MappingProxyType(
    {
        "learning_rate": Known("number", low=0.0, above_low=True),
        "optimizer": Known("name", words=("sgd", "momentum", "rmsprop", "adam", "adamw", "nadam", "adagrad", "lion")),
        "momentum": Known("number", low=0.0, high=1.0, below_high=True),
        "nesterov": Known("flag"),
        "beta1": Known("number", low=0.0, high=1.0, below_high=True),
        "beta2": Known("number", low=0.0, high=1.0, below_high=True),
        "initialization": Known(
            "name", words=("normal", "xavier_uniform", "xavier_normal", "he_uniform", "he_normal", "zeros")
        ),
        "weight_decay": Known("number", low=0.0),
        "activation": Known(
            "name", words=("relu", "tanh", "sigmoid", "leaky_relu", "elu", "gelu", "silu", "mish", "selu")
        ),
        "hidden_layers": Known("layers"),
        "depth": Known("whole", low=0, high=MAX_LAYERS),
        "width": Known("whole", low=1, high=MAX_WIDTH),
        "shape": Known("name", words=("constant", "funnel")),
        "batch_size": Known("whole", low=1, high=MAX_BATCH, words=("full",)),
        "clip_norm": Known("number", low=0.0, above_low=True),
        "dropout": Known("number", low=0.0, high=1.0, below_high=True),
        "label_smoothing": Known("number", low=0.0, high=1.0, below_high=True),
        "schedule": Known("name", words=("constant", "plateau", "cosine", "one_cycle", "coslog4")),
        "warmup_epochs": Known("number", low=0.0),
        "ema_decay": Known("number", low=0.0, high=1.0, below_high=True),
        "normalization": Known("name", words=("none", "layer", "batch")),
        "residual": Known("flag"),
        "parametrization": Known("name", words=("standard", "ntk")),
        "normalize": Known("name", words=("standard", "minmax", "none", "quantile", "robust")),
        "missing_indicator": Known("flag"),
        "numeric_embedding": Known("name", words=("none", "piecewise_linear", "plr", "pbld")),
        "bins": Known("whole", low=2, high=MAX_BINS),
        "binning": Known("name", words=("quantile", "target")),
        "frequencies": Known("whole", low=1, high=MAX_EMBEDDING),
        "embedding_size": Known("whole", low=1, high=MAX_EMBEDDING),
        "frequency_scale": Known("number", low=0.0, above_low=True),
        "category_embedding": Known("whole", low=0, high=MAX_EMBEDDING),
        "max_one_hot": Known("whole", low=1, high=MAX_BATCH),
    }
)


@dataclass(frozen=True)
class FloatRange:
    """Real numbers from low to high, both included, on a grid of ``step`` if given."""

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True)
class IntRange:
    """Whole numbers from low to high, both included, ``step`` apart."""

    low: int
    high: int
    log: bool = False
    step: int = 1


@dataclass(frozen=True)
class Choice:
    """One of several values without an order."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Fixed:
    """One value: nothing is searched."""

    value: Value


Domain = FloatRange | IntRange | Choice | Fixed


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter of a space. It applies when every parent in ``when`` has one of the listed values."""

    name: str
    domain: Domain
    when: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    @property
    def constant(self) -> bool:
        """Whether there is only one value, so that nothing has to be suggested."""
        return len(listed(self.domain) or ()) == 1

    @property
    def continuous(self) -> bool:
        """Whether its values cannot be listed."""
        return isinstance(self.domain, FloatRange) and self.domain.step is None


def check_value(name: str, value: Any, key: str | None = None) -> Value:
    """The value of the hyperparameter ``name`` in its canonical type.

    Raises:
        SpaceError: the value is of the wrong type or out of the hyperparameter's range.
    """
    known = KNOWN[name]
    match known.kind:
        case "flag":
            ok = isinstance(value, bool)
        case "name":
            ok = isinstance(value, str) and value in known.words
        case "layers":
            ok = isinstance(value, list | tuple) and len(value) <= MAX_LAYERS and all(map(_is_width, value))
        case "whole":
            ok = (is_whole(value) and known.admits(value)) or (isinstance(value, str) and value in known.words)
        case "number":
            ok = is_number(value) and known.admits(value)
    if not ok:
        remedy = nearest(value, known.words) if known.kind == "name" and isinstance(value, str) else None
        problem = f"{shown(value)} is not a valid {name}: it must be {known.wanted}"
        raise SpaceError(problem if remedy is None else f"{shown(value)} is not a valid {name}", key=key, remedy=remedy)
    if known.kind == "number":
        return float(value)
    return tuple(value) if known.kind == "layers" else value


def listed(domain: Domain) -> tuple[Value, ...] | None:
    """Every value of a domain in order, or None if they cannot or should not be listed (continuous, over 100,000)."""
    match domain:
        case Fixed():
            return (domain.value,)
        case Choice():
            return domain.values
        case IntRange():
            values = range(domain.low, domain.high + 1, domain.step)
            return tuple(values) if len(values) <= 100_000 else None
        case FloatRange(step=None):
            return None
        case FloatRange():
            low, step = Decimal(repr(domain.low)), Decimal(repr(domain.step))
            count = int((Decimal(repr(domain.high)) - low) / step) + 1
            return tuple(float(low + i * step) for i in range(count)) if count <= 100_000 else None


def plain(value: Value) -> Any:
    """A value as plain data: layer widths become a list."""
    return list(value) if isinstance(value, tuple) else value


def to_key(value: Value) -> str | int | float | bool:
    """A value as Optuna's categorical distribution holds it: layer widths as text, ``[128, 128]``."""
    return json.dumps(list(value)) if isinstance(value, tuple) else value


def from_key(name: str, value: Any) -> Any:
    """The value behind ``to_key``'s text; anything else unchanged."""
    if KNOWN[name].kind != "layers" or not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number (true and false are not)."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that fits a float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_width(value: Any) -> bool:
    return is_whole(value) and 1 <= value <= MAX_WIDTH
