"""The results file: sections kept as JSON, shown as tables on a terminal and in Markdown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
JSON, MARKDOWN = FOLDER / "results.json", FOLDER / "results.md"
PIPE_WIDTH = 200  # columns where there is no terminal to fit into


@dataclass(frozen=True)
class Table:
    """Rows of text under a title, with a note on how to read them."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


Tables = Callable[[Mapping[str, Any]], list[Table]]  # of a section's measurements


def read() -> dict[str, Any]:
    """All sections measured so far."""
    return json.loads(JSON.read_text(encoding="utf-8")) if JSON.exists() else {}


def write(name: str, section: Mapping[str, Any], renderers: Mapping[str, Tables]) -> None:
    """Replace one section; the others stay."""
    sections = read() | {name: section}
    JSON.write_text(json.dumps(sections, indent=1) + "\n", encoding="utf-8")
    MARKDOWN.write_text(markdown(sections, renderers), encoding="utf-8")


def markdown(sections: Mapping[str, Any], renderers: Mapping[str, Tables]) -> str:
    """The results page."""
    parts = ["# Benchmark results", "Written by `python -m benchmarks`; how to read it is in README.md beside it."]
    for name, tables in renderers.items():
        if name not in sections:
            continue
        section = sections[name]
        head = [f"- {key}: {value}" for key, value in section["machine"].items()]
        parts += [f"## {name}", "\n".join([f"- command: `{section['command']}`", *head])]
        if section["quick"]:
            parts.append("**Tiny sizes (`--quick`): these numbers only show that everything runs.**")
        parts += [_markdown_table(table) for table in tables(section["data"])]
    return "\n\n".join(parts) + "\n"


def show(tables: Iterable[Table]) -> None:
    """Print tables on the terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for table in tables:
        grid = RichTable(title=table.title, caption=table.note or None, title_justify="left", caption_justify="left")
        for number, column in enumerate(table.columns):
            grid.add_column(column, justify="left" if number == 0 else "right")
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)


def _markdown_table(table: Table) -> str:
    lines = [f"### {table.title}", "", _line(table.columns), _line(["---"] + ["---:"] * (len(table.columns) - 1))]
    lines += [_line(row) for row in table.rows]
    return "\n".join(lines + (["", table.note] if table.note else []))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def number(value: float | None, digits: int = 3) -> str:
    """Significant digits without an exponent where that reads well."""
    if value is None:
        return "-"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def times(value: float | None, base: float | None) -> str:
    """A ratio."""
    return "-" if not value or not base else f"{number(value / base)}x"
