"""Numbers and counts as people read them."""

from __future__ import annotations


def number(value: float, digits: int = 4) -> str:
    """So many digits, or a whole number with separators: 0.06421, 1.2e-07, 31,450; with 2 digits 0.064, 350."""
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text and abs(value) < 1e15 else text


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 column", "2,000 columns"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def from_to(low: float, high: float, digits: int = 4) -> str:
    """Two numbers as a range: "0.064 to 350"."""
    return f"{number(low, digits)} to {number(high, digits)}"
