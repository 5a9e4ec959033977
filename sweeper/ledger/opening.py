"""Opens the ledger, which is made or brought up to date on the way. SQLAlchemy is loaded only then."""

from __future__ import annotations

from pathlib import Path

from sweeper.ledger.protocol import Ledger
from sweeper.settings import Settings


def open_home_ledger(settings: Settings) -> Ledger:
    """The ledger of these settings; the home folder is made when it is missing.

    Raises:
        SpecError, LedgerError: as ``open_ledger``.
    """
    settings.ensure_home()
    return open_ledger(settings.database_url, settings.home)


def open_ledger(url: str | None, home: Path) -> Ledger:
    """Open the ledger at a database URL (None: ``home/ledger.db``), created or brought up to date when needed.

    Raises:
        SpecError: the URL is not one of a supported database.
        LedgerError: the database cannot be used, or is newer than this program.
    """
    from sweeper.ledger.engine import PATIENCE, Database
    from sweeper.ledger.schema import prepare
    from sweeper.ledger.sql import SqlLedger

    database = Database(url, home)
    prepare(database)
    database.patience = PATIENCE
    return SqlLedger(database)
