"""The ledger's table of access tokens: what is stored of each is a digest, never the token."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from sweeper.ledger.commit import insert_for
from sweeper.ledger.tables import tokens
from sweeper.records import TokenRecord


def add(connection: Connection, token: TokenRecord, replaces: str | None) -> None:
    """Write a token; the one that it replaces stops to work in the same moment. Can be repeated."""
    values = {name: getattr(token, name) for name in TokenRecord.__slots__}
    connection.execute(insert_for(connection)(tokens).values(values).on_conflict_do_nothing())
    if replaces is not None:
        revoke(connection, replaces, token.created_at)


def revoke(connection: Connection, token: str, at: float) -> bool:
    """End a token; a token that has ended before stays as it is. False: there is none."""
    mine = tokens.update().where(tokens.c.token == token)
    connection.execute(mine.where(tokens.c.revoked_at.is_(None)).values(revoked_at=at))
    return find(connection, token) is not None


def find(connection: Connection, token: str) -> TokenRecord | None:
    """The token of this id, revoked or not."""
    row = connection.execute(sa.select(tokens).where(tokens.c.token == token)).mappings().first()
    return None if row is None else TokenRecord(**row)


def every(connection: Connection) -> list[TokenRecord]:
    """All tokens, oldest first."""
    return [
        TokenRecord(**row) for row in connection.execute(sa.select(tokens).order_by(tokens.c.created_at)).mappings()
    ]
