"""What a sweep file says of embeddings that cannot be, or that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sweeper.search_spaces import Space
from sweeper.search_spaces.vocabulary import Parameter
from sweeper.spec.schedules import largest, values_of
from sweeper.spec.section import refuse

if TYPE_CHECKING:
    from sweeper.spec.sections import InputsSpec

PERIODIC = ("plr", "pbld")
READ_BY = {  # the values of numeric_embedding that read a setting
    **dict.fromkeys(("bins", "binning"), ("piecewise_linear",)),
    **dict.fromkeys(("frequencies", "embedding_size", "frequency_scale"), PERIODIC),
}


def check_embeddings(space: Space, inputs: InputsSpec) -> None:
    """Refuse an embedding by pbld in size 1, which would be the number itself.

    Raises:
        ValueError: of pydantic's kind, with key and remedy.
    """
    if space.is_function or "pbld" not in _kinds(space, inputs):
        return
    searched = next((p for p in space.parameters if p.name == "embedding_size"), None)
    if searched is not None and _may_meet(searched, "pbld"):
        key, sizes = "space.embedding_size", values_of(space, "embedding_size")
    else:
        key, sizes = "inputs.embedding_size", (inputs.embedding_size,)
    if 1 in sizes:
        refuse("of 1 output, pbld makes the number itself: nothing would be embedded", key, "Use 2 or more")


def unread(space: Space, inputs: InputsSpec) -> Iterator[str]:
    """A sentence for each setting of an embedding that no trial has."""
    if space.is_function:
        return
    kinds, named = _kinds(space, inputs), {p.name for p in space.parameters}
    for name, readers in READ_BY.items():
        key = f"space.{name}" if name in named else f"inputs.{name}"
        if (name in named or name in inputs.model_fields_set) and not kinds & set(readers):
            yield f"{key}: it has no effect without numeric_embedding: {' or '.join(readers)}."
    said = "max_one_hot" in named or "max_one_hot" in inputs.model_fields_set
    if said and not max(largest(space, "category_embedding"), inputs.category_embedding):
        key = "space" if "max_one_hot" in named else "inputs"
        yield f"{key}.max_one_hot: it has no effect without category_embedding, the size of embeddings."


def _kinds(space: Space, inputs: InputsSpec) -> set[Any]:
    return set(values_of(space, "numeric_embedding") or (inputs.numeric_embedding,))


def _may_meet(parameter: Parameter, kind: str) -> bool:
    """Whether a parameter may count in a trial with this ``numeric_embedding``."""
    return all(name != "numeric_embedding" or kind in values for name, values in parameter.when)
