"""How the workers, and the trials of each user, are divided between the processes that run sweeps of one service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SharesChanged:
    """Other processes of a service run sweeps beside this one's, on the same machines: what is left for these.

    ``workers`` may hold rows at once (None: all). ``held`` are the workers that each owner has elsewhere, ``running``
    the trials that each owner may run elsewhere, of as many as one user may run.
    """

    workers: int | None = None
    held: Mapping[str, int] = field(default_factory=dict)
    running: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A sweep that runs: ``trials`` of it are not over, ``running`` of these have a worker.

    ``apart``: it has a process of its own; the others share one.
    """

    sweep: str
    owner: str
    priority: int
    trials: int
    running: int
    apart: bool


def deal(claims: Sequence[Claim], workers: int) -> dict[str, int]:
    """The workers of each sweep: one by one to the highest priority, the owner with the fewest, the sweep with fewest.

    No sweep gets more than it has trials.
    """
    got, by_owner = Counter[str](), Counter[str]()
    for _ in range(workers):
        wanting = [claim for claim in claims if got[claim.sweep] < claim.trials]
        if not wanting:
            break
        best = min(wanting, key=lambda claim: (-claim.priority, by_owner[claim.owner], got[claim.sweep]))
        got[best.sweep] += 1
        by_owner[best.owner] += 1
    return {claim.sweep: got[claim.sweep] for claim in claims}


@dataclass(frozen=True)
class Division:
    """What every process may take.

    ``workers`` by sweep that runs apart, and ``rest`` of them for the process of the others. ``trials`` by sweep that
    runs apart, and those that are ``kept`` for such sweeps, by owner.
    """

    workers: Mapping[str, int] = field(default_factory=dict)
    rest: int = 0
    trials: Mapping[str, int] = field(default_factory=dict)
    kept: Mapping[str, int] = field(default_factory=dict)


def divide(claims: Sequence[Claim], workers: int, limit: int | None, before: Division) -> Division:
    """Divide ``workers``, and ``limit`` trials of each user (None: no limit), when so much was allowed ``before``.

    A sweep that runs apart has one worker at least, and so has the process of the others while it has sweeps: with
    more sweeps than workers that is more than there are. Trials are never more than the limit: what somebody still
    runs, or was told a moment ago that he may, nobody else is given.
    """
    apart = [claim for claim in claims if claim.apart]
    dealt = deal(claims, workers)
    lent = {claim.sweep: max(1, dealt[claim.sweep]) for claim in apart}
    rest = max(int(len(apart) < len(claims)), workers - sum(lent.values()))
    if limit is None:
        return Division(lent, rest)
    trials: dict[str, int] = {}
    kept: dict[str, int] = {}
    for owner in dict.fromkeys(claim.owner for claim in apart):
        given, kept[owner] = _trials_of(owner, [c for c in claims if c.owner == owner], limit, before)
        trials |= given
    return Division(lent, rest, trials, kept)


def _trials_of(owner: str, mine: Sequence[Claim], limit: int, before: Division) -> tuple[dict[str, int], int]:
    """What each sweep of one owner may run that runs apart, and how many of the limit are kept for these."""
    apart = [claim for claim in mine if claim.apart]
    others = [claim for claim in mine if not claim.apart]
    part = max(1, limit // (len(apart) + bool(others)))
    held = {claim.sweep: max(claim.running, before.trials.get(claim.sweep, 0)) for claim in apart}
    free = limit - sum(claim.running for claim in others)
    if others:  # they may begin as many as they were told before
        free = min(free, before.kept.get(owner, 0))
    given: dict[str, int] = {}
    kept = 0
    for claim in apart:
        wanted = min(part, claim.trials)
        elsewhere = sum(held.values()) - held[claim.sweep]
        given[claim.sweep] = max(0, min(wanted, free - elsewhere))
        held[claim.sweep] = max(held[claim.sweep], given[claim.sweep])
        kept += max(wanted, held[claim.sweep])
    return given, kept
