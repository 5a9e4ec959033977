"""Errors a user can act on, named by what must be done, each with its exit code."""

from __future__ import annotations

from collections.abc import Iterable


class SweeperError(Exception):
    """Base of every error shown to a user as one message without a traceback."""

    exit_code = 1


class SpecError(SweeperError):
    """The sweep file, space, dataset or usage has to be corrected. Nothing was written.

    The message names file, key, value and remedy.
    """

    exit_code = 2

    def __init__(self, problem: str, *, file: str | None = None, key: str | None = None, remedy: str | None = None):
        self.problem, self.file, self.key, self.remedy = problem, file, key, remedy
        where = ": ".join(part for part in (file, key) if part)
        super().__init__(f"{where + ': ' if where else ''}{problem}{'. ' + remedy if remedy else ''}")


class NoTrialSucceeded(SweeperError):
    """The sweep ended without one complete trial: the space or the data has to change."""

    exit_code = 3


class SweepNotFound(SweeperError):
    """There is no sweep of that id or name in this ledger."""

    exit_code = 4


class LedgerError(SweeperError):
    """The ledger cannot be read or written: the path, the database or the program's version has to change."""


class SweepBusy(SweeperError):
    """Another controller holds the sweep: wait for it or stop it."""


class TakenOver(SweeperError):
    """Another controller has taken the sweep over: this one stops, and writes nothing more."""

    exit_code = 5


class ServerUnreachable(SweeperError):
    """The sweep server does not answer at the moment: check its address and the network, or try again later."""


class Interrupted(SweeperError):
    """The user stopped the command; the sweep can be resumed."""

    exit_code = 130


def nearest(name: object, valid: Iterable[object]) -> str:
    """A remedy sentence: see ``sweeper.search_spaces.names``."""
    from sweeper.search_spaces import names

    return names.nearest(name, valid)
