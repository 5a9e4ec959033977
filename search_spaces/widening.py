"""Says whether a value lies at the edge of its range, and how far the range should be widened."""

from __future__ import annotations

import math

from sweeper.search_spaces.vocabulary import FloatRange, IntRange, Known

NEAR = 0.03  # the share of a continuous range, on its own scale, that counts as its edge


def edge(known: Known, domain: FloatRange | IntRange, value: float) -> tuple[str, float] | None:
    """``("low" or "high", wider bound)`` for a value at an edge that can be moved, else None."""
    position = _position(domain, value)
    near = NEAR if isinstance(domain, FloatRange) and domain.step is None else 0.0
    if position <= near:
        bound = _lower(known, domain)
        return ("low", bound) if bound < domain.low else None
    if position >= 1 - near:
        bound = _higher(known, domain)
        return ("high", bound) if bound > domain.high else None
    return None


def _position(domain: FloatRange | IntRange, value: float) -> float:
    """Where the value lies between low (0) and high (1), on the range's own scale."""
    if domain.log:
        return math.log(value / domain.low) / math.log(domain.high / domain.low)
    return (value - domain.low) / (domain.high - domain.low)


def _lower(known: Known, domain: FloatRange | IntRange) -> float:
    if isinstance(domain, IntRange):
        return max(int(known.low), domain.low // 2)
    if domain.log or known.above_low:
        return _clean(domain.low / 10)
    return max(known.low, _clean(domain.low - (domain.high - domain.low)))


def _higher(known: Known, domain: FloatRange | IntRange) -> float:
    if isinstance(domain, IntRange):
        return min(int(known.high), domain.high * 2)
    if not math.isinf(known.high):  # such as momentum below 1: go nine tenths of the way
        return _clean(known.high - (known.high - domain.high) / 10)
    return _clean(domain.high * 10 if domain.log else domain.high + (domain.high - domain.low))


def _clean(number: float) -> float:
    """The number without the noise of binary arithmetic."""
    return float(f"{number:.6g}")
