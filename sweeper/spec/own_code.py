"""Which functions of the user's own a sweep file names, as plain data: nothing is run or opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FOLDER = "<sent>"  # stands for the folder of a file that was sent to a server


def code_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The functions by their dotted keys: of a stored spec mappings with ``file``, ``function`` and ``text``.

    Of a sweep file that nobody has checked yet, whatever stands there.
    """
    return dict(_found(data))


def _found(data: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    objective, search, space = _section(data, "objective"), _section(data, "search"), data.get("space")
    if data.get("model") is not None:
        yield "model", data["model"]
    if objective.get("function") is not None:
        yield "objective.function", objective["function"]
    for i, several in enumerate(_items(data.get("objectives"))):
        if isinstance(several, Mapping) and several.get("function") is not None:
            yield f"objectives.{i}.function", several["function"]
    if search.get("own_sampler") is not None:
        yield "search.sampler", search["own_sampler"]
    elif ".py" in str(search.get("sampler")):
        yield "search.sampler", search["sampler"]
    yield from ((f"metrics.{i}", metric) for i, metric in enumerate(_items(data.get("metrics"))))
    if ("function" in space) if isinstance(space, Mapping) else (isinstance(space, str) and ".py" in space.lower()):
        yield "space", space


def _section(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = data.get(key)
    return found if isinstance(found, Mapping) else {}


def _items(found: Any) -> list[Any]:
    """The items of a list; of anything else but nothing, itself."""
    if found in (None, "", {}):
        return []
    return list(found) if isinstance(found, list | tuple) else [found]
