"""Matplotlib figures as inline SVG that takes its colours from the page, so that light and dark both work."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from sweeper.report.letters import families, quiet

# Okabe and Ito, Color Universal Design (2008), without black and yellow, which vanish on a dark or a light page. The
# page may replace each by its variable --c0 ... --c6: some are too dark for a dark page.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY = COLOURS
INK, LINE, PAPER = "#010203", "#040506", "#070809"  # stand for the page's text colour, its rules and its background
WIDTH = 8.4  # inches
SVG_DPI = 72  # of every SVG: its unit is the point
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": families(),
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.6,
}
_REFERENCE = re.compile(r'(?:href="#|url\(#)([^")]+)')
_IDENTITY = re.compile(r' id="([^"]*)"')


@dataclass(frozen=True)
class Plot:
    """A figure of the page: ``alt`` says in words what it shows, ``svg`` is markup that needs no escaping.

    ``painter`` fills a figure of ``height`` inches with it once more, for ``figures.figure_of``.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: str
    height: float = field(default=3.0, repr=False)
    painter: Callable[[Figure], None] = field(default=lambda figure: None, repr=False, compare=False)


def draw(name: str, title: str, caption: str, alt: str, height: float, painter: Callable[[Figure], None]) -> Plot:
    """Have ``painter`` fill a figure of ``height`` inches and take it as SVG. ``name`` is unique in a page."""
    quiet()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        painter(figure)
        figure.dpi = SVG_DPI
        engine = figure.get_layout_engine()
        assert engine is not None
        engine.execute(figure)
        figure.set_layout_engine("none")
        stream = io.StringIO()
        canvas.print_svg(stream, metadata={"Date": None, "Creator": None})  # savefig would draw everything twice
    return Plot(name, title, caption, alt, _inline(stream.getvalue(), alt), height, painter)


def plain_log(axis: Any) -> None:
    """Ticks such as 1e-3 or 0.02 instead of powers that need mathematical type; no minor ticks, which take long."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = sorted(axis.get_view_interval())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    ratio = high / max(low, 1e-300)
    if ratio < 8:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        return
    subs = (1.0, 2.0, 5.0) if ratio < 30 else (1.0, 3.0) if ratio < 300 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=8))


def _inline(svg: str, alt: str) -> str:
    """Only the svg element: scalable, with a text alternative, the page's colours and no identities but those used."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    used = set(_REFERENCE.findall(body))
    body = _IDENTITY.sub(lambda match: match.group(0) if match.group(1) in used else "", body)
    body = body.replace(INK, "currentColor").replace(LINE, "var(--line)").replace(PAPER, "var(--paper)")
    box = re.search(r'viewBox="[^"]*"', body)
    assert box is not None
    for i, colour in enumerate(COLOURS):
        body = body.replace(colour.lower(), f"var(--c{i})")
    text = escape(alt, quote=True)
    head = f'<svg {box.group(0)} role="img" aria-label="{text}"><title>{text}</title>'
    return head + re.sub(r"\n\s*", "\n", body[body.index(">") + 1 :]).strip()
