"""The section ``search`` of a sweep file: which trials there are, and when there are enough."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sweeper.spec.dataset import MAX_SEED
from sweeper.spec.goals import Function
from sweeper.spec.population import KEYS, with_population
from sweeper.spec.section import MAX_SECONDS, refuse, seconds, text
from sweeper.spec.section import Section as _Section
from sweeper.spec.stop import StopSpec
from sweeper.spec.user_code import UserFunction
from sweeper.spec.user_files import read_function
from sweeper.spec.warm import WarmStart, as_tuple

MAX_TRIALS = 1_000_000
TYPICAL_ROWS = 16  # rows that a cohort of a small MLP wants, when its shape is not known yet

Reference = Annotated[str, BeforeValidator(text), Field(min_length=1, max_length=200)]


class SearchSpec(_Section):
    """How trials are chosen and stopped. ``timeout`` is in seconds; ``window`` of None follows from the shape.

    ``enqueue`` holds points, whole or partial, that run first (None: those of the space). ``from_`` names an earlier
    sweep to learn from, written ``from``; ``warm`` is what was taken from it when this sweep was created. With
    ``pbt`` the trials are a ``population``, whose worst copy the best every ``ready`` epochs.
    """

    sampler: Literal["tpe", "random", "sobol", "grid", "gp", "cmaes", "own", "pbt"] = "tpe"
    own_sampler: Function | None = None
    pruner: Literal["none", "median", "percentile", "asha", "halving", "hyperband", "plateau", "gradient_flow"] = "none"
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)] = 256
    timeout: Annotated[float, BeforeValidator(seconds), Field(gt=0, le=MAX_SECONDS)] | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    window: Annotated[int, Field(ge=1, le=MAX_TRIALS)] | None = None
    deterministic: bool = True
    enqueue: Annotated[tuple[dict[str, Any], ...], BeforeValidator(as_tuple)] | None = None
    from_: Annotated[Reference | None, Field(alias="from")] = None
    warm: WarmStart | None = None
    stop: StopSpec | None = None
    population: Annotated[int, Field(ge=2, le=MAX_TRIALS)] | None = None
    ready: Annotated[int, Field(ge=1, le=1_000_000)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _population(cls, data: Any) -> Any:
        """Of ``population`` and ``trials`` one is enough."""
        return with_population(data) if isinstance(data, dict) else data

    @model_validator(mode="before")
    @classmethod
    def _own(cls, data: Any) -> Any:
        """``sampler: my_sampler.py:make`` names a function that makes one of Optuna's kind."""
        if not isinstance(data, dict):
            return data
        named = data.get("sampler")
        if isinstance(named, UserFunction) or callable(named) or (isinstance(named, str) and ".py" in named):
            return {**data, "sampler": "own", "own_sampler": read_function(named)}
        return data

    @model_validator(mode="after")
    def _named(self) -> SearchSpec:
        if (self.sampler == "own") != (self.own_sampler is not None):
            refuse("own is no sampler", "sampler", "Write my_sampler.py:make for one of your own")
        return self

    @property
    def to_resolve(self) -> bool:
        """Whether the earlier sweep's trials have not been taken over yet."""
        return self.from_ is not None and (self.warm is None or self.warm.asked != self.from_)

    @property
    def left_out(self) -> set[str]:
        """What is not written where it is not set."""
        return {key for key in ("own_sampler", *KEYS) if getattr(self, key) is None}

    def default_window(self, rows: int | None = None) -> int:
        """How many trials may be pending when the next one is suggested: ``window``, or one from the cohort's rows.

        ``rows`` is what a cohort of the sweep's shape wants; it must never depend on the number of workers.
        """
        if self.window is not None:
            return self.window
        wanted = min(max(rows or TYPICAL_ROWS, 4), 32)
        return max(8, min(4 * wanted, self.trials // 4))

    @property
    def batch(self) -> int:
        """How many trials are asked at once: a quarter of the window."""
        return max(1, self.default_window() // 4)
