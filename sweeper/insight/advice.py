"""What to change in the next sweep: ranges to widen, parameters to fix, trials that were of no use."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy import stats

from sweeper.insight import pareto
from sweeper.insight.effects import MIN_TRIALS, Model
from sweeper.insight.factors import Factor
from sweeper.insight.importance import Importance
from sweeper.records import TrialRecord
from sweeper.search.ending import Ending
from sweeper.search_spaces.vocabulary import Domain, listed
from sweeper.search_spaces.widening import NEAR
from sweeper.spec.parse import SweepSpec
from sweeper.text import number

Kind = Literal["edge", "no effect", "duplicates", "plateau"]
TOP = 0.1  # the share of the trials that counts as the best
PRESSING = 0.3  # the share of them at one edge that presses against it, if that is no chance:
SURPRISING = 0.01  # so improbable it must be for points drawn evenly
SELDOM = 0.1  # an edge that takes a larger share of the range says nothing about the winner alone
INSIDE = 0.25  # the share of a range that lies between its edge and what the edge is compared with
POINTS = 21
MIN_TOP = 5
MIN_PLATEAU = 20
SMALL_GAIN = 0.01
PATIENCE = (20, 30, 50, 80, 120, 200, 300, 500, 1000)  # that may be advised
SMALL_SHARE = 0.1
MARGIN = 0.1  # an effect up to this share of the metric (of its spread over trials, where it has no ratios) is small
UNSEEN = 0.1  # p values below this are a sign of an effect


@dataclass(frozen=True)
class Advice:
    """One piece of advice; ``number`` is the bound, p value, count or trial that the sentence turns on."""

    kind: Kind
    parameter: str | None
    number: float
    sentence: str


def ranked(spec: SweepSpec, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Complete trials with a finite value, the best first, ties by number; those that break a constraint come last."""
    return pareto.best_first(trials, spec)


def advise(
    spec: SweepSpec,
    trials: Sequence[TrialRecord],
    model: Model | None,
    importance: Importance,
    noise: float = 0.0,
) -> tuple[Advice, ...]:
    """Everything worth changing; for ``noise`` see ``study_trials``."""
    best_first = ranked(spec, trials)
    found = [*edges(spec, best_first, model), *plateau(spec, best_first, noise), *duplicates(trials)]
    if model is not None:
        found += no_effect(model, importance)
    return tuple(found)


def edges(spec: SweepSpec, best_first: Sequence[TrialRecord], model: Model | None) -> list[Advice]:
    """Ranges against an edge of which the winner, or many of the best tenth, press while the values improve towards it.

    A winner at an edge alone is chance too often: a parameter without effect puts it there in 6 of 100 sweeps.
    """
    if spec.space.is_function or not best_first or model is None:
        return []
    chances = {p.name: _chance(p.domain) for p in spec.space.parameters}
    top = best_first[: max(MIN_TOP, round(TOP * len(best_first)))]
    found = [{(name, side): bound for name, _, side, bound in spec.space.edges(t.params or {})} for t in top]
    counts = Counter(key for edge in found for key in edge)
    advice = []
    for (name, side), count in counts.items():
        winner = (name, side) in found[0] and chances[name] <= SELDOM
        expected = float(stats.binom.sf(count - 1, len(top), chances[name]))
        pressing = count >= max(3, PRESSING * len(top)) and expected < SURPRISING
        if not (winner or pressing) or not _improves_towards(model, name, side):
            continue
        bound = next(edge[name, side] for edge in found if (name, side) in edge)
        who = f"{count} of the best {len(top)} trials lie" if pressing else "the winner lies"
        who = f"the winner and {count - 1} more of the best {len(top)} trials lie" if winner and pressing else who
        end = "lower" if side == "low" else "upper"
        sentence = f"{name}: {who} at the {end} edge of its range"
        sentence += f", and {spec.objective.metric} still improves towards it. Widen it to {bound:g}."
        advice.append(Advice("edge", name, float(bound), sentence))
    return advice


def _improves_towards(model: Model, name: str, side: str) -> bool:
    """Whether the model is best at this end of a number and, beyond chance, better there than further inside."""
    factor = model.table.factor(name)
    if factor is None or factor.is_choice:
        return False
    values = np.unique(factor.codes[~np.isnan(factor.codes)])
    values = values if side == "high" else values[::-1]  # the last one is the end
    inside = values[np.abs(values - values[-1]) >= INSIDE * np.ptp(values)]
    points = np.linspace(values[0], values[-1], POINTS) if len(values) > POINTS else values
    designs = np.array([model.average_design({name: float(x)}) for x in (*points, inside[-1])])
    along, _ = model.contrasts(designs[:-1])
    [gain], [error] = model.contrasts((designs[-2] - designs[-1])[None])
    best = bool(along[-1] <= along.min())
    return best and error > 0 and float(stats.t.cdf(gain / error, model.dof)) < SURPRISING / 2


def _chance(domain: Domain) -> float:
    """The probability of one edge of a domain for a point drawn evenly."""
    values = listed(domain)
    return NEAR if values is None else 1 / max(1, len(values))


@dataclass(frozen=True)
class Small:
    """A parameter of which the linear model sees no effect in ``count`` trials, and rules out one above ``largest``."""

    parameter: str
    count: int
    p: float
    largest: float


