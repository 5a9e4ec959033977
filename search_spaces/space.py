"""A search space: its parameters in the order they are decided, and what can be asked of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from sweeper.search_spaces.errors import SpaceError, shown
from sweeper.search_spaces.function import FunctionSource, is_stored
from sweeper.search_spaces.names import nearest
from sweeper.search_spaces.parse import parse_parameters
from sweeper.search_spaces.points import check_points, contains
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
    from_key,
    listed,
    plain,
    to_key,
)
from sweeper.search_spaces.widening import edge

MAX_GRID = 100_000
ENQUEUE = "enqueue"  # a key of space files beside the parameters


class Row(NamedTuple):
    """One parameter for a reader: its name, its values in words, and when it applies ("" if always)."""

    name: str
    values: str
    condition: str

    def __str__(self) -> str:
        return f"{self.name:15} {self.values}{f' (when {self.condition})' if self.condition else ''}"


class Build(Protocol):
    """What suggests the hyperparameters of the user's own model, once those of the space are known."""

    @property
    def ready(self) -> bool:
        """Whether it can be asked: it depends on the data."""
        ...

    def suggest(self, trial: Any, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values that the model asks an Optuna trial for."""
        ...


@dataclass(frozen=True)
class Space:
    """What a sweep searches: either ``parameters`` or, for a define-by-run space, a ``function``.

    ``build`` is the function of a user's own model, which suggests hyperparameters after these.
    ``enqueue`` holds points, whole or partial, that a sweep tries first unless it says otherwise.

    Three forms of a hyperparameter point occur. *Parameters* are plain JSON data with fixed values included and
    inactive parameters left out: what a trial is trained with and what the ledger stores. *Keys* are what Optuna
    holds: only what is searched, inactive ones included, layer widths as text. ``active`` leads from keys (or
    parameters) to parameters, ``encode`` back.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()
    function: FunctionSource | None = None
    build: Build | None = None
    enqueue: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def of_mapping(cls, name: str, data: Mapping[Any, Any]) -> Space:
        """The space of a space file's content: parameters, and the points to try first under ``enqueue``.

        Raises:
            SpaceError: with every problem found.
        """
        parameters = parse_parameters((key, value) for key, value in data.items() if key != ENQUEUE)
        return cls(name, parameters, enqueue=check_points(parameters, data.get(ENQUEUE, ())))

    @property
    def is_function(self) -> bool:
        """Whether a function on an Optuna trial suggests some parameters, which are known only as it runs."""
        return self.function is not None or self.build is not None

    @property
    def continuous(self) -> tuple[str, ...]:
        """The parameters whose values cannot be listed."""
        return tuple(p.name for p in self.parameters if p.continuous)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data from which ``from_json`` makes an equal space; a list keeps the order of the parameters."""
        if self.function is not None:
            return {"name": self.name, **self.function.to_json()}
        first = {ENQUEUE: [dict(point) for point in self.enqueue]} if self.enqueue else {}
        return {"name": self.name, "parameters": [{"name": p.name, **_definition(p)} for p in self.parameters], **first}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Space:
        """The space that ``to_json`` described. The file of a function is not opened before it is used.

        Raises:
            SpaceError: the data is not what ``to_json`` writes.
        """
        name = data.get("name") if isinstance(data, Mapping) else data
        if not isinstance(data, Mapping) or not isinstance(name, str):
            raise SpaceError(f"{shown(name)} is not the name of a space", key="name")
        if is_stored(data):
            return cls(name, function=FunctionSource.from_json(data))
        entries = data.get("parameters")
        if set(data) - {ENQUEUE} != {"name", "parameters"} or not isinstance(entries, list | tuple):
            raise SpaceError("it is not the JSON form of a space", remedy="It has name and parameters")
        if not all(isinstance(entry, Mapping) and "name" in entry for entry in entries):
            raise SpaceError("every parameter is a mapping with a name", key="parameters")
        items = [(entry["name"], {k: v for k, v in entry.items() if k != "name"}) for entry in entries]
        parameters = parse_parameters(items)
        return cls(name, parameters, enqueue=check_points(parameters, data.get(ENQUEUE, ())))

    def distributions(self) -> dict[str, Any]:
        """Optuna's distribution of every parameter that is searched, in order; constant ones are left out.

        Raises:
            SpaceError: the space is a function.
        """
        if self.is_function:
            raise SpaceError("a function space has no list of distributions", remedy="Use suggest(trial)")
        from sweeper.search_spaces.optuna_bridge import distribution

        return {p.name: distribution(p.domain) for p in self.parameters if not p.constant}

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The parameters that an Optuna trial suggests, asked one by one in order (define-by-run).

        Raises:
            SpaceError: the space's function failed, changed since the space was read, or suggested something unknown.
        """
        params = self._suggested(trial)
        return params if self.build is None else params | self.build.suggest(trial, params)

    def _suggested(self, trial: Any) -> dict[str, Any]:
        if self.function is not None:
            return self._function_params(self.function.call(trial), trial)
        from sweeper.search_spaces.optuna_bridge import suggest

        params: dict[str, Any] = {}
        for p in self.parameters:
            if _applies(p, params):
                params[p.name] = _only(p) if p.constant else plain(from_key(p.name, suggest(trial, p.name, p.domain)))
        return params

    def active(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters that apply: constants added, layer widths as lists, those whose ``when`` fails left out.

        ``params`` may be Optuna's keys or parameters. Applying it twice changes nothing.

        Raises:
            SpaceError: a value is missing, unknown or not valid.
        """
        if self.build is not None:
            return dict(params)
        if self.function is not None:
            return check_params(params)
        for name in params:
            if all(name != p.name for p in self.parameters):
                remedy = nearest(name, [p.name for p in self.parameters])
                raise SpaceError("not a parameter of this space", key=str(name), remedy=remedy)
        result: dict[str, Any] = {}
        for p in self.parameters:
            if not _applies(p, result):
                continue
            if p.constant:
                result[p.name] = _only(p)
            elif p.name in params:
                result[p.name] = plain(check_value(p.name, from_key(p.name, params[p.name]), p.name))
            else:
                raise SpaceError("it has no value", key=p.name)
        return result

    def adopt(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The point of a declared space that has these values; those of other names are not looked at.

        Raises:
            SpaceError: a value is missing or outside its domain; ``key`` is the parameter.
        """
        result: dict[str, Any] = {}
        for p in self.parameters:
            if _applies(p, result):
                value = check_value(p.name, values.get(p.name), p.name)
                if not contains(p, value):
                    raise SpaceError(f"{shown(plain(value))} is not in the space", key=p.name)
                result[p.name] = plain(value)
        return result

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether these are the parameters of a point of the space; of a function that is not known beforehand."""
        try:
            return self.is_function or self.adopt(params) == params
        except SpaceError:
            return False

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The keys under which Optuna holds parameters: constants left out, layer widths as text."""
        searched = {p.name for p in self.parameters if not p.constant}
        return {
            name: to_key(tuple(value) if isinstance(value, list) else value)
            for name, value in params.items()
            if name in searched or self.is_function
        }

    def grid(self) -> list[dict[str, Any]]:
        """All combinations, the last parameter varying fastest, none twice.

        Raises:
            SpaceError: the space is a function, a parameter is continuous, or there are over 100,000 combinations.
        """
        if self.is_function:
            remedy = "Write the space as a YAML file, or use another sampler than grid"
            raise SpaceError("a function space has no grid", remedy=remedy)
        for p in self.parameters:
            if listed(p.domain) is None:
                remedy = "Add a step, write {choice: [...]}, or use another sampler than grid"
                what = "continuous" if p.continuous else "too long a range"
                raise SpaceError(f"a grid needs listed values, and {p.name} is {what}", key=p.name, remedy=remedy)
        combinations = []
        for combination in self._combinations(0, {}):
            combinations.append(combination)
            if len(combinations) > MAX_GRID:
                remedy = "Use larger steps or fewer choices"
                raise SpaceError(f"the grid has more than {MAX_GRID:,} points", remedy=remedy)
        return combinations

    def describe(self) -> list[Row]:
        """The parameters as rows for a reader, in order."""
        if self.function is not None:
            return [Row("(function)", self.function.reference, "")]
        return [Row(p.name, _in_words(p.domain), _condition(p)) for p in self.parameters]

    def edges(self, params: Mapping[str, Any]) -> list[tuple[str, Any, str, Any]]:
        """Where a point lies at the edge of a range: ``(name, value, "low" or "high", suggested wider bound)``.

        Edges that cannot be moved, such as a weight decay of 0, are left out.
        """
        found = []
        for p in self.parameters:
            if p.name in params and isinstance(p.domain, FloatRange | IntRange):
                side_and_bound = edge(KNOWN[p.name], p.domain, params[p.name])
                if side_and_bound is not None:
                    found.append((p.name, params[p.name], *side_and_bound))
        return found

    def check(self) -> None:
        """Run a function space on a few random trials, so that a wrong one is refused before a sweep starts.

        One that was sent is not run: its sender has done that.

        Raises:
            SpaceError: as ``suggest``.
        """
        if self.function is not None and not self.function.text:
            from sweeper.search_spaces.optuna_bridge import random_trials

            for trial in random_trials(5):
                self._suggested(trial)

    def samples(self, n: int) -> list[dict[str, Any]]:
        """The parameters of ``n`` random trials, the same ones every time.

        Raises:
            SpaceError: as ``suggest``.
        """
        from sweeper.search_spaces.optuna_bridge import random_trials

        return [self.suggest(trial) for trial in random_trials(n)]

    def points(self, given: Any, key: str = ENQUEUE) -> tuple[dict[str, Any], ...]:
        """Whole or partial points in canonical types; a function space is run on each to see that it takes them.

        One that was sent is not, see ``check``.

        Raises:
            SpaceError: with every problem found; ``key`` is where the points stand.
        """
        if not self.is_function:
            return check_points(self.parameters, given, key)
        sent = self.function is not None and self.function.text
        if sent or (self.build is not None and not self.build.ready):
            return tuple(dict(point) for point in given)  # those of a model are looked at when the data is known
        from sweeper.search_spaces.optuna_bridge import enqueued_trial

        for i, point in enumerate(given):
            trial = enqueued_trial(point)
            self.suggest(trial)
            for name, value in point.items():
                place = f"{key}.{i}.{name}"
                if name not in trial.params:
                    remedy = nearest(name, trial.params)
                    raise SpaceError("the function suggests no such parameter", key=place, remedy=remedy)
                low, high = (getattr(trial.distributions[name], bound, value) for bound in ("low", "high"))
                if not low <= value <= high:
                    raise SpaceError(
                        f"{shown(value)} is not in the space", key=place, remedy="Use a value of the space"
                    )
        return tuple(dict(point) for point in given)

    def _combinations(self, index: int, chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if index == len(self.parameters):
            yield dict(chosen)
            return
        p = self.parameters[index]
        if not _applies(p, chosen):
            yield from self._combinations(index + 1, chosen)
            return
        for value in listed(p.domain) or ():
            yield from self._combinations(index + 1, {**chosen, p.name: plain(value)})

    def _function_params(self, returned: Any, trial: Any) -> dict[str, Any]:
        assert self.function is not None
        if returned is not None and not isinstance(returned, Mapping):
            problem = f"it returned {shown(returned)}"
            remedy = "Return a mapping of parameters, or nothing to use the trial's suggestions"
            raise SpaceError(problem, key=self.function.function, remedy=remedy, file=self.function.path)
        try:
            return check_params(trial.params if returned is None else returned)
        except SpaceError as error:
            raise SpaceError.many(error.problems, file=self.function.path) from error


def check_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters in canonical types, for values that no declared space vouches for.

    Raises:
        SpaceError: an unknown name or a value out of its hyperparameter's range.
    """
    checked = {}
    for name, value in params.items():
        if name not in KNOWN:
            raise SpaceError("not a hyperparameter", key=str(name)[:100], remedy=nearest(name, KNOWN))
        checked[name] = plain(check_value(name, from_key(name, value), name))
    if "hidden_layers" in checked and {"depth", "width", "shape"} & set(checked):
        raise SpaceError("hidden_layers cannot be combined with depth, width and shape", key="hidden_layers")
    return checked


def _applies(parameter: Parameter, decided: Mapping[str, Any]) -> bool:
    return all(
        parent in decided and any(decided[parent] == plain(value) for value in values)
        for parent, values in parameter.when
    )


def _only(parameter: Parameter) -> Any:
    values = listed(parameter.domain)
    assert values is not None
    return plain(values[0])


def _definition(parameter: Parameter) -> dict[str, Any]:
    match parameter.domain:
        case Fixed(value):
            result: dict[str, Any] = {"value": plain(value)}
        case Choice(values):
            result = {"choice": [plain(value) for value in values]}
        case FloatRange(low, high, log, step):
            result = {"float": [low, high]} | ({"log": True} if log else {}) | ({} if step is None else {"step": step})
        case IntRange(low, high, log, step):
            result = {"int": [low, high]} | ({"log": True} if log else {}) | ({} if step == 1 else {"step": step})
    if parameter.when:
        result["when"] = {parent: [plain(value) for value in values] for parent, values in parameter.when}
    return result


def _in_words(domain: Domain) -> str:
    match domain:
        case Fixed(value):
            return f"always {_word(value)}"
        case Choice(values):
            return ", ".join(_word(value) for value in values)
        case FloatRange() | IntRange():
            step = f", step {domain.step:g}" if domain.step not in (None, 1) else ""
            return f"{_word(domain.low)} to {_word(domain.high)}{', log' if domain.log else ''}{step}"


def _condition(parameter: Parameter) -> str:
    parts = (f"{parent} is {' or '.join(_word(value) for value in values)}" for parent, values in parameter.when)
    return " and ".join(parts)


def _word(value: Value) -> str:
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else json.dumps(plain(value))
