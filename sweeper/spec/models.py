"""The validated form of a sweep file: a frozen pydantic model of its sections, and what holds between them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, InstanceOf, ValidationError, model_validator

from sweeper.errors import SpecError
from sweeper.search_spaces import Space, SpaceError
from sweeper.search_spaces.vocabulary import Choice
from sweeper.spec.dataset import DatasetSpec, SplitSpec, check_split
from sweeper.spec.embeddings import check_embeddings, unread
from sweeper.spec.goals import (
    COSTS,
    METRICS,
    OWN,
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
from sweeper.spec.population import check_population
from sweeper.spec.schedules import check_schedule, is_compiled, largest, warmup_without_effect
from sweeper.spec.search import SearchSpec
from sweeper.spec.section import Section as _Section
from sweeper.spec.section import column, refuse
from sweeper.spec.sections import FinalsSpec, InputsSpec, TrackingSpec, TrainingSpec

if TYPE_CHECKING:
    from sweeper.models.config import TrainConfig, TrialConfig
    from sweeper.models.own_config import ModelData


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
