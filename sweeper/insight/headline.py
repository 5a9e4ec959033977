"""The first lines of a report: who won, how sure that is, what the best trials share and what it cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.insight.advice import MIN_TOP, TOP
from sweeper.insight.contrasts import listed
from sweeper.insight.factors import Table
from sweeper.insight.finals import read_finals
from sweeper.insight.goals_view import read_goals
from sweeper.insight.pareto import feasible, violations
from sweeper.insight.results import why_enough
from sweeper.records import SweepRecord, TrialRecord
from sweeper.spec.parse import SweepSpec
from sweeper.states import TrialState
from sweeper.text import from_to, number

NEAR = 0.05  # the share of the winner's value within which other trials count as near
AGREED = 0.8  # the share of the best trials that makes a choice common to them


@dataclass(frozen=True)
class Headline:
    """``winner`` is None when no trial has an answer. All other fields are sentences; ``traits`` may be empty."""

    winner: TrialRecord | None
    verdict: str
    certainty: str
    traits: str
    cost: str


def headline(
    record: SweepRecord, spec: SweepSpec, trials: Sequence[TrialRecord], best_first: Sequence[TrialRecord], table: Table
) -> Headline:
    """What to say first of a sweep whose complete trials are ``best_first``: the finals' outcome, if it had finals."""
    cost = _cost(record, trials)
    ended = sum(t.state.terminal for t in trials)
    winner = winner_of(record, best_first)
    if winner is None:
        text = f"No trial of {ended} that ended is complete: there is no winner."
        return Headline(None, text, "Failures by reason are listed below.", "", cost)
    traits, finals = _traits(best_first, table), read_finals(record)
    if finals is not None:
        return Headline(winner, finals.verdict, finals.certainty(best_first[0].number), traits, cost)
    goals = read_goals(spec, best_first)
    if goals is not None and goals.front:
        return Headline(winner, goals.verdict(spec), f"Each {_chance(spec)}.", traits, cost)
    if not feasible(winner, spec):
        verdict = f"No trial satisfies every constraint. Trial {winner.number} comes closest: "
        return Headline(winner, verdict + f"{'; '.join(violations(winner, spec))}.", "", traits, cost)
    allowed = [trial for trial in best_first if feasible(trial, spec)]
    value = winner.value if winner.value is not None else math.nan
    if winner.state is TrialState.STOPPED:
        verdict = f"No trial was complete in time. Trial {winner.number}, after {winner.epochs} of "
        verdict += f"{spec.training.epochs} epochs, is the best of {len(allowed):,} that were under way: "
        return Headline(winner, f"{verdict}{_metric(spec)} {number(value)}.", _certainty(spec, allowed), traits, cost)
    whose = " that satisfy every constraint" if spec.constraints else ""
    verdict = f"Trial {winner.number} is the best of {len(allowed):,} complete trials{whose}: "
    verdict += f"{_metric(spec)} {number(value)}."
    return Headline(winner, verdict, _certainty(spec, allowed), traits, cost)


def winner_of(record: SweepRecord, best_first: Sequence[TrialRecord]) -> TrialRecord | None:
    """The best trial by the finals, else by the search; None: no trial has an answer."""
    finals = read_finals(record)
    leaders = finals.leaders if finals is not None else ()
    found = next((trial for trial in best_first if trial.number in leaders[:1]), None)
    return found or next(iter(best_first), None)


def _metric(spec: SweepSpec) -> str:
    """The objective, and of how many seeds it is the mean."""
    seeds = spec.training.replicates
    return spec.objective.metric if seeds == 1 else f"mean {spec.objective.metric} of {seeds} seeds"


def _chance(spec: SweepSpec) -> str:
    """What a value from the search is worth."""
    if spec.objective.function is not None:
        return "was run once: part of its lead may be chance, since it is the best of many"
    seeds = spec.training.replicates
    trained = "one seed" if seeds == 1 else f"{seeds} seeds, of which every value here is the mean,"
    return f"was trained on {trained} and not re-tested: part of its lead is chance, since it is the best of many"


def _certainty(spec: SweepSpec, best_first: Sequence[TrialRecord]) -> str:
    winner, text = best_first[0], f"It {_chance(spec)}. "
    if len(best_first) > 1:
        second = best_first[1]
        assert winner.value is not None
        assert second.value is not None
        gap = abs(second.value - winner.value)
        share = f" ({number(100 * gap / abs(winner.value), 2)}%)" if winner.value else ""
        text += f"The next best, trial {second.number}, is {number(gap, 2)} behind{share}. "
        close = sum(abs((t.value or 0.0) - winner.value) <= NEAR * abs(winner.value) for t in best_first[1:])
        others = {0: "No other trial lies", 1: "One other trial lies"}.get(close, f"{close:,} other trials lie")
        text += f"{others} within {NEAR:.0%} of the winner. "
    if spec.objective.function is not None:
        return text.strip()
    return f"{text}With finals: {{top: 5, seeds: 10}} in the sweep file the best are tested again on fresh seeds."


def _traits(best_first: Sequence[TrialRecord], table: Table) -> str:
    """What the best tenth has in common: the part of the result that does not hang on one trial."""
    top = [t.number for t in best_first[: max(MIN_TOP, round(TOP * len(best_first)))]]
    index = {number: i for i, number in enumerate(table.numbers)}
    rows = [index[number] for number in top if number in index]
    if len(rows) < MIN_TOP or len(best_first) < 2 * MIN_TOP:
        return ""
    parts = []
    for factor in table.factors:
        codes = factor.codes[rows]
        codes = codes[~np.isnan(codes)]
        if len(codes) < AGREED * len(rows):
            continue
        if factor.levels is not None:
            [(code, count)] = Counter(codes.tolist()).most_common(1)
            if count >= AGREED * len(rows):
                parts.append(f"{factor.name} {factor.levels[int(code)]} ({count} of {len(rows)})")
        else:
            low, high = np.quantile(codes, [0.1, 0.9])
            width = np.nanmax(factor.codes) - np.nanmin(factor.codes)
            if high - low <= (1 - AGREED) * 2 * width:
                parts.append(f"{factor.name} {from_to(factor.number(float(low)), factor.number(float(high)), 2)}")
    return f"The best {len(rows)} trials share {listed(parts)}." if parts else ""


def _cost(record: SweepRecord, trials: Sequence[TrialRecord]) -> str:
    states = Counter(str(t.state) for t in trials)
    counts = ", ".join(f"{states[str(state)]:,} {state}" for state in TrialState if states[str(state)])
    epochs = sum(t.epochs for t in trials)
    text = f"{counts or 'no trials'}, {epochs:,} epochs trained"
    text = f"{text} in {duration(record.seconds)}." if record.seconds else f"{text}."
    ended = why_enough(record, trials[-1]) if trials else None
    return text if ended is None else f"{text} {ended[:1].upper()}{ended[1:]}."


def duration(seconds: float) -> str:
    """Seconds in the unit one would say them in."""
    if seconds < 1:
        return f"{number(seconds, 2)} s"
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
