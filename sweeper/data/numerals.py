"""Numbers as people write them: ``$1,498.00``, ``1.498,00``, ``12.3%``, ``(12.50)``, ``5 kg``, ``1'498``, ``−5``.

Exported models carry a copy of this file, so that they read the same cells in the same way: it uses the standard
library alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# What stands for a missing value, in numbers and in texts alike. "?" is the convention of the UCI repository.
MISSING = ("", "?", "NA", "N/A", "n/a", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null")
# What more stands for one among numbers, in lower case.
MARKS = frozenset(
    {text.lower() for text in MISSING}
    | {"-", "--", "---", "—", ".", "..", "...", "n.a.", "n.a", "k.a.", "none", "nil", "missing", "unknown"}
    | {"#div/0!", "#value!", "#ref!", "#num!", "#name?", "#null!"}
)
FLAGS = {"true": 1.0, "false": 0.0}
SCALES = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9}  # only where more than one of them stands in a column
MOST_UNITS = 5  # in one column; what stands behind numbers in more ways is no unit
LONG_CODE = 7  # digits; as many in every cell are a code, such as a phone number

_SPACES = "\t\u00a0\u2007\u2009\u202f\u3000"
_PLAIN = str.maketrans(
    {
        **dict.fromkeys(_SPACES, " "),
        **dict.fromkeys("\u2212\u2013\uff0d", "-"),
        **dict.fromkeys("\u2019\u02bc", "'"),
        **dict.fromkeys("\u200b\u200e\ufeff", None),
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
    }
)
_CURRENCY = r"(?:[A-Za-z]{0,3}[$€£¥₹₽₩₺₫₪₴₱₦฿¢]|Rs\.?|kr\.?|S?Fr\.?|RM|Kč|zł|"
_CURRENCY += "(?i:USD|EUR|GBP|CHF|JPY|CNY|INR|RUB|SEK|NOK|DKK|PLN|CZK|HUF|BRL|AUD|CAD|NZD|MXN|ZAR|TRY|KRW|SGD|HKD))"
_NUMERAL = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>[+-])?\s*(?:(?P<before>{_CURRENCY})\s*)?(?P<open2>\()?(?P<sign2>[+-])?\s*"
    r"(?P<core>[.,]?[0-9](?:[0-9.,' _]*[0-9])?[.,]?)(?P<exponent>[eE][+-]?[0-9]+)?"
    r"\s*(?P<after>(?:[^\W\d_]|[%‰°$€£¥₹₽₩₺₫₪₴₱₦฿¢])[^(),;:]{0,11}?)?(?P<trailing>-)?\s*(?P<close>\))?"
)
_GROUPS = {
    mark: re.compile(rf"[1-9][0-9]{{0,2}}(?:{re.escape(mark)}[0-9]{{3}})+" + more)
    for mark, more in ((",", "|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}"), (".", ""), (" ", ""), ("'", ""), ("_", ""))
}


@dataclass(frozen=True)
class Writing:
    """How a column writes its numbers. ``scaled``: k, M and B behind a number stand for thousands, millions ...

    ``unit`` is in one spelling, ``label`` as people write it.
    """

    decimal: str = "."
    thousands: str = ""
    unit: str = ""
    scaled: bool = False
    label: str = field(default="", compare=False)


PLAIN = Writing()
_WRITINGS = (
    PLAIN,
    *(Writing(d, t) for t in (",", "", ".", " ", "'", "_") for d in ".," if d != t and (d, t) != (".", "")),
)


@dataclass(frozen=True)
class Numeral:
    """The parts of a cell that holds a number: ``core`` are its digits with their marks."""

    negative: bool
    core: str
    exponent: str
    before: str
    after: str
    plus: bool
    label: str

    @property
    def unit(self) -> str:
        """What stands before and after the number."""
        return " ".join(part for part in (self.before, self.after) if part)


def parted(text: str) -> Numeral | None:
    """The parts of a text that is one number with at most a unit; None: it is none."""
    found = _NUMERAL.fullmatch(text.translate(_PLAIN).strip())
    if found is None:
        return None
    opened = bool(found["open"]) + bool(found["open2"])
    signs = [found[name] for name in ("sign", "sign2", "trailing") if found[name]]
    if opened != bool(found["close"]) or len(signs) + opened > 1:
        return None
    if all(digits_of(found["core"], writing) is None for writing in _WRITINGS):
        return None  # a date, an address of a computer
    written = [(found[name] or "").strip() for name in ("before", "after")]
    before, after = map(_spelt, written)
    return Numeral(
        opened == 1 or "-" in signs,
        found["core"],
        found["exponent"] or "",
        before,
        after,
        "+" in signs,
        " ".join(filter(None, written)),
    )


def _spelt(unit: str) -> str:
    """A unit in one spelling: kg of KG and kg., day of days."""
    unit = unit.strip().rstrip(".")
    if len(unit) > 1:
        unit = unit.casefold()
    return unit[:-1] if len(unit) > 2 and unit.endswith("s") else unit


def is_mark(text: str) -> bool:
    """Whether a text among numbers stands for a missing one."""
    return text.strip().lower() in MARKS or text.translate(_PLAIN).strip().lower() in MARKS


def digits_of(core: str, writing: Writing) -> str | None:
    """The core as Python writes a number; None: it is not written so."""
    whole, point, fraction = core.partition(writing.decimal)
    if writing.thousands and writing.thousands in whole:
        if not _GROUPS[writing.thousands].fullmatch(whole):
            return None
        whole = whole.replace(writing.thousands, "")
    if not (whole + fraction).isdecimal():
        return None
    return f"{whole or '0'}.{fraction or '0'}" if point else whole


def read_number(cell: Any, writing: Writing = PLAIN) -> float:
    """A cell as a number, NaN where it is missing. What is no text is taken as it is; true is 1, false is 0.

    Raises:
        ValueError: it is no number in this writing.
    """
    if not isinstance(cell, str):
        return float("nan") if cell is None or str(cell) in ("<NA>", "NaT") else float(cell)
    if is_mark(cell):
        return float("nan")
    text = cell.strip().lower()
    if text in FLAGS:
        return FLAGS[text]
    found = parted(cell)
    if found is not None and (value := value_of(found, writing)) is not None:
        return value
    raise ValueError(f"{cell[:60]!r} is not a number{described(writing)}")


def value_of(numeral: Numeral, writing: Writing) -> float | None:
    """The number that the parts stand for in a writing; None: they are not written so."""
    scale = SCALES.get(numeral.after) if writing.scaled else None
    unit = numeral.before if scale is not None else numeral.unit
    digits = digits_of(numeral.core, writing)
    if digits is None or unit not in ("", writing.unit):
        return None
    value = float(digits + numeral.exponent) * (scale or 1.0)
    return -value if numeral.negative else value


def described(writing: Writing) -> str:
    """How numbers of this writing look, as words behind "number"; empty for plain ones."""
    names = {",": "commas", ".": "points", " ": "spaces", "'": "apostrophes", "_": "underscores"}
    parts = [f"{names[writing.thousands]} between thousands"] if writing.thousands else []
    parts += ["decimal commas"] if writing.decimal == "," else []
    parts += ["k, M, B for thousands, millions, billions"] if writing.scaled else []
    return (f" in {writing.label or writing.unit}" if writing.unit else "") + (
        f" with {' and '.join(parts)}" if parts else ""
    )


def from_json(written: Mapping[str, Mapping[str, Any]]) -> dict[str, Writing]:
    """The writings of columns, as they are stored."""
    return {name: Writing(**fields) for name, fields in written.items()}


@dataclass(frozen=True)
class Doubt:
    """Why texts that look like numbers cannot be read as such: the cell, what is wrong with it, what to do.

    ``texts``: they are good texts as they are.
    """

    cell: str
    problem: str
    remedy: str
    texts: bool = False


def writing_of(cells: Sequence[str], hint: str | None = None, codes: bool = False) -> Writing | Doubt | None:
    """How all of ``cells`` write their numbers. None: they are texts, such as codes with leading zeros.

    ``hint`` is the decimal mark of the rest of the file, where that is known. With ``codes`` numbers may begin with
    zeros, and may all be long.
    """
    found = {cell: numeral for cell in cells if not is_mark(cell) and (numeral := parted(cell)) is not None}
    if not found or (not codes and _are_codes(list(found.values()))):
        return None
    unit = _unit(found)
    if not isinstance(unit, Writing):
        return unit
    marks = _marks(found, hint if unit.unit or hint else _usual(found))
    if not isinstance(marks, Writing):
        return marks
    return Writing(marks.decimal, marks.thousands, unit.unit, unit.scaled, unit.label)


def _are_codes(found: Sequence[Numeral]) -> bool:
    """Codes begin with zeros, or all have the same long number of digits; telephone numbers begin with a plus."""
    bare = [numeral for numeral in found if not numeral.unit and not numeral.exponent]
    if any(re.fullmatch(r"0[0-9][0-9 ]*", numeral.core) for numeral in bare):
        return True
    if any(numeral.plus and " " in numeral.core for numeral in bare):
        return True
    lengths = {len(re.sub(r"[^0-9]", "", numeral.core)) for numeral in bare}
    whole = all(re.fullmatch(r"[0-9]+(?:[ .][0-9]{3})*", numeral.core) for numeral in bare)
    one_point = any(numeral.core.count(".") == 1 for numeral in bare)
    return len(bare) == len(found) and len(lengths) == 1 and min(lengths) >= LONG_CODE and whole and not one_point


def _unit(found: Mapping[str, Numeral]) -> Writing | Doubt | None:
    """The one unit of all numbers. None: what stands behind the numbers is no unit."""
    after = {numeral.after for numeral in found.values()}
    if len(after) > 1 and after - {""} <= set(SCALES):
        before = {numeral.before for numeral in found.values()} - {""}
        unit = next(iter(before), "")
        return Writing(unit=unit, scaled=True, label=unit) if len(before) < 2 else None
    units: dict[str, str] = {}
    for cell, numeral in found.items():
        units.setdefault(numeral.unit, cell)
    some = [unit for unit in units if unit]
    if len(some) > MOST_UNITS:
        return None
    if len(some) > 1:
        one, two = (found[units[unit]].label for unit in some[:2])
        problem = f"is in {two}, and others are in {one}"
        return Doubt(units[some[1]], problem, "Write all of them in one unit", texts=True)
    unit = some[0] if some else ""
    if unit and "" in units and not re.fullmatch(_CURRENCY, unit, re.IGNORECASE):
        bare = next((c for c, n in found.items() if not n.unit and n.core.strip("0.,")), None)
        if bare is not None:
            problem = f"has no unit, and others have {found[units[unit]].label}"
            return Doubt(bare, problem, "Write all of them with the unit or without")
    return Writing(unit=unit, label=found[units[unit]].label if unit else "")


def _usual(found: Mapping[str, Numeral]) -> str | None:
    """The point is the decimal mark of bare numbers without a comma, as everywhere."""
    return None if any("," in numeral.core for numeral in found.values()) else "."


def _marks(found: Mapping[str, Numeral], hint: str | None) -> Writing | Doubt:
    """The decimal mark and the one between thousands, under which all numbers can be read."""
    cores = {numeral.core: cell for cell, numeral in found.items()}
    fitting: dict[tuple[float, ...], Writing] = {}
    best, missed = PLAIN, list(cores)
    for writing in _WRITINGS:
        digits = [digits_of(core, writing) for core in cores]
        failed = [core for core, text in zip(cores, digits, strict=True) if text is None]
        if not failed:
            fitting.setdefault(tuple(float(text) for text in digits if text is not None), writing)
        if len(failed) < len(missed):
            best, missed = writing, failed
    if not fitting:
        problem = f"is not a number{described(best)}, as others of the column are"
        return Doubt(cores[missed[0]], problem, "Write all numbers of the column in one way")
    if len(fitting) > 1 and (mark := _thousands(list(cores))) is not None:
        fitting = {values: w for values, w in fitting.items() if w.thousands == mark} or fitting
    if len(fitting) > 1 and hint is not None:
        fitting = {values: w for values, w in fitting.items() if w.decimal == hint} or fitting
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    one, two = list(fitting)[:2]
    place = next(i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b)
    low, high = sorted((one[place], two[place]))
    problem = f"may be {high:,.0f} or {low:.4g}: nothing in the column tells a decimal mark from one between thousands"
    return Doubt(list(cores.values())[place], problem, "Write the numbers without marks between thousands")


def _thousands(cores: Sequence[str]) -> str | None:
    """The mark that can only stand between thousands: whole numbers lack it, and zeros at the end keep it."""
    for mark in ",.":
        marked = [core for core in cores if mark in core]
        bare = [core for core in cores if mark not in core and core.strip("0")]
        whole = all(core.replace(mark, "").isdecimal() for core in cores)
        if whole and bare and any(core.endswith("0") for core in marked):
            return mark
    return None
