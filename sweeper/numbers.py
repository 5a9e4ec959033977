"""Numbers and counts as people read them."""

from __future__ import annotations


def number(value: float) -> str:
    """Four digits, or a whole number with separators: 0.06421, 1.2e-07, 31,450."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"  # NaN and infinity as they are


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 column", "2,000 columns"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
