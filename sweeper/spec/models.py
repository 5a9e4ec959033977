"""The validated form of a sweep file: frozen pydantic models, one per section, with their defaults."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf, ValidationError, model_validator

from sweeper.errors import SpecError
from sweeper.search_spaces import Space, SpaceError
from sweeper.search_spaces.vocabulary import MAX_BINS, MAX_EMBEDDING, Choice
from sweeper.spec.dataset import MAX_SEED, DatasetSpec, SplitSpec, check_split, fold_count
from sweeper.spec.embeddings import check_embeddings, unread
from sweeper.spec.goals import (
    COSTS,
    METRICS,
    OWN,
    Function,
    Limits,
    Objectives,
    ObjectiveSpec,
    Task,
    check_goals,
    natural_direction,
    places_of,
)
from sweeper.spec.inputs import LAYERS, NAMES, Inputs, as_layers
from sweeper.spec.layers import check_layers, normalized_batches, without_effect
from sweeper.spec.metric_files import OwnMetrics
from sweeper.spec.notify import Addresses
from sweeper.spec.objective_file import SECTIONS, ResourcesSpec, check_objective, completed, names_function
from sweeper.spec.own_model import Model, bound, check_model, with_suggestions
from sweeper.spec.phases import Phase
from sweeper.spec.population import KEYS, check_population, with_population
from sweeper.spec.schedules import check_schedule, is_compiled, largest, warmup_without_effect
from sweeper.spec.section import MAX_SECONDS, column, refuse, seconds, text
from sweeper.spec.section import Section as _Section
from sweeper.spec.stop import StopSpec
from sweeper.spec.user_code import UserFunction
from sweeper.spec.user_files import read_function
from sweeper.spec.warm import WarmStart, as_tuple

if TYPE_CHECKING:
    from sweeper.models.config import TrainConfig, TrialConfig
    from sweeper.models.own_config import ModelData

MAX_TRIALS = 1_000_000
TYPICAL_ROWS = 16  # rows that a cohort of a small MLP wants, when its shape is not known yet


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


def _plain(c: str) -> bool:
    """Letters of every script with their marks, digits, and what joins words."""
    return c.isalnum() or c in "._- " or unicodedata.category(c).startswith("M")


def _name(value: Any) -> Any:
    value = column(value)
    if isinstance(value, str):
        value = unicodedata.normalize("NFC", value)
    if not isinstance(value, str) or not 1 <= len(value) <= 100 or not all(map(_plain, value)):
        remedy = "Use 1 to 100 letters, digits, dots, underscores, dashes and spaces"
        refuse(f"{str(value)[:40]!r} is not a name", remedy=remedy)
    if value != value.strip() or value.startswith((".", "-")):
        refuse(f"{value[:40]!r} is not a name", remedy="Start it with a letter or digit and end it without a space")
    return value


def _experiment(value: Any) -> Any:
    """MLflow takes slashes; on Databricks a name is the path of an experiment, such as /Users/me@example.com/digits."""
    if isinstance(value, str) and (value != value.strip() or not value.isprintable() or not value.strip("/")):
        refuse(f"{value[:40]!r} is not a name", remedy="Use printable characters, without spaces around them")
    return value


def _model(value: Any) -> Any:
    if isinstance(value, str) and (not value.strip(" .") or not value.isprintable() or set(value) & set("/:\\")):
        refuse(f"{value[:40]!r} is not a name", remedy="Use printable characters without slashes and colons")
    return value


Reference = Annotated[str, BeforeValidator(text), Field(min_length=1, max_length=200)]
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


def _default_name(data: Mapping[str, Any]) -> str:
    whole = unicodedata.normalize("NFC", f"{data['dataset'].label}-{data['space'].name}")
    name = re.sub("-{2,}", "-", "".join(c if _plain(c) else "-" for c in whole))
    return name.lstrip(".- ")[:100].rstrip() or "sweep"


class SweepSpec(_Section):
    """A whole sweep, as one validated value. ``from_json(spec.to_json())`` equals ``spec``."""

    dataset: DatasetSpec
    space: InstanceOf[Space]
    name: Annotated[str, BeforeValidator(_name)] = Field(default_factory=_default_name)
    split: SplitSpec = Field(default_factory=SplitSpec)
    normalize: Literal["standard", "minmax", "none", "quantile", "robust"] = "standard"
    inputs: InputsSpec = Field(default_factory=InputsSpec)
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    objective: ObjectiveSpec = Field(default_factory=ObjectiveSpec)
    objectives: Objectives = Field(default_factory=lambda data: (data["objective"],), min_length=1)
    constraints: Limits = ()
    metrics: OwnMetrics = ()
    model: Model | None = None
    search: SearchSpec = Field(default_factory=SearchSpec)
    finals: FinalsSpec | None = None
    winner: Literal["best", "ensemble", "folds", "refit"] | None = None
    tracking: TrackingSpec = Field(default_factory=TrackingSpec)
    notify: Addresses = ()
    resources: ResourcesSpec | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_function(cls, data: Any) -> Any:
        """An objective of the user's own needs neither data nor a space."""
        return completed(data) if names_function(data) else data

    @model_validator(mode="before")
    @classmethod
    def _first_objective(cls, data: Any) -> Any:
        """``objectives`` alone says what ``objective`` is: the first of them."""
        data = with_suggestions(data)
        if isinstance(data, dict) and data.get("objectives") and "objective" not in data:
            first = data["objectives"][0] if isinstance(data["objectives"], list | tuple) else None
            return {**data, "objective": first} if isinstance(first, dict | ObjectiveSpec) else data
        return data

    @model_validator(mode="after")
    def _goals(self) -> SweepSpec:
        if self.objectives[0] != self.objective:
            refuse("it has both objective and objectives", "objectives", "Keep one of the two")
        if self.objective.function is not None:
            check_objective(self.objective, self.search)
            return self
        for key in OWN:
            if any(getattr(goal, key) is not None for goal in self.objectives):
                remedy = "Add objective.function, or remove it"
                refuse("only an objective of your own has it", f"objective.{key}", remedy)
        if self.resources is not None:
            refuse("only the trials of an objective of your own are given resources", "resources", "Remove it")
        check_goals(self.objectives, self.constraints, self.search, self.own_names)
        check_split(self.dataset, self.split)
        _check_finals(self)
        check_schedule(self.space, self.training)
        if self.model is None:
            check_layers(self.space, self.training)
        check_model(self)
        check_population(self)
        check_embeddings(self.space, self.inputs)
        if self.winner in ("folds", "refit") and self.split.folds is None:
            what = "networks could be averaged" if self.winner == "folds" else "rows could be trained on together"
            refuse(f"there are no folds whose {what}", "winner", "Set split.folds: 5, or remove it")
        if self.winner == "best" and self.split.folds is not None:
            problem = f"the best trial is {self.split.folds} networks, one of each fold"
            refuse(problem, "winner", "Use folds: the mean of them, or refit: one trained on all their rows")
        if self.search.pruner == "gradient_flow" and self.training.gradient_flow is None:
            refuse("the pruner gradient_flow needs it", "training.gradient_flow", "Measure every epoch: 1")
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data with every default written out; paths are absolute. It is a valid sweep file, too."""
        if self.objective.function is not None:
            own = self.model_dump(mode="json", by_alias=True, include=set(SECTIONS) - {"name"})
            for key in self.search.left_out:
                del own["search"][key]
            return {"name": self.name, **own}
        left_out: dict[str, Any] = {"space": True, "name": True, "resources": True}
        left_out |= {"objective": set(OWN), "objectives": {"__all__": set(OWN)}}
        if len(self.objectives) == 1:
            left_out["objectives"] = True
        left_out["search"] = self.search.left_out
        data = self.model_dump(mode="json", by_alias=True, exclude=left_out)
        return {"name": self.name, **data, "space": self.space.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> SweepSpec:
        """The spec that ``to_json`` described. No file is opened: the data may be gone by now.

        Raises:
            SpecError: the data is not what ``to_json`` writes, e.g. it comes from another version of the program.
        """
        try:
            if names_function(data):
                return cls.model_validate(dict(data))
            return cls.model_validate({**data, "space": Space.from_json(data["space"])})
        except (ValidationError, SpaceError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise SpecError(f"the stored spec cannot be read ({reason})", remedy="Start a new sweep") from error

    @property
    def warnings(self) -> list[str]:
        """What is allowed but probably not meant, one sentence each."""
        found: list[str] = []
        if self.objective.function is not None:
            return found
        metric, direction = self.objective.metric, self.objective.direction
        if direction != natural_direction(metric):
            found.append(f"objective.direction: {direction} {metric} looks for the worst configuration.")
        if metric == "train_loss":
            found.append("objective.metric: train_loss rewards overfitting; val_loss is measured on held-out rows.")
        if (stop := self.search.stop) is not None and (stop.patience or 0) >= self.search.trials:
            found.append(f"search.stop.patience: a sweep of {self.search.trials:,} trials ends before it counts.")
        if self.search.from_ is not None and self.search.sampler in ("random", "sobol", "grid", "pbt"):
            found.append(f"search.from: {self.search.sampler} learns nothing from earlier trials.")
        if (unused := warmup_without_effect(self.space, self.training)) is not None:
            found.append(unused)
        found += unread(self.space, self.inputs)
        found += without_effect(self.space) if self.model is None else ()
        return found

    @property
    def _may_not_smooth(self) -> bool:
        """Whether no label smoothing is one of the values of a choice, so that a space serves both tasks."""
        domains = [p.domain for p in self.space.parameters if p.name == "label_smoothing"]
        return any(0.0 in domain.values for domain in domains if isinstance(domain, Choice))

    @property
    def enqueue(self) -> tuple[Mapping[str, Any], ...]:
        """The points that run first: the sweep's, or where it names none those of the space."""
        return self.space.enqueue if self.search.enqueue is None else self.search.enqueue

    @property
    def own_names(self) -> list[str]:
        """The names of the user's own metrics."""
        return [metric.name for metric in self.metrics]

    @property
    def batch(self) -> int:
        """How many trials are asked at once."""
        return self.search.batch

    def default_window(self, rows: int | None = None) -> int:
        """See ``SearchSpec.default_window``."""
        return self.search.default_window(rows)

    def check_task(self, task: Task, reason: str = "") -> None:
        """Refuse an objective or a constraint on a metric that the task does not have; ``reason``: why it is this one.

        Raises:
            SpecError: for example ``val_accuracy`` of a regression.
        """
        valid = (*METRICS["regression" if task == "regression" else "classification"], *self.own_names)
        several = len(self.objectives) > 1 or self.constraints
        remedy = f"Valid: {', '.join((*valid, *COSTS) if several else valid)}"
        other: Task = "classification" if task == "regression" else "regression"
        for key, metric in places_of(self.objectives, self.constraints):
            if metric not in (*valid, *COSTS):
                problem = f"a {task} has no {metric}"
                if metric in METRICS[other] and self.dataset.path is not None:
                    problem += f", and this is one: {reason}" if reason else ""
                    remedy = f"Set dataset.task: {other}, or use another metric. {remedy}"
                raise SpecError(problem, key=key, remedy=remedy)
        if task == "regression" and largest(self.space, "label_smoothing") > 0 and not self._may_not_smooth:
            raise SpecError("a regression has no labels to smooth", key="space.label_smoothing", remedy="Remove it")

    def train_config(self, task: Task, params: Mapping[str, Any] | None = None) -> TrainConfig:
        """The training rules of a trial: the sweep's, with the batch size of ``params`` where the space searches it.

        The best epoch is that of the first objective where it is measured on the validation rows, else of val_loss.
        """
        from sweeper.models.config import PlateauConfig, TrainConfig

        plateau, goal = self.training.plateau, self.objective
        watched = goal.metric.startswith("val_")
        return TrainConfig(
            epochs=self.training.epochs,
            batch_size=(params or {}).get("batch_size", self.training.batch_size),
            clip_norm=self.training.clip_norm,
            schedule=self.training.schedule,
            warmup_epochs=self.training.warmup_epochs,
            plateau=None if plateau is None else PlateauConfig(**plateau.model_dump()),
            task=task,
            gradient_flow=self.training.gradient_flow if self.model is None else None,
            keep=self.training.keep,
            patience=self.training.patience,
            monitor=goal.metric if watched else "val_loss",
            minimize=goal.direction == "minimize" or not watched,
        )

    def inputs_of(self, params: Mapping[str, Any]) -> Inputs:
        """How a trial's columns become its inputs: as the sweep file says, but for what the space searches."""
        said = {"normalize": self.normalize, **self.inputs.model_dump()}
        return Inputs.of({name: params.get(name, value) for name, value in said.items()})

    @property
    def plain_inputs(self) -> Inputs:
        """The inputs that baselines are given, and those that the dataset itself holds."""
        return self.inputs_of({}).plain

    @property
    def prepares(self) -> bool:
        """Whether a trial may have other inputs than the plain ones, so that the rows have to be kept as they were."""
        searched = self.space.is_function or any(p.name in NAMES for p in self.space.parameters)
        return searched or self.inputs_of({}) != self.plain_inputs

    @property
    def normalized_batches(self) -> tuple[str, tuple[Any, ...]]:
        """What sizes of a minibatch a trial with batch normalization may have, and the key that says so."""
        return normalized_batches(self.space, self.training) if self.model is None else ("", ())

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled path can train all trials; others are computed by torch."""
        return self.model is None and is_compiled(self.space, self.training, self.inputs)

    def space_on(self, facts: Callable[[Mapping[str, Any]], ModelData]) -> Space:
        """The space once the data is known: ``facts`` says of a trial's parameters what its model has to fit."""
        return bound(self.space, facts)

    def trial_config(self, params: Mapping[str, Any]) -> TrialConfig:
        """The configuration that a trial's parameters stand for.

        Raises:
            SpecError: an unknown parameter or a value out of range.
        """
        from sweeper.models.config import TrialConfig

        said = {name: params.get(name, getattr(self.inputs, name)) for name in LAYERS}
        of_network = {name: value for name, value in params.items() if name not in NAMES}
        try:
            if self.model is not None:
                return self.model.config(of_network)
            return TrialConfig.from_params(as_layers(of_network | said))
        except (ValueError, TypeError) as error:
            raise SpecError(str(error), key="space") from error

    def configs_of(self, schedule: Sequence[Phase]) -> tuple[TrialConfig, list[tuple[int, TrialConfig]]]:
        """The configuration that a schedule begins with, and those that follow with their epochs.

        Raises:
            SpecError: as ``trial_config``.
        """
        first, *later = schedule
        return self.trial_config(first.params), [(phase.epoch, self.trial_config(phase.params)) for phase in later]


def _check_finals(spec: SweepSpec) -> None:
    """Refuse finals in folds of rows that must not be drawn at random."""
    if spec.finals is None:
        return
    if spec.finals.folds is None:
        if spec.finals.repeats > 1:
            refuse("only folds are repeated", "finals.repeats", "Add finals.folds, such as 5, or remove it")
        return
    if spec.split.time is not None:
        why = "it would judge models on rows from before those they were trained on, which split.time rules out"
        refuse(why, "finals.folds", "Remove it: finals on fresh seeds are judged on the latest rows")
