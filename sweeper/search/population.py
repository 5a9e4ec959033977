"""Population based training: which members of a population copy which, and what they try then.

Jaderberg et al. 2017, Population Based Training of Neural Networks (arXiv:1711.09846): truncation selection, then each
hyperparameter is perturbed, or drawn anew. A pure function of the sweep's seed, the epoch and the members' values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sweeper.search.pruning import Objective
from sweeper.search_spaces import Space
from sweeper.search_spaces.vocabulary import FloatRange
from sweeper.spec.population import ranges_to_change

SHARE = 4  # the worst quarter copies the best one
FACTORS = (0.8, 1.25)
ANEW = 0.25  # how often a hyperparameter is drawn anew instead
NEAR_ONE = ("momentum", "beta1", "beta2", "ema_decay")  # of these it is 1 - x that is multiplied
_STREAM = 16  # of random numbers, beside those of a trial's suggestion


@dataclass(frozen=True)
class Copy:
    """A member goes on from the row of ``donor`` with ``params``."""

    donor: int
    params: dict[str, Any]


class Population:
    """Decides for all members of a population at once."""

    def __init__(self, space: Space, seed: int, objective: Objective) -> None:
        self._ranges, self._seed, self._objective = ranges_to_change(space), seed, objective

    def decide(
        self, values: Mapping[int, float], params: Mapping[int, Mapping[str, Any]], epoch: int
    ) -> dict[int, Copy]:
        """Which members copy, given the objective of each that is left after ``epoch`` epochs, and its parameters.

        Equal values stand by their numbers. A member whose value is not finite (it diverged) copies another, however
        many there are, and is copied by none; with no other to copy nobody copies.
        """
        ranked = sorted(values, key=lambda n: (self._objective.cost(values[n]), n))
        count = max(1, len(ranked) // SHARE) if len(ranked) > 1 else 0
        donors = [n for n in ranked[:count] if math.isfinite(values[n])]
        if not donors:
            return {}
        copies = {}
        worst = {*ranked[len(ranked) - count :], *(n for n in ranked if not math.isfinite(values[n]))}
        for number in sorted(worst):
            rng = np.random.default_rng([self._seed, number, epoch, _STREAM])
            donor = donors[int(rng.integers(len(donors)))]
            copies[number] = Copy(donor, self._explored(dict(params[donor]), rng))
        return copies

    def _explored(self, params: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """The donor's parameters, those that can change multiplied by 0.8 or 1.25, or drawn anew from their range."""
        for name, domain in self._ranges.items():
            draw, up, place = rng.random(3)
            if name not in params or (name == "beta1" and params.get("optimizer") == "nadam"):
                continue
            value = params[name]
            if draw < ANEW:
                value = _drawn(domain, place)
            else:
                factor = FACTORS[int(up * 2)]
                value = 1.0 - (1.0 - value) * factor if name in NEAR_ONE else value * factor
            params[name] = _within(domain, value)
        return params


def _drawn(domain: FloatRange, place: float) -> float:
    if domain.log:
        return math.exp(math.log(domain.low) + place * (math.log(domain.high) - math.log(domain.low)))
    return domain.low + place * (domain.high - domain.low)


def _within(domain: FloatRange, value: float) -> float:
    """The nearest value of the range, on its grid where it has one."""
    if domain.step is not None:
        value = round(domain.low + round((value - domain.low) / domain.step) * domain.step, 12)
        if value > domain.high:
            value -= domain.step
    return float(min(max(value, domain.low), domain.high))
