"""Text for people: names from a user's file made safe to print, numbers and counts as people read them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LISTED = 20  # names in a message


def shown(name: object, limit: int = 60) -> str:
    """A name as one printable line: control characters escaped, the middle of a long one cut out."""
    text = str(name)
    if len(text) > limit:
        text = f"{text[: limit - 10]}…{text[-9:]}"
    return printable(text)


def printable(name: object) -> str:
    """A whole name with its control characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(name))


def listed(names: Iterable[object], limit: int = LISTED) -> str:
    """Names as a list in quotes; after ``limit`` of them their number."""
    every = list(names)
    more = f" and {len(every) - limit:,} more" if len(every) > limit else ""
    return ", ".join(f"'{shown(name)}'" for name in every[:limit]) + more


def nearest_column(name: str, columns: Sequence[str]) -> str:
    """A remedy sentence: the closest column when one is near, then the columns there are."""
    lower = {column.lower().strip()[:100]: column for column in columns}
    close = difflib.get_close_matches(name.lower().strip()[:100], lower, n=1, cutoff=0.6)
    guess = f"Did you mean '{shown(lower[close[0]])}'? " if close else ""
    return f"{guess}The columns are {listed(columns)}"


def is_number(text: str) -> bool:
    """Whether a text can be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


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
