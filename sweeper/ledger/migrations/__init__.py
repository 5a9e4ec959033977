"""Alembic's migrations of the ledger, applied by sweeper.ledger.schema when a ledger is opened."""
