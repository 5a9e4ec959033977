"""Turns the plain data of a space file into parameters, reporting everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from typing import Any

from sweeper.search_spaces.errors import Problem, SpaceError, shown
from sweeper.search_spaces.names import nearest
from sweeper.search_spaces.vocabulary import (
    KNOWN,
    Choice,
    Domain,
    Fixed,
    FloatRange,
    IntRange,
    Parameter,
    Value,
    check_value,
    is_number,
    is_whole,
    listed,
)

_DOMAINS = ("float", "int", "choice", "value")
_WORDS = (*_DOMAINS, "log", "step", "when")
MAX_STEPS = 1_000_000_000


def parse_parameters(items: Iterable[tuple[Any, Any]]) -> tuple[Parameter, ...]:
    """The parameters of a space, in file order except that a parameter follows those its ``when`` names.

    Raises:
        SpaceError: with every problem found.
    """
    problems: list[Problem] = []
    parsed: dict[str, Parameter] = {}
    for name, definition in items:
        try:
            if not isinstance(name, str) or name not in KNOWN:
                raise SpaceError("not a hyperparameter", key=str(name)[:100], remedy=nearest(name, KNOWN))
            if name in parsed:
                raise SpaceError("it is written twice", key=name, remedy="Keep one of the two")
            parsed[name] = _parameter(name, definition)
        except SpaceError as error:
            problems += error.problems
    if not parsed and not problems:
        raise SpaceError("the space is empty", remedy="Name at least one hyperparameter, such as learning_rate")
    if not problems:
        problems = _relations(parsed)
    if problems:
        raise SpaceError.many(problems)
    return _ordered(parsed)


def _parameter(name: str, definition: Any) -> Parameter:
    if not isinstance(definition, Mapping):
        return Parameter(name, Fixed(_fixed(name, definition, name)))
    for word in definition:
        if word not in _WORDS:
            raise SpaceError("unknown key", key=f"{name}.{word}"[:100], remedy=nearest(word, _WORDS))
    kinds = [word for word in _DOMAINS if word in definition]
    if len(kinds) != 1:
        problem = f"it has {' and '.join(kinds)}" if kinds else "it has no values"
        raise SpaceError(problem, key=name, remedy=f"Give exactly one of {', '.join(_DOMAINS)}")
    kind = kinds[0]
    for word in ("log", "step"):
        if word in definition and kind not in ("float", "int"):
            raise SpaceError(f"{word} has no meaning for {kind}", key=f"{name}.{word}", remedy="Remove it")
    return Parameter(name, _domain(name, kind, definition), _when(name, definition.get("when", {})))


def _domain(name: str, kind: str, definition: Mapping[str, Any]) -> Domain:
    key, content = f"{name}.{kind}", definition[kind]
    if kind == "value":
        return Fixed(_fixed(name, content, key))
    if kind == "choice":
        return _choice(name, content, key)
    return _range(name, kind, definition)


def _fixed(name: str, value: Any, key: str) -> Value:
    nested = isinstance(value, list | tuple) and any(isinstance(item, list | tuple) for item in value)
    if nested or (isinstance(value, list | tuple) and KNOWN[name].kind != "layers"):
        remedy = f"To search over values write {{choice: {shown(value)}}}"
        raise SpaceError(f"{shown(value)} is a list", key=key, remedy=remedy)
    return check_value(name, value, key)


def _choice(name: str, content: Any, key: str) -> Choice:
    if not isinstance(content, list | tuple) or not content:
        example = "[[128, 128], [64]]" if KNOWN[name].kind == "layers" else "[...]"
        raise SpaceError(f"{shown(content)} is not a list of values", key=key, remedy=f"Write {{choice: {example}}}")
    values = tuple(check_value(name, value, key) for value in content)
    for i, value in enumerate(values):
        if value in values[:i]:
            raise SpaceError(f"{shown(content[i])} is listed twice", key=key, remedy="Keep one of the two")
    return Choice(values)


def _range(name: str, kind: str, definition: Mapping[str, Any]) -> FloatRange | IntRange:
    known, key, bounds = KNOWN[name], f"{name}.{kind}", definition[kind]
    fitting = {"number": "float", "whole": "int"}.get(known.kind, "choice")
    if kind != fitting:
        raise SpaceError(f"{name} has no {kind} range", key=key, remedy=f"Use {fitting}: {name} is {known.wanted}")
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise SpaceError(f"{shown(bounds)} is not a range", key=key, remedy=f"Write {{{kind}: [low, high]}}")
    check = is_whole if kind == "int" else is_number
    for bound in bounds:
        if not check(bound):
            raise SpaceError(f"the bound {shown(bound)} is not a {'whole ' if kind == 'int' else ''}number", key=key)
    log, step = definition.get("log", False), definition.get("step")
    if not isinstance(log, bool):
        raise SpaceError(f"{shown(log)} is neither true nor false", key=f"{name}.log")
    low, high = bounds
    if low == high:
        raise SpaceError(f"{shown(bounds)} is empty", key=key, remedy=f"For one value write {name}: {shown(low)}")
    if low > high:
        raise SpaceError(f"{shown(bounds)} is reversed", key=key, remedy=f"Write [{shown(high)}, {shown(low)}]")
    if log and low <= 0:
        problem = f"a log range cannot start at {shown(low)}"
        raise SpaceError(problem, key=key, remedy="Use a lower bound above 0, or remove log")
    for bound in bounds:
        if not known.admits(bound):
            raise SpaceError(f"{shown(bound)} is not a valid {name}: it must be {known.wanted}", key=key)
    if "step" in definition:
        _check_step(name, kind, step, bounds, log)
    if kind == "int":
        step = 1 if step is None else step
        return IntRange(low, low + (high - low) // step * step, log, step)
    low, high = float(low), float(high)
    return FloatRange(low, high if step is None else _last(low, high, float(step)), log, step and float(step))


def _check_step(name: str, kind: str, step: Any, bounds: Sequence[Any], log: bool) -> None:
    key = f"{name}.step"
    if not (is_whole(step) if kind == "int" else is_number(step)) or step <= 0:
        raise SpaceError(f"{shown(step)} is not a {'whole ' if kind == 'int' else ''}number above 0", key=key)
    if log:
        raise SpaceError("log and step exclude each other", key=key, remedy="Keep one of the two")
    low, high, width = (Decimal(repr(number)) for number in (*bounds, step))
    if width > high - low:
        raise SpaceError(f"the step {shown(step)} is larger than the range {shown(bounds)}", key=key)
    if (high - low) / width > MAX_STEPS:
        raise SpaceError(f"the step {shown(step)} is too small for the range {shown(bounds)}", key=key)


def _last(low: float, high: float, step: float) -> float:
    """The highest value of low, low + step, ... that is not above high, in decimal arithmetic."""
    start, width = Decimal(repr(low)), Decimal(repr(step))
    return float(start + (Decimal(repr(high)) - start) // width * width)


def _when(name: str, content: Any) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    key = f"{name}.when"
    if not isinstance(content, Mapping):
        remedy = "Write {when: {optimizer: [momentum]}}"
        raise SpaceError(f"{shown(content)} is not a mapping of a parameter to values", key=key, remedy=remedy)
    conditions = []
    for parent, wanted in content.items():
        if not isinstance(parent, str) or parent not in KNOWN:
            raise SpaceError("not a hyperparameter", key=f"{key}.{parent}"[:100], remedy=nearest(parent, KNOWN))
        values = wanted if isinstance(wanted, list | tuple) else [wanted]
        if KNOWN[parent].kind == "layers" and not (values and all(isinstance(v, list | tuple) for v in values)):
            values = [wanted]
        if not values:
            raise SpaceError("it names no value", key=f"{key}.{parent}", remedy="List the values for which it applies")
        conditions.append((parent, tuple(check_value(parent, value, f"{key}.{parent}") for value in values)))
    return tuple(sorted(conditions, key=lambda condition: condition[0]))


def _relations(parsed: Mapping[str, Parameter]) -> list[Problem]:
    """What is wrong between parameters that are each well formed."""
    problems = []
    other = next((name for name in ("depth", "width", "shape") if name in parsed), None)
    if "hidden_layers" in parsed and other is not None:
        problems.append(Problem(other, "it cannot be combined with hidden_layers", "Keep one of the two ways"))
    for parameter in parsed.values():
        for parent, values in parameter.when:
            key = f"{parameter.name}.when.{parent}"
            if parent not in parsed:
                problems.append(Problem(key, f"{parent} is not a parameter of this space", nearest(parent, parsed)))
                continue
            reachable = listed(parsed[parent].domain)
            if reachable is None:
                problems.append(Problem(key, f"{parent} is a range", "A condition needs listed values: choice or int"))
                continue
            for value in values:
                if value not in reachable:
                    remedy = nearest(value, [str(v) for v in reachable[:20]])
                    problems.append(Problem(key, f"{shown(value)} is not among the values of {parent}", remedy))
    return problems or _cycle(parsed)


def _cycle(parsed: Mapping[str, Parameter]) -> list[Problem]:
    graph = {name: [parent for parent, _ in parameter.when] for name, parameter in parsed.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
        problem = f"the conditions form a cycle ({' -> '.join(circle)})"
        return [Problem(f"{circle[0]}.when", problem, "Remove one of them")]
    return []


def _ordered(parsed: Mapping[str, Parameter]) -> tuple[Parameter, ...]:
    waiting, placed = dict(parsed), dict[str, Parameter]()
    while waiting:  # conditions have no cycle, so each round places at least one
        name = next(n for n, p in waiting.items() if all(parent in placed for parent, _ in p.when))
        placed[name] = waiting.pop(name)
    return tuple(placed.values())
