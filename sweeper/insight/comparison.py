"""Several sweeps side by side: what was changed, who is better on new rows, and which effects agree."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from sweeper.errors import SpecError
from sweeper.insight.contest import NAMES, Contest
from sweeper.insight.contrasts import ChoiceEffects, Pair
from sweeper.records import SweepRecord
from sweeper.spec.parse import SweepSpec
from sweeper.spec.stored import fingerprint_of, sweep_file_of

IGNORED = ("name",)  # keys of a sweep file that change nothing


@dataclass(frozen=True)
class Contender:
    """One of the sweeps, called ``letter``. ``trial`` is its winner (None: no trial is complete), with ``value``."""

    letter: str
    sweep: str
    name: str
    state: str
    complete: int
    seconds: float
    metric: str
    trial: int | None
    value: float | None


@dataclass(frozen=True)
class Change:
    """A key of the sweep files that differs, and its value in each ("": it has none)."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class SharedEffect:
    """Two choices of one parameter, and what each sweep says of them ("": it did not try both)."""

    parameter: str
    choices: tuple[str, str]
    said: tuple[str, ...]
    verdict: str


@dataclass(frozen=True)
class SweepComparison:
    """What ``sweeper compare`` answers. ``problem`` says why there is no ``contest``, or what is wrong with it."""

    contenders: tuple[Contender, ...]
    same_data: bool
    changes: tuple[Change, ...]
    contest: Contest | None
    problem: str
    effects: tuple[SharedEffect, ...]
    sentence: str


def put_together(
    contenders: Sequence[Contender],
    records: Sequence[SweepRecord],
    contest: Contest | None,
    problem: str,
    choices: Sequence[Sequence[ChoiceEffects]],
) -> SweepComparison:
    """The whole answer; ``choices`` are what the trials of each sweep teach of their choices."""
    changes = changes_between([sweep_file_of(record.spec) for record in records])
    same_data = len({fingerprint_of(record) for record in records}) == 1
    effects = shared_effects(choices)
    said = contest.sentence if contest is not None else f"The sweeps cannot be compared on new rows: {problem}."
    return SweepComparison(tuple(contenders), same_data, changes, contest, problem, effects, said)


def check_goals(specs: Sequence[SweepSpec]) -> None:
    """Refuse sweeps that have no question in common.

    Raises:
        SpecError: they predict different kinds of targets.
    """
    wanted = {spec.objective.metric for spec in specs}
    if len(wanted) > 1 and len({spec.objective.direction for spec in specs}) > 1:
        remedy = "Compare sweeps whose objectives have the same direction"
        raise SpecError(f"the sweeps are judged by {' and '.join(sorted(wanted))}", key="objective", remedy=remedy)


def changes_between(files: Sequence[Mapping[str, Any]]) -> tuple[Change, ...]:
    """The keys of sweep files that differ, in the order of the first file; spaces by parameter."""
    flat = [_flat(file) for file in files]
    keys = dict.fromkeys(key for each in flat for key in each if key not in IGNORED)
    values = {key: tuple(each.get(key, "") for each in flat) for key in keys}
    return tuple(Change(key, found) for key, found in values.items() if len(set(found)) > 1)


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and their values as text."""
    found: dict[str, str] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if key == "space" and isinstance(value, Mapping):
            found |= _of_space(value)
        elif isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        elif value is not None:
            found[name] = _text(value)
    return found


def _of_space(space: Mapping[str, Any]) -> dict[str, str]:
    """A space by parameter: ``space.learning_rate``; its other keys as they are."""
    parameters = [dict(parameter) for parameter in space.get("parameters", ())]
    rest = {f"space.{key}": _text(value) for key, value in space.items() if key != "parameters"}
    return rest | {f"space.{parameter.pop('name')}": _domain(parameter) for parameter in parameters}


def _domain(parameter: Mapping[str, Any]) -> str:
    """What a parameter may be, in short."""
    rest = dict(parameter)
    if "value" in rest:
        text = _text(rest.pop("value"))
    elif "choice" in rest:
        text = ", ".join(_text(value) for value in rest.pop("choice"))
    else:
        kind = "int" if "int" in rest else "float"
        text = " to ".join(f"{bound:g}" for bound in rest.pop(kind)) + (" (log)" if rest.pop("log", False) else "")
    return f"{text} {_text(rest)}" if rest else text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def shared_effects(choices: Sequence[Sequence[ChoiceEffects]]) -> tuple[SharedEffect, ...]:
    """Every pair of choices that some sweep can tell apart, and what the others say of it."""
    by_sweep = [{(e.parameter, frozenset((p.better, p.worse))): p for e in each for p in e.pairs} for each in choices]
    keys = dict.fromkeys(key for pairs in by_sweep for key, pair in pairs.items() if pair.shown)
    found = []
    for parameter, two in keys:
        pairs = [pairs.get((parameter, two)) for pairs in by_sweep]
        first = next(pair for pair in pairs if pair is not None and pair.shown)
        said = tuple("" if pair is None else _said(pair) for pair in pairs)
        found.append(SharedEffect(parameter, (first.better, first.worse), said, _verdict(pairs)))
    first_ones = ("contradicted", "agreed")
    return tuple(sorted(found, key=lambda effect: [not effect.verdict.startswith(word) for word in first_ones]))


def _said(pair: Pair) -> str:
    return pair.sentence if pair.shown else "cannot be told apart"


def _verdict(pairs: Sequence[Pair | None]) -> str:
    shown = [(letter, pair) for letter, pair in zip(NAMES, pairs, strict=False) if pair is not None and pair.shown]
    winners = {pair.better for _, pair in shown}
    if len(winners) > 1:
        return "contradicted: the better choice differs between the sweeps"
    if len(shown) > 1:
        return "agreed" if len(shown) == len(pairs) else f"agreed by {' and '.join(letter for letter, _ in shown)}"
    return f"shown in {shown[0][0]} only"


def comparison_to_json(found: SweepComparison) -> dict[str, Any]:
    """The answer as JSON data."""
    data: dict[str, Any] = TypeAdapter(SweepComparison).dump_python(found, mode="json")
    return data


def comparison_from_json(text: bytes | str) -> SweepComparison:
    """The answer that ``comparison_to_json`` wrote, from its text."""
    return TypeAdapter(SweepComparison).validate_json(text)