def small(model: Model) -> list[Small]:
    """Parameters whose effect is shown to be small: no test sees it, and larger ones than ``MARGIN`` are ruled out.

    Effects on early epochs say nothing of this.
    """
    found: list[Small] = []
    if not model.table.basis.at_end or model.table.draws is not None:
        return found
    allowed = MARGIN if model.table.scale.log else MARGIN * float(model.raw.std())
    for factor in model.table.factors:
        count = int(np.sum(~np.isnan(factor.codes)))
        p = model.p_without(factor.name)
        if p < UNSEEN or count < MIN_TRIALS:
            continue
        largest = _largest_difference(model, factor)
        if largest <= allowed and model.p_mixed(factor.name) >= UNSEEN:
            found.append(Small(factor.name, count, p, largest))
    return found


def no_effect(model: Model, importance: Importance) -> list[Advice]:
    """Parameters with a ``small`` effect only.

    A forest that explains the trials has to agree, since it sees what depends on several numbers at once.
    """
    advice: list[Advice] = []
    scale = model.table.scale
    for one in small(model):
        entry = importance.of(one.parameter)
        if entry is None or entry.interval.high > SMALL_SHARE:
            continue
        size = f"{one.largest:.0%}" if scale.log else number(one.largest, 2)
        sentence = f"{one.parameter}: no effect can be seen in {one.count:,} trials, and one above {size} of "
        sentence += f"{scale.metric} is ruled out (95%). "
        sentence += "Fix it, and the same number of trials searches the others more densely."
        advice.append(Advice("no effect", one.parameter, one.p, sentence))
    return advice


def _largest_difference(model: Model, factor: Factor) -> float:
    """The most by which two choices may differ, or two standard deviations of a number's effect (95%)."""
    if factor.levels is None:
        return 2 * model.largest_effect(factor.name)
    designs = [model.average_design({factor.name: float(i)}) for i in range(len(factor.levels))]
    estimates, errors = model.contrasts(np.array([a - b for a, b in combinations(designs, 2)]))
    return float(np.max(np.abs(estimates) + model.one_sided * errors))


def duplicates(trials: Sequence[TrialRecord]) -> list[Advice]:
    """Trials that repeat the parameters and the seed of an earlier one, and so its result."""
    keys = Counter(_key(t.params, t.seed) for t in trials if t.params is not None)
    repeated = sum(count - 1 for count in keys.values())
    if not repeated:
        return []
    sentence = f"{repeated} of {keys.total()} trials repeat the parameters of an earlier one, and so its result. "
    sentence += f"The space is nearly exhausted after {len(keys)} points: widen it, or run fewer trials."
    return [Advice("duplicates", None, float(repeated), sentence)]


def plateau(spec: SweepSpec, best_first: Sequence[TrialRecord], noise: float = 0.0) -> list[Advice]:
    """Whether the last trials, or the second half of them, brought anything."""
    count = len(best_first)
    if count < MIN_PLATEAU:
        return []
    if noise > 0 and (found := _below_noise(spec, best_first, noise)) is not None:
        return [found]
    numbers = sorted(t.number for t in best_first)
    middle = numbers[count // 2]
    winner = best_first[0]
    earlier = next(t for t in best_first if t.number < middle)
    if winner.number < middle:
        after = sum(number > winner.number for number in numbers)
        sentence = f"The best value has not improved since trial {winner.number}: the last {after} of {count} trials "
        sentence += "brought nothing. More trials of this space are unlikely to help; change the space or the training."
        return [Advice("plateau", None, float(winner.number), sentence)]
    assert winner.value is not None
    assert earlier.value is not None
    gain = abs(earlier.value - winner.value) / max(abs(earlier.value), 1e-12)
    if gain >= SMALL_GAIN:
        return []
    sentence = f"The second half of the trials improved {spec.objective.metric} by {gain:.2%} only. "
    sentence += "More trials of this space are unlikely to help; change the space or the training."
    return [Advice("plateau", None, float(winner.number), sentence)]


def _below_noise(spec: SweepSpec, best_first: Sequence[TrialRecord], noise: float) -> Advice | None:
    """Whether the last third of the trials or more gained less than the noise, and what would have ended them."""
    if spec.search.stop is not None or len(spec.objectives) > 1 or spec.constraints:
        return None
    by_number = sorted(best_first, key=lambda trial: trial.number)
    costs = [spec.objective.sign * trial.value for trial in by_number if trial.value is not None]
    near = next(place for place, cost in enumerate(costs) if cost <= min(costs) + noise)
    last = len(costs) - 1 - near
    if last < max(MIN_PLATEAU, len(costs) / 3):
        return None
    sentence = (
        f"The last {last:,} of {len(costs):,} complete trials gained {number(costs[near] - min(costs), 2)}, below "
    )
    sentence += f"the noise of {number(noise, 2)}: the standard error of the best {spec.objective.metric}."
    for patience in PATIENCE:
        ending = Ending(patience, None)
        for trial, cost in enumerate(costs):
            ending.tell(trial, cost, noise, 1)
        end = next((n for n in range(len(costs)) if ending.reason(n) is not None), None)
        if end is not None and end > near:
            sentence += f" With search.stop: {{patience: {patience}}} the search ends after about {end:,} of them."
            break
    return Advice("plateau", None, float(by_number[near].number), sentence)


def _key(params: Mapping[str, Any], seed: int) -> str:
    return json.dumps([seed, params], sort_keys=True)
