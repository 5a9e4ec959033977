"""Checks points that a user gives for a space: whole or partial, every value inside its parameter's domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sweeper.search_spaces.errors import Problem, SpaceError, shown
from sweeper.search_spaces.names import nearest
from sweeper.search_spaces.vocabulary import FloatRange, IntRange, Parameter, check_value, listed, plain


def check_points(parameters: Sequence[Parameter], points: Any, key: str = "enqueue") -> tuple[dict[str, Any], ...]:
    """A list of points in canonical types.

    Raises:
        SpaceError: with every problem found.
    """
    if not isinstance(points, list | tuple):
        raise SpaceError(f"{shown(points)} is not a list of points", key=key, remedy="Write [{learning_rate: 3e-4}]")
    problems: list[Problem] = []
    checked = []
    for i, point in enumerate(points):
        try:
            checked.append(check_point(parameters, point, f"{key}.{i}"))
        except SpaceError as error:
            problems += error.problems
    if problems:
        raise SpaceError.many(problems)
    return tuple(checked)


def check_point(parameters: Sequence[Parameter], point: Any, key: str) -> dict[str, Any]:
    """One point in canonical types, its parameters in the order of the space; ``key`` is where it stands.

    Raises:
        SpaceError: an unknown parameter, a value outside its domain, or one that the other values rule out.
    """
    if not isinstance(point, Mapping):
        raise SpaceError(f"{shown(point)} is not a point", key=key, remedy="Write {learning_rate: 3e-4}")
    known = {p.name: p for p in parameters}
    for name in point:
        if name not in known:
            remedy = nearest(name, known)
            raise SpaceError("not a parameter of this space", key=f"{key}.{name}"[:100], remedy=remedy)
    values: dict[str, Any] = {}
    for p in parameters:
        if p.name in point:
            place = f"{key}.{p.name}"
            value = check_value(p.name, point[p.name], place)
            if not contains(p, value):
                remedy = "Use a value of the space, or widen the space"
                raise SpaceError(f"{shown(plain(value))} is not in the space", key=place, remedy=remedy)
            values[p.name] = value
    for p in parameters:
        for parent, wanted in p.when:
            given = values.get(parent, _constant(known[parent]))
            if p.name in values and given is not None and given not in wanted:
                what = f"it does not apply when {parent} is {shown(plain(given))}"
                raise SpaceError(what, key=f"{key}.{p.name}", remedy=f"Remove it, or change {parent}")
    return {name: plain(value) for name, value in values.items()}


def contains(parameter: Parameter, value: Any) -> bool:
    """Whether a value in canonical type lies in the parameter's domain."""
    domain = parameter.domain
    values = listed(domain)
    if values is not None:
        return value in values
    if not isinstance(domain, FloatRange | IntRange) or isinstance(value, str | bool | tuple):
        return False
    if not domain.low <= value <= domain.high:
        return False
    return domain.step is None or (Decimal(repr(value)) - Decimal(repr(domain.low))) % Decimal(repr(domain.step)) == 0


def _constant(parameter: Parameter) -> Any:
    values = listed(parameter.domain) or ()
    return values[0] if len(values) == 1 and not parameter.when else None
