"""What ``sweeper compare`` prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from sweeper.cli import commands, render
from sweeper.errors import SweeperError
from sweeper.insight.comparison import SweepComparison, comparison_to_json
from sweeper.insight.headline import duration
from sweeper.text import number

WIDEST = 70  # signs of a value in the table of changes


def compare(refs: Sequence[str], seeds: int, out: str | None, as_json: bool) -> None:
    """Compare sweeps and print the answer; write it as a page, too, if ``out`` names one."""
    found = commands.find_place().compare(refs, seeds)
    if out is not None:
        _write(found, Path(out))
    if as_json:
        print(json.dumps(comparison_to_json(found) | ({} if out is None else {"page": str(Path(out).absolute())})))
        return
    _print(found)
    if out is not None:
        print(f"\npage: {out}")


def _write(found: SweepComparison, file: Path) -> None:
    from sweeper.report.comparison import comparison_page
    from sweeper.report.page import write_page

    try:
        write_page(file, comparison_page(found))
    except OSError as error:
        remedy = "Choose another --out"
        raise SweeperError(f"the page cannot be written to {file}: {error.strerror}. {remedy}") from error


def _print(found: SweepComparison) -> None:
    print(f"{found.sentence}\n")
    render.table(
        [
            {
                "": c.letter,
                "sweep": c.sweep,
                "name": c.name,
                "state": c.state,
                "complete": c.complete,
                "took": duration(c.seconds),
                "winner": c.trial,
                c.metric: c.value,
            }
            for c in found.contenders
        ]
    )
    if (contest := found.contest) is not None:
        print(f"\n{contest.metric} of the winners, with 95% intervals for new rows:")
        for score in contest.scores:
            print(f"  {score.letter}  {number(score.mean)}  ({score.bounds})")
        if found.problem:
            print(f"  not on common rows: {found.problem}")
    data = "the same data" if found.same_data else "other data, or split otherwise"
    letters = [c.letter for c in found.contenders]
    print(f"\nchanged ({data}):" if found.changes else f"\nnothing was changed in the sweep file ({data})")
    if found.changes:
        render.table(
            [
                {"key": change.key, **{x: _cut(value) for x, value in zip(letters, change.values, strict=True)}}
                for change in found.changes
            ]
        )
    if found.effects:
        print("\neffects:")
        rows = [
            {"parameter": e.parameter, "choices": " or ".join(e.choices), "verdict": e.verdict} for e in found.effects
        ]
        render.table(rows)


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
