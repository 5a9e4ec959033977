"""What users write on their sweeps, and the list that is filtered by it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sweeper.cli import render
from sweeper.cli.commands import find_place
from sweeper.errors import SpecError, nearest
from sweeper.insight.results import best_trials, clean, sweep_row
from sweeper.ledger.protocol import LedgerReader
from sweeper.records import MAX_NOTE, MAX_TAG, MAX_TAGS, Labels, SweepRecord

SECONDS_OF = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
SORTABLE = ("created", "name", "state", "requested", "complete", "seconds", "best")
FIRST_LINE = 60  # letters of a note in the list


def list_sweeps(tags: Sequence[str], sort: str | None, since: str | None, archived: bool, as_json: bool) -> None:
    """Print the sweeps that have all these tags and were made since then."""
    first = None if since is None else _time_of(since)
    _check_sort(sort)
    ledger = find_place().ledger
    every = ledger.sweeps()
    found = [
        record
        for record in every
        if set(tags) <= set(record.tags)
        and (first is None or record.created_at >= first)
        and (archived or not record.archived)
    ]
    rows = [_row(ledger, record, sort) for record in found]
    if sort is not None:
        rows = _sorted(rows, sort)
    if as_json:
        print(json.dumps({"sweeps": [_told(row, sort) for row in rows]}))
    elif rows:
        render.table(_without_empty([_shown(row) for row in rows]))
    elif every:
        print(f"no such sweep among {len(every)}. `sweeper list --archived` shows all of them")
    else:
        print("no sweeps yet. Start one with: sweeper run --dataset digits --space mlp")


def note(ref: str, text: str | None, as_json: bool) -> None:
    """Print a sweep's note, or write it."""
    place = find_place()
    record = place.ledger.sweep(ref)
    if text is not None:
        if len(text) > MAX_NOTE:
            raise SpecError(f"a note of {len(text):,} letters", key="note", remedy=f"Write at most {MAX_NOTE:,}")
        record = place.label(record, Labels(note=text))
    if as_json:
        print(json.dumps({"sweep": record.sweep, "note": record.note}))
    else:
        print(record.note or f"sweep {record.sweep} has no note")


def tag(ref: str, add: Sequence[str], remove: Sequence[str], as_json: bool) -> None:
    """Print a sweep's tags, after some were added and others removed."""
    place = find_place()
    record = place.ledger.sweep(ref)
    for text in (*add, *remove):
        _check_tag(text)
    for text in remove:
        if text not in record.tags:
            raise SpecError(f"the sweep has no tag {text!r}", key="--remove", remedy=nearest(text, record.tags))
    wanted = tuple(dict.fromkeys(text for text in (*record.tags, *add) if text not in remove))
    if len(wanted) > MAX_TAGS:
        raise SpecError(f"{len(wanted)} tags", key="tag", remedy=f"A sweep has at most {MAX_TAGS}")
    if wanted != record.tags:
        record = place.label(record, Labels(tags=wanted))
    if as_json:
        print(json.dumps({"sweep": record.sweep, "tags": list(record.tags)}))
    else:
        print(", ".join(record.tags) or f"sweep {record.sweep} has no tags")


def archive(ref: str, archived: bool, as_json: bool) -> None:
    """Take a sweep off the list, or put it back."""
    place = find_place()
    record = place.label(place.ledger.sweep(ref), Labels(archived=archived))
    if as_json:
        print(json.dumps({"sweep": record.sweep, "archived": record.archived}))
    else:
        print(f"sweep {record.sweep} is {'archived' if record.archived else 'listed again'}")


def _check_tag(text: str) -> None:
    if not text.strip() or len(text) > MAX_TAG or not text.isprintable():
        remedy = f"Write 1 to {MAX_TAG} printable letters"
        raise SpecError(f"{text[:MAX_TAG]!r} is not a tag", key="tag", remedy=remedy)


def _row(ledger: LedgerReader, record: SweepRecord, sort: str | None) -> dict[str, Any]:
    """Everything about a sweep; the best value only where it is sorted by."""
    row = {
        **sweep_row(record),
        "created": datetime.fromtimestamp(record.created_at, UTC).isoformat(timespec="seconds"),
        "seconds": round(record.seconds, 1),
        "tags": list(record.tags),
        "note": record.note,
        "archived": record.archived,
    }
    if (sort or "").removeprefix("-") == "best":
        best = best_trials(ledger, record, 1)
        row["best"] = clean(best[0].value) if best else None
    return row


def _told(row: dict[str, Any], sort: str | None) -> dict[str, Any]:
    """A row as JSON: labels where there are any, and what was sorted by."""
    wanted = (sort or "").removeprefix("-")
    left_out = [key for key in ("created", "seconds") if key != wanted]
    left_out += [key for key in ("tags", "note", "archived") if not row[key]]
    return {key: value for key, value in row.items() if key not in left_out}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people: without seconds, and of the note its first line."""
    line = row["note"].strip().split("\n")[0]
    short = line if len(line) <= FIRST_LINE else f"{line[: FIRST_LINE - 1]}…"
    kept = {key: value for key, value in row.items() if key not in ("seconds", "archived")}
    created = row["created"].replace("T", " ")[:16]
    return kept | {"created": created, "tags": ", ".join(row["tags"]), "note": short}


def _without_empty(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same without columns in which nothing stands, such as the trials that failed."""
    filled = [key for key in rows[0] if key in ("sweep", "name", "complete") or any(row[key] for row in rows)]
    return [{key: row[key] for key in filled} for row in rows]


def _check_sort(sort: str | None) -> None:
    if sort is not None and sort.removeprefix("-") not in SORTABLE:
        raise SpecError(f"cannot sort by {sort!r}", key="--sort", remedy=nearest(sort.removeprefix("-"), SORTABLE))


def _sorted(rows: list[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    """By a key; rows without a value come last."""
    name = sort.removeprefix("-")
    known = [row for row in rows if row[name] is not None]
    ordered = sorted(known, key=lambda row: row[name], reverse=sort.startswith("-"))
    return ordered + [row for row in rows if row[name] is None]


def _time_of(since: str) -> float:
    """Unix seconds of a date, or of so long ago.

    Raises:
        SpecError: it is neither.
    """
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*([dhms])", since.strip().lower())
    if match is not None:
        return time.time() - float(match[1]) * SECONDS_OF[match[2]]
    try:
        date = datetime.fromisoformat(since.strip())
    except ValueError:
        remedy = "Write 7d, 12h, or a date such as 2026-11-29 or 2026-11-29T08:00"
        raise SpecError(f"{since[:40]!r} is no time", key="--since", remedy=remedy) from None
    return (date if date.tzinfo is not None else date.astimezone()).timestamp()
