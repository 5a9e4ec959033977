"""The sections ``training``, ``inputs``, ``finals`` and ``tracking`` of a sweep file, with their defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from sweeper.search_spaces.vocabulary import MAX_BINS, MAX_EMBEDDING
from sweeper.spec.dataset import MAX_SEED, fold_count
from sweeper.spec.section import Section as _Section
from sweeper.spec.section import refuse


def _batch(value: Any) -> Any:
    if value == "full" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_SEED):
        return value
    refuse(f"{str(value)[:40]!r} is not a batch size", remedy='Write a whole number of 1 or more, or "full"')


def _class_weights(value: Any) -> Any:
    """``balanced``, or labels as texts with a weight each; a label that is a number reads as one in YAML."""
    if value is None or value == "balanced":
        return value
    remedy = "Write balanced, or labels with their weights such as {yes: 2.0, no: 1.0}"
    if not isinstance(value, Mapping) or not value:
        refuse(f"{str(value)[:40]!r} is not valid", remedy=remedy)
    found = {}
    for label, weight in value.items():
        name = str(int(label)) if isinstance(label, float) and label.is_integer() else str(label)
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight <= 0:
            refuse(f"the weight {str(weight)[:40]!r} of {name[:40]!r} is no number above 0", remedy=remedy)
        found[name] = float(weight)
    return found


def _experiment(value: Any) -> Any:
    """MLflow takes slashes; on Databricks a name is the path of an experiment, such as /Users/me@example.com/digits."""
    if isinstance(value, str) and (value != value.strip() or not value.isprintable() or not value.strip("/")):
        refuse(f"{value[:40]!r} is not a name", remedy="Use printable characters, without spaces around them")
    return value


def _model(value: Any) -> Any:
    if isinstance(value, str) and (not value.strip(" .") or not value.isprintable() or set(value) & set("/:\\")):
        refuse(f"{value[:40]!r} is not a name", remedy="Use printable characters without slashes and colons")
    return value


Experiment = Annotated[str, BeforeValidator(_experiment), Field(max_length=250)]
ModelName = Annotated[str, BeforeValidator(_model), Field(max_length=250)]


class PlateauSpec(_Section):
    """When the learning rate is reduced; see ``sweeper.models.PlateauConfig``."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Annotated[int, Field(ge=0, le=1_000_000)] = 3
    min_lr: Annotated[float, Field(ge=0)] = 1e-6
    threshold: Annotated[float, Field(ge=0, lt=1)] = 1e-4
    cooldown: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class TrainingSpec(_Section):
    """What all trials share while they train, on ``replicates`` seeds each. ``clip_norm``, ``plateau`` may be null.

    ``gradient_flow`` is the number of epochs from one measurement of the layers to the next (null: none). ``keep``: a
    trial's value, metrics and weights are those of its best epoch by the objective's metric, or of its last. With
    ``patience`` N a trial is complete when N epochs in a row were not the best so far (null: it trains them all).
    The learning rate follows ``schedule``, after it has risen for ``warmup_epochs``, where the space does not search
    them; a plateau is that of ``plateau``, and without it the rate stays. ``class_weights`` say how much the training
    rows of a class count: ``balanced``, or label to weight (default 1).
    """

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    batch_size: Annotated[int | str, BeforeValidator(_batch)] = 64
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    schedule: Literal["constant", "plateau", "cosine", "one_cycle", "coslog4"] = "plateau"
    warmup_epochs: Annotated[float, Field(ge=0, le=1_000_000)] = 0.0
    plateau: PlateauSpec | None = Field(default_factory=PlateauSpec)
    replicates: Annotated[int, Field(ge=1, le=1000)] = 1
    gradient_flow: Annotated[int, Field(ge=1, le=1_000_000)] | None = 1
    keep: Literal["best", "last"] = "best"
    patience: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    class_weights: Annotated[Literal["balanced"] | dict[str, float], BeforeValidator(_class_weights)] | None = None


class InputsSpec(_Section):
    """What all trials of a sweep do with their columns, where the space does not search it.

    ``missing_indicator`` adds an input for each number column with missing values: 1 where one is missing. With
    ``numeric_embedding: piecewise_linear`` a number becomes at most ``bins`` inputs (Gorishniy et al. 2022, On
    Embeddings for Numerical Features in Tabular Deep Learning); ``binning`` says where the bins end: at quantiles of
    the training rows, or where a decision tree for the target would cut. With ``plr`` and ``pbld`` the network has a
    layer that embeds each number in ``embedding_size`` by ``frequencies``, drawn from N(0, ``frequency_scale``^2); with
    ``category_embedding`` one that embeds texts with more than ``max_one_hot`` values in this size (0: none).
    """

    missing_indicator: bool = False
    numeric_embedding: Literal["none", "piecewise_linear", "plr", "pbld"] = "none"
    bins: Annotated[int, Field(ge=2, le=MAX_BINS)] = 16
    binning: Literal["quantile", "target"] = "quantile"
    frequencies: Annotated[int, Field(ge=1, le=MAX_EMBEDDING)] = 48
    embedding_size: Annotated[int, Field(ge=1, le=MAX_EMBEDDING)] = 24
    frequency_scale: Annotated[float, Field(gt=0)] = 0.01
    category_embedding: Annotated[int, Field(ge=0, le=MAX_EMBEDDING)] = 0
    max_one_hot: Annotated[int, Field(ge=1, le=MAX_SEED)] = 9


class FinalsSpec(_Section):
    """Train the ``top`` trials again on ``seeds`` fresh seeds each, or in ``folds``.

    Then all rows are cut into ``folds`` parts, ``repeats`` times anew; each part is left out once, and judges what is
    trained on the others. Every such training has a fresh seed of its own, and ``seeds`` does not apply.
    """

    top: Annotated[int, Field(ge=1, le=1000)] = 5
    seeds: Annotated[int, Field(ge=1, le=1000)] = 10
    folds: Annotated[int, BeforeValidator(fold_count)] | None = None
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1

    @property
    def trainings(self) -> int:
        """Trainings of each finalist."""
        return self.seeds if self.folds is None else self.folds * self.repeats


class TrackingSpec(_Section):
    """The MLflow experiment, and the name under which the winner is registered; None: the default, not registered.

    A sweep of more than ``trials`` trials has runs for about so many of them only.
    """

    experiment: Experiment | None = None
    register_model: ModelName | None = None
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
