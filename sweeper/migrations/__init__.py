"""Alembic's migrations of the ledger, applied by sweeper.ledger_schema when a ledger is opened."""
