"""The letters of a picture: fonts that hold them, and what stands in their place where no installed font does."""

from __future__ import annotations

import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

EASTERN = (  # usual fonts with Chinese, Japanese or Korean letters, on Linux, Windows and macOS
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans CJK KR",
    "Noto Sans SC",
    "Noto Sans JP",
    "Noto Sans KR",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "Microsoft YaHei",
    "SimHei",
    "Yu Gothic",
    "Meiryo",
    "Malgun Gothic",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
    "NanumGothic",
    "IPAGothic",
    "Arial Unicode MS",
)
WIDE_EXTRA = 0.4  # em: what a wide letter takes in a browser beyond the box that matplotlib measures for an unknown one
LONGEST = 14  # letters of a label in a picture; a wide one counts twice


@cache
def families() -> tuple[str, ...]:
    """The pictures' font families, each a fallback of those before it."""
    installed = set(font_manager.get_font_names())
    return ("sans-serif", *(name for name in EASTERN if name in installed))


def quiet() -> None:
    """No warning of letters without a font: an SVG leaves them to the browser. For good: threads share the filters."""
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")


def escaped(text: str) -> str:
    """The text, with escapes such as ``\\u4e2d`` for letters that no font here has."""
    return "".join(c if _drawable(c) else c.encode("unicode_escape").decode("ascii") for c in text)


def escape_all(figure: Figure) -> None:
    """Escape what cannot be drawn in all texts of a painted figure."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            formatter: Any = axis.get_major_formatter()
            if isinstance(formatter, FuncFormatter):  # as `set_xticks` with labels makes one
                formatter.func = _escaping(formatter.func)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_text(escaped(text.get_text()))


def extra_width(text: str, size: float) -> float:
    """Points that a browser needs for a text of ``size`` points beyond what matplotlib measures."""
    return WIDE_EXTRA * size * sum(_columns(c) == 2 and not _drawable(c) for c in text)


def short_labels(names: Sequence[str], limit: int = LONGEST) -> tuple[list[str], list[str]]:
    """Labels of at most ``limit`` letters that stay distinct, and a legend of those that had to be numbered."""
    cut = [_cut(name, limit) for name in names]
    same = Counter(cut)
    numbered = [i for i, label in enumerate(cut) if same[label] > 1]
    for i in numbered:
        number = f"[{i + 1}] "
        cut[i] = number + _cut(names[i], limit - len(number))
    return cut, [f"[{i + 1}] is {names[i]}" for i in numbered]


def _escaping(written: Callable[..., str]) -> Callable[..., str]:
    return lambda value, position: escaped(written(value, position))


def _cut(text: str, limit: int) -> str:
    if sum(map(_columns, text)) <= limit:
        return text
    kept = ""
    for c in text:
        if sum(map(_columns, kept + c)) > limit - 1:
            break
        kept += c
    return f"{kept.rstrip()}…"


def _columns(c: str) -> int:
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def _drawable(c: str) -> bool:
    return c.isascii() or ord(c) in _letters()


@cache
def _letters() -> frozenset[int]:
    """The code points of all families' fonts."""
    found: set[int] = set()
    for family in families():
        path = font_manager.findfont(font_manager.FontProperties(family=[family]))
        found |= font_manager.get_font(path).get_charmap().keys()
    return frozenset(found)
