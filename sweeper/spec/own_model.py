"""The user's own model of a sweep: its function, what it adds to the space, and what is refused beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, InstanceOf, PlainSerializer

from sweeper.models.own_config import TRAINING, Asked, ModelData, OwnConfig, TrialError
from sweeper.search_spaces import Space, SpaceError
from sweeper.spec.inputs import NAMES
from sweeper.spec.schedules import values_of
from sweeper.spec.section import refuse
from sweeper.spec.user_code import UserFunction
from sweeper.spec.user_files import read_function, stored_function

if TYPE_CHECKING:
    from sweeper.spec.models import SweepSpec

KEY = "model"
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam", "adamw", "nadam", "adagrad")  # columns of any weights


@dataclass(frozen=True)
class OwnModel:
    """``function(trial, data) -> nn.Module``. ``fuse``: trials of one structure train side by side.

    It is decided once, when the sweep is created, and stays: whether that was faster then.
    """

    function: UserFunction
    fuse: bool = True

    def config(self, params: Mapping[str, Any]) -> OwnConfig:
        """The configuration of a trial's parameters.

        Raises:
            ValueError: a value out of its range.
        """
        return OwnConfig.of(params, self.function, self.fuse)


@dataclass(frozen=True)
class Suggesting:
    """What the function asks of a trial, as the last part of a space. ``facts`` says what its data is for parameters.

    It is known when a sweep's data is (None: not yet).
    """

    function: UserFunction
    facts: Callable[[Mapping[str, Any]], ModelData] | None = None

    @property
    def ready(self) -> bool:
        """Whether the data is known."""
        return self.facts is not None

    def suggest(self, trial: Any, params: Mapping[str, Any]) -> dict[str, Any]:
        """What the function suggests beside ``params``; the module that it builds is thrown away.

        Raises:
            SpaceError: it raised, or asked for what a sweep cannot give.
        """
        from sweeper.models.own_row import seeded

        if self.facts is None:
            raise SpaceError("the model's own hyperparameters are known when the data is", key=self.function.function)
        asked = Asked(trial, (*TRAINING, *NAMES))
        try:
            with seeded(0):
                self.function(asked, self.facts(params))
        except TrialError as error:
            line = self.function.line_of(error)
            where = "" if line is None else f"line {line}: "
            raise SpaceError(f"{where}{error}", key=self.function.function, file=self.function.file) from error
        except (Exception, SystemExit) as error:
            problem = self.function.happened(error)
            raise SpaceError(problem, key=self.function.function, file=self.function.file) from error
        return asked.values


def read_model(value: Any) -> OwnModel:
    """The model that a text ``my_model.py:build``, a Python function or a stored spec names; nothing is run."""
    if isinstance(value, OwnModel):
        return value
    if isinstance(value, Mapping):
        rest = {name: item for name, item in value.items() if name != "fuse"}
        fuse = value.get("fuse", True)
        if not isinstance(fuse, bool):
            refuse("it must be true or false", "fuse")
        return OwnModel(read_function(rest), fuse)
    return OwnModel(read_function(value))


def _stored(model: OwnModel) -> dict[str, Any]:
    return {**stored_function(model.function), "fuse": model.fuse}


Model = Annotated[InstanceOf[OwnModel], BeforeValidator(read_model), PlainSerializer(_stored)]


def with_suggestions(data: Any) -> Any:
    """The space of a sweep's raw sections with what the model's function suggests."""
    if not isinstance(data, dict) or data.get(KEY) is None or not isinstance(data.get("space"), Space):
        return data
    model = data[KEY] if isinstance(data[KEY], OwnModel) else None
    if model is None:
        try:
            model = read_model(data[KEY])
        except ValueError:
            return data  # the field's own validator says what is wrong
    return {**data, KEY: model, "space": replace(data["space"], build=Suggesting(model.function))}


def check_model(spec: SweepSpec) -> None:
    """Refuse what does not go with a model of the user's own."""
    if spec.model is None:
        return
    for parameter in spec.space.parameters:
        if parameter.name not in (*TRAINING, *NAMES):
            what = f"{parameter.name} is a hyperparameter of the MLP, and the model is your own"
            refuse(what, f"space.{parameter.name}", f"Remove it; {spec.model.function.function} may suggest one")
    embeddings = {*values_of(spec.space, "numeric_embedding"), spec.inputs.numeric_embedding}
    if embeddings - {"none", "piecewise_linear"} or spec.inputs.category_embedding:
        key = "category_embedding" if spec.inputs.category_embedding else "numeric_embedding"
        refuse("it is a layer of the MLP, and the model is your own", f"inputs.{key}", "Remove it")
    others = [str(name) for name in values_of(spec.space, "optimizer") if name not in OPTIMIZERS]
    if others:
        remedy = f"Valid: {', '.join(OPTIMIZERS)}"
        refuse(f"{others[0]} does not train a model of your own", "space.optimizer", remedy)
    if spec.search.pruner == "gradient_flow":
        refuse("it looks at the layers of an MLP", "search.pruner", "Use another pruner, such as median")
    if spec.search.sampler == "grid":
        refuse("the hyperparameters of a function have no grid", "search.sampler", "Use another sampler, such as tpe")


def bound(space: Space, facts: Callable[[Mapping[str, Any]], ModelData]) -> Space:
    """The space of a sweep whose data is known."""
    return replace(space, build=replace(space.build, facts=facts)) if isinstance(space.build, Suggesting) else space
