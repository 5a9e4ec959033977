"""A trial of the user's own model: how it is trained, and what the model's function is given. Needs no torch.

The function is ``build(trial, data) -> nn.Module``; what it asks of ``trial`` are hyperparameters of the sweep.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sweeper.models.config import Task, TrialConfig

if TYPE_CHECKING:
    from torch import nn

# how any network is trained; the other fields of a TrialConfig are of an MLP's layers
TRAINING = (
    *("learning_rate", "optimizer", "momentum", "nesterov", "beta1", "beta2", "weight_decay", "batch_size"),
    *("clip_norm", "label_smoothing", "schedule", "warmup_epochs", "ema_decay"),
)


class Builder(Protocol):
    """The user's function, which can be pickled, and how its errors are put into words."""

    @property
    def file(self) -> str:
        """The file that it lies in."""
        ...

    @property
    def function(self) -> str:
        """Its name."""
        ...

    @property
    def text(self) -> str:
        """The text of the file."""
        ...

    @property
    def pickled(self) -> str:
        """Of a function that lies in no file, what cloudpickle makes of it, in base64."""
        ...

    def __call__(self, *args: Any) -> Any:
        """The module that it builds for (trial, data)."""
        ...

    def happened(self, error: BaseException) -> str:
        """An error of the user's code with file and line."""
        ...

    def line_of(self, error: BaseException) -> int | None:
        """The last line of its file that an error came through."""
        ...


@dataclass(frozen=True)
class ModelData:
    """What a model has to fit: inputs of one row, outputs (classes, or 1 for a regression), and the task."""

    n_inputs: int
    n_outputs: int
    task: Task

    @classmethod
    def of(cls, n_inputs: int, n_outputs: int) -> ModelData:
        """A single output is a regression's."""
        return cls(n_inputs, n_outputs, "regression" if n_outputs == 1 else "classification")


@dataclass(frozen=True)
class OwnConfig(TrialConfig):
    """One hyperparameter point of the user's own model.

    Its fields from ``TrialConfig`` say how it is trained; those of the MLP's layers are not read. ``own`` are the
    values that ``builder`` asked for, by name. ``fuse``: trials of one structure train side by side where that gives
    the same numbers (``own_fused.py``); otherwise each trains by itself.
    """

    builder: Builder | None = None
    own: tuple[tuple[str, Any], ...] = ()
    fuse: bool = True
    hidden_layers: tuple[int, ...] = ()

    @classmethod
    def of(cls, params: Mapping[str, Any], builder: Builder, fuse: bool = True) -> OwnConfig:
        """The configuration of suggested parameters: the names in ``TRAINING``, all others the model's own.

        Raises:
            ValueError: a value out of its range.
        """
        training = {name: value for name, value in params.items() if name in TRAINING}
        own = tuple((name, value) for name, value in params.items() if name not in TRAINING)
        return cls(**training, builder=builder, own=own, fuse=fuse)

    def build(self, n_inputs: int, n_outputs: int) -> nn.Module:
        """The user's module, whatever the function raises; the caller seeds torch's generator."""
        assert self.builder is not None
        module: nn.Module = self.builder(Answers(dict(self.own)), ModelData.of(n_inputs, n_outputs))
        return module


class TrialError(ValueError):
    """``build`` asked its trial for something that a sweep cannot give."""


class Asked:
    """The trial that ``build`` is given while the sweep is suggesting: it asks ``trial``, an Optuna trial, and notes.

    ``values`` are the answers by name.
    """

    def __init__(self, trial: Any, refused: Sequence[str] = TRAINING) -> None:
        self._trial, self._refused = trial, refused
        self.values: dict[str, Any] = {}

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number from low to high, both included."""
        return float(self._noted(name, self._trial.suggest_float(self._known(name), low, high, step=step, log=log)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """A whole number from low to high, both included."""
        return int(self._noted(name, self._trial.suggest_int(self._known(name), low, high, step=step, log=log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of ``choices``: texts, numbers, true and false, or None."""
        check_choices(name, choices)
        return self._noted(name, self._trial.suggest_categorical(self._known(name), choices))

    @property
    def params(self) -> dict[str, Any]:
        """What has been asked so far."""
        return dict(self.values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_lacks(name))

    def _known(self, name: str) -> str:
        if not isinstance(name, str) or not 1 <= len(name) <= 200:
            raise TrialError(f"{str(name)[:60]!r} is no name of a hyperparameter")
        if name in self._refused:
            what = f"{name} says how a sweep trains: put it into the space, and do not suggest it in build"
            raise TrialError(what)
        return name

    def _noted(self, name: str, value: Any) -> Any:
        if name in self.values and self.values[name] != value:
            raise TrialError(f"{name} is suggested twice")
        self.values[name] = value
        return value


class Answers:
    """The trial that ``build`` is given while a trial trains: it answers with the trial's own values."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """The trial's value."""
        return float(self._value(name))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """The trial's value."""
        return int(self._value(name))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """The trial's value."""
        check_choices(name, choices)
        return self._value(name)

    @property
    def params(self) -> dict[str, Any]:
        """The trial's values."""
        return dict(self._values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_lacks(name))

    def _value(self, name: str) -> Any:
        if name not in self._values:
            raise TrialError(f"{name} was not suggested when this trial was asked: build depends on something else")
        return self._values[name]


def check_choices(name: str, choices: Sequence[Any]) -> None:
    """Refuse choices that a ledger cannot hold.

    Raises:
        TrialError: one of them is neither a text, a finite number, a truth value nor None.
    """
    for choice in choices:
        number = isinstance(choice, int | float) and math.isfinite(choice)
        if not (choice is None or isinstance(choice, str | bool) or number):
            shown = f"{type(choice).__name__} {str(choice)[:40]!r}"
            raise TrialError(f"{name} has the choice {shown}: choose by a text or a number, and look the rest up by it")


def _lacks(name: str) -> str:
    return f"build's trial has suggest_float, suggest_int and suggest_categorical, no {name}"
