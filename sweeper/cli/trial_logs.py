"""Prints what a trial of an objective of the user's own has printed."""

from __future__ import annotations

import sys
import time

from sweeper.cli.commands import find_place

FOLLOW_SECONDS = 0.5


def logs(ref: str, number: int, follow: bool) -> None:
    """Print a trial's log; with ``follow`` go on until the trial has ended."""
    place = find_place()
    record = place.ledger.sweep(ref)
    begin = 0
    while True:
        ended = place.ledger.trial(record.sweep, number).state.terminal
        found = place.printed(record, number, begin)
        begin += len(found)
        sys.stdout.write(found.decode("utf-8", "replace"))
        sys.stdout.flush()
        if ended or not follow:
            return
        time.sleep(FOLLOW_SECONDS)
