"""How many trials of a model of the user's own trained side by side, and why the others did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from sweeper.records import TrialRecord

ONE_BY_ONE = "trained one by one: "  # a trial's note begins so where it was


def fused_sentence(of: int, reasons: Mapping[str, int]) -> str:
    """In words, of so many trials: ``48 of 64 fused; not fused: forward() calls .item() (line 12)``."""
    fused = of - sum(reasons.values())
    if len(reasons) == 1:
        return f"{fused} of {of} fused; not fused: {next(iter(reasons))}"
    others = "; ".join(f"{reason} ({count})" for reason, count in reasons.items())
    return f"{fused} of {of} fused" + (f"; not fused: {others}" if others else "")


def how_trained(trials: Iterable[TrialRecord]) -> str:
    """The sentence for the trials that have trained."""
    trained = [trial for trial in trials if trial.epochs]
    notes = [note for trial in trained for note in trial.notes if note.startswith(ONE_BY_ONE)]
    return fused_sentence(len(trained), Counter(note.removeprefix(ONE_BY_ONE) for note in notes))
