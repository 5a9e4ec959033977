"""What both ledgers share besides the rules of a commit: sweep ids, how a user names a sweep, the order of trials."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from sweeper.errors import SpecError, SweepNotFound, TakenOver, nearest
from sweeper.records import Change, TrialRecord

SORTABLE = ("number", "state", "value", "epochs", "seconds", "attempt", "lost", "started_at", "ended_at")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_EPOCH_2020 = 1_577_836_800
_FIRST_LETTER = 10 << 25  # the ids of 2020 start with a, later ones with later letters
_PREFIX_MIN = 4
_LISTED = 12


def new_sweep_id(now: float) -> str:
    """Eight letters and digits, a letter first: six tell the second, so that ids sort by age, two are random."""
    moment = (_FIRST_LETTER + max(0, int(now) - _EPOCH_2020)) % (1 << 30)
    bits = moment << 10 | secrets.randbits(10)
    return "".join(_ALPHABET[bits >> shift & 31] for shift in range(35, -1, -5))


def find_sweep(ref: str, newest_first: Sequence[tuple[str, str]]) -> str:
    """The id that ``ref`` means among (id, name) pairs: an id, else the newest of that name, else the start of one id.

    Raises:
        SweepNotFound: none, or several ids start like this.
    """
    for match in (0, 1):
        for pair in newest_first:
            if pair[match] == ref:
                return pair[0]
    starting = [sweep for sweep, _ in newest_first if len(ref) >= _PREFIX_MIN and sweep.startswith(ref)]
    if len(starting) == 1:
        return starting[0]
    if starting:
        raise SweepNotFound(
            f"{len(starting)} sweeps start with {ref!r}: {', '.join(sorted(starting)[:5])}. Write more of it"
        )
    raise no_sweep(ref, newest_first)


def no_sweep(ref: str, known: Iterable[tuple[str, str]]) -> SweepNotFound:
    """The error for a sweep that is not there, with the nearest id or name."""
    names = list(dict.fromkeys(part for pair in known for part in pair))
    hint = nearest(ref, names) if names else "This ledger holds no sweeps yet"
    if len(names) > _LISTED and not hint.startswith("Did"):
        hint = "`sweeper list` shows them all"
    return SweepNotFound(f"there is no sweep {ref!r}. {hint}")


def no_such_trial(sweep: str, number: int, requested: int) -> SpecError:
    """The error for a trial number beyond the sweep."""
    return SpecError(f"sweep {sweep} has no trial {number}", remedy=f"Its trials are 0 to {requested - 1}")


def check_holder(sweep: str, held: int | None, number: int, owner: str | None) -> None:
    """Refuse the holder of lease ``held`` (None: a user) when the sweep's last lease is ``number``, of ``owner``.

    Raises:
        TakenOver: there has been another holder since.
    """
    if held is not None and held != number:
        by = f"by {owner.split()[0]}" if owner else "by a process that has let it go since"
        raise TakenOver(
            f"sweep {sweep} was taken over {by}: this process stops, and writes nothing more. "
            f"Watch it with: sweeper status {sweep} --watch"
        )


def check_extension(refused: Sequence[Change], sweep: str, requested: int) -> None:
    """Turn a refused change of the number of trials into the user's error.

    Raises:
        SpecError: the change was refused.
    """
    if refused:
        raise SpecError(
            f"sweep {sweep} cannot be changed to {requested} trials: "
            "it is complete, or trials above that number have started",
            key="trials",
            remedy="Ask for at least as many trials as have started",
        )


def sort_trials(trials: list[TrialRecord], sort: str) -> list[TrialRecord]:
    """Order by a field or a metric, ``-name`` descending; missing values and NaN last, ties by number.

    Raises:
        SpecError: no trial has such a field or metric.
    """
    name, descending = sort.removeprefix("-"), sort.startswith("-")
    metrics = {metric for trial in trials for metric in trial.metrics}
    if name not in SORTABLE and name not in metrics and metrics:
        raise SpecError(f"cannot sort by {name!r}", key="sort", remedy=nearest(name, [*SORTABLE, *sorted(metrics)]))

    def value(trial: TrialRecord) -> Any:
        return getattr(trial, name) if name in SORTABLE else trial.metrics.get(name)

    def present(trial: TrialRecord) -> bool:
        found = value(trial)
        return found is not None and not (isinstance(found, float) and math.isnan(found))

    ordered = sorted((trial for trial in trials if present(trial)), key=value, reverse=descending)
    return ordered + [trial for trial in trials if not present(trial)]
