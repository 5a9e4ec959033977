"""How often the report claims what is false, and how often it finds what is true, over simulated sweeps.

The rules behind the claims were tuned on the seeds from 0 to 199; what is measured here begins at ``FIRST_SEED``.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks.fake_sweeps import NULLS, SEARCHES, SPEEDS, TRUTHS, FakeSweep, Surface, fake_sweep
from benchmarks.results import Table, show
from sweeper.insight.advice import edges, no_effect, ranked, small
from sweeper.insight.contrasts import choice_effects, interactions
from sweeper.insight.effects import fit
from sweeper.insight.factors import build_table
from sweeper.insight.importance import importance

KINDS = ("beats", "interaction", "condition", "no effect", "boundary")
Row = dict[str, Any]
SURFACES = {**NULLS, **SPEEDS, **TRUTHS}
TRIALS = 128
FIRST_SEED = 1000


def claims(sweep: FakeSweep) -> tuple[dict[str, set[str]], bool]:
    """What a report claims, by kind: the parameters that each claim is about; and whether it speaks of the end.

    As ``study_trials`` does, but without the questions, which repeat these claims.
    """
    table = build_table(sweep.spec, sweep.trials, sweep.reports)
    model = fit(table)
    found: dict[str, set[str]] = {kind: set() for kind in KINDS}
    if model is None:
        return found, table.basis.at_end
    found["beats"] = {choice.parameter for choice in choice_effects(model) if any(pair.shown for pair in choice.pairs)}
    pairs = interactions(model)
    found["interaction"] = {f"{pair.parameter}, {pair.along}" for pair in pairs}
    found["condition"] = {f"{pair.parameter}, {pair.along}" for pair in pairs if pair.conditions}
    if small(model):  # else no forest is asked, which would take most of the time
        found["no effect"] = {str(advice.parameter) for advice in no_effect(model, importance(table))}
    found["boundary"] = {str(advice.parameter) for advice in edges(sweep.spec, ranked(sweep.spec, sweep.trials), model)}
    return found, table.basis.at_end


@dataclass(frozen=True)
class Verdict:
    """The kinds of which a report makes ``false`` and ``true`` claims, and whether they are about the end."""

    false: frozenset[str]
    true: frozenset[str]
    at_end: bool


def judged(surface: Surface, sweep: FakeSweep) -> Verdict:
    """What of a report's claims holds."""
    made, at_end = claims(sweep)
    real = {kind: surface.real.get(kind, frozenset()) for kind in KINDS}
    if not at_end:
        real |= {kind: real[kind] | surface.early for kind in ("beats", "interaction", "condition")}
    false = frozenset(kind for kind in KINDS if made[kind] - real[kind])
    return Verdict(false, frozenset(kind for kind in KINDS if made[kind] & real[kind]), at_end)


def rates(surface: str, search: str, sweeps: int, first_seed: int = FIRST_SEED) -> dict[str, Any]:
    """The shares of sweeps with a false and with a true claim of each kind, and of those that speak of the end."""
    found = [
        judged(SURFACES[surface], fake_sweep(SURFACES[surface], search, TRIALS, seed))
        for seed in range(first_seed, first_seed + sweeps)
    ]
    false, true = Counter(k for v in found for k in v.false), Counter(k for v in found for k in v.true)
    shares = {kind: {"false": false[kind] / sweeps, "true": true[kind] / sweeps} for kind in KINDS}
    return {"rates": shares, "at_end": sum(v.at_end for v in found) / sweeps}


def rows(surfaces: list[str], searches: list[str], sweeps: int, first: int, file: Path | None) -> Iterator[Row]:
    """One row for each surface and search. Those that ``file`` holds are not measured again; the others are appended.

    The file knows nothing of the rules: after they change, begin another one.
    """
    lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.exists() else []
    known = [json.loads(line) for line in lines]
    for surface in surfaces:
        for search in searches:
            if surface in SPEEDS and SEARCHES[search][1] == "none":
                continue
            cell = {"surface": surface, "search": search, "sweeps": sweeps, "first_seed": first}
            row = next((row for row in known if row | cell == row), None)
            if row is None:
                row = {**cell, **rates(surface, search, sweeps, first)}
                if file is not None:
                    with file.open("a", encoding="utf-8") as out:
                        out.write(json.dumps(row) + "\n")
            yield row


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run in a child."""
    from benchmarks import process

    return process.measure("claims", *(["--quick"] if options.quick else []), one_core=True)


def tables(section: Mapping[str, Any]) -> list[Table]:
    """False claims, and true ones, for each surface and search."""
    seeds = f"seeds from {section['first_seed']}; the rules were tuned on others"
    note = f"Shares of {section['sweeps']} sweeps of {section['trials']} trials ({seeds}). "
    found = []
    for what, title, meaning in (
        ("false", "Sweeps with a false claim", "Whatever is said of a choice that makes no difference is false."),
        ("true", "Sweeps with a true claim", "-: there is none to be made."),
    ):
        rows = tuple(
            (row["surface"], row["search"], *(_share(row, kind, what) for kind in KINDS), f"{row['at_end']:.0%}")
            for row in section["rows"]
        )
        found.append(Table(title, ("surface", "search", *KINDS, "about the end"), rows, note + meaning))
    return found


def _share(row: Mapping[str, Any], kind: str, what: str) -> str:
    if what == "true" and kind not in SURFACES[row["surface"]].real:
        return "-"
    return f"{row['rates'][kind][what]:.1%}"


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=200)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--surfaces", nargs="*", default=list(SURFACES), choices=SURFACES)
    parser.add_argument("--searches", nargs="*", default=list(SEARCHES), choices=SEARCHES)
    parser.add_argument("--file", type=Path, help="append each row to this file, and go on where it ends")
    parser.add_argument("--table", action="store_true", help="print tables instead of JSON")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    sweeps = 1 if options.quick else options.sweeps
    with threadpool_limits(1):
        found = list(rows(options.surfaces, options.searches, sweeps, options.first_seed, options.file))
    section = {"sweeps": sweeps, "trials": TRIALS, "first_seed": options.first_seed, "rows": found}
    if options.table:
        show(tables(section))
    else:
        print(json.dumps(section))


if __name__ == "__main__":
    main()
