"""What a space says of layers and schedules that the rest of a sweep file has to fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sweeper.models.schedules import RISING
from sweeper.search_spaces import Space
from sweeper.search_spaces.vocabulary import FloatRange, IntRange, Value, listed
from sweeper.spec.inputs import as_layers
from sweeper.spec.section import refuse

if TYPE_CHECKING:
    from sweeper.spec.sections import InputsSpec, TrainingSpec

# what decides whether the compiled path trains a configuration (``sweeper.models.compiled.trains``): nothing
DECIDING: tuple[str, ...] = ()


def values_of(space: Space, name: str) -> tuple[Value, ...]:
    """The values that a space has for a parameter, of a range its ends; none where it does not name it."""
    for parameter in space.parameters:
        if parameter.name == name:
            domain = parameter.domain
            if isinstance(domain, FloatRange | IntRange):
                return domain.low, domain.high
            return listed(domain) or ()
    return ()


def largest(space: Space, name: str) -> float:
    """The largest of a parameter's numbers; 0 where the space does not name it."""
    return max((float(value) for value in values_of(space, name) if isinstance(value, int | float)), default=0.0)


def check_schedule(space: Space, training: TrainingSpec) -> None:
    """Refuse a warm-up as long as the training, and a plateau that nothing describes.

    Raises:
        ValueError: of pydantic's kind, with key and remedy.
    """
    warmups = {"training.warmup_epochs": training.warmup_epochs, "space.warmup_epochs": largest(space, "warmup_epochs")}
    for key, epochs in warmups.items():
        if epochs > 0 and epochs >= training.epochs:
            what = f"a warm-up of {epochs:g} epochs leaves none of the {training.epochs}"
            refuse(what, key, f"Use fewer than {training.epochs}")
    if "plateau" in values_of(space, "schedule") and training.plateau is None:
        refuse("its plateau is described by training.plateau, which is null", "space.schedule", "Use constant instead")


def warmup_without_effect(space: Space, training: TrainingSpec) -> str | None:
    """A sentence where a warm-up is asked for and no schedule takes it."""
    schedules = values_of(space, "schedule") or (training.schedule,)
    key = "space" if largest(space, "warmup_epochs") > 0 else "training"
    asked = max(largest(space, "warmup_epochs"), training.warmup_epochs) > 0
    if not asked or not set(schedules) & set(RISING) or (key == "space" and _conditional(space)):
        return None
    own = " and ".join(str(name) for name in schedules if name in RISING)
    return f"{key}.warmup_epochs: it has no effect with {own}, which bring a warm-up of their own."


def _conditional(space: Space) -> bool:
    return any(name == "schedule" for p in space.parameters if p.name == "warmup_epochs" for name, _ in p.when)


def is_compiled(space: Space, training: TrainingSpec, inputs: InputsSpec) -> bool:
    """Whether the compiled path can train all points of a space; one that is a function may hold anything."""
    from sweeper.models.compiled import trains
    from sweeper.models.config import TrialConfig

    if space.is_function:
        return not DECIDING
    usual: dict[str, Any] = {"schedule": training.schedule, "warmup_epochs": training.warmup_epochs}
    usual |= {"numeric_embedding": inputs.numeric_embedding, "category_embedding": inputs.category_embedding}
    points = [usual, *({**usual, name: value} for name in DECIDING for value in values_of(space, name))]
    return all(trains(TrialConfig.from_params(as_layers(point))) for point in points)
