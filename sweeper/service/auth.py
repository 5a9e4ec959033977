"""Access tokens of the service: who may use it, in which role, and how often a wrong token may be tried.

A token is ``swp_ID_SECRET``. The secret has 256 random bits, so nobody can try them all: a plain SHA-256 of it is safe
to store, and a slow password hash, which makes guessable secrets expensive to guess, would only slow every request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sweeper.errors import SpecError, SweeperError, nearest
from sweeper.ledger.protocol import Ledger
from sweeper.records import TokenRecord

PREFIX = "swp"
FAILURES = 10  # wrong tokens from one address within a window; more are refused unread
WINDOW_SECONDS = 60.0
ADDRESSES = 10_000  # addresses that are remembered at once
REMEMBERED_SECONDS = 2.0  # how long a good token is not looked up again; a revoked one works for so long at most

_NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()  # what an unknown token is compared with


class Role(StrEnum):
    """An admin may do everything, a user everything with sweeps of their own, a viewer look at all sweeps."""

    ADMIN = "admin"
    USER = "user"
    VIEWER = "viewer"


class Unauthorized(SweeperError):
    """There is no token, or a wrong one."""


class Forbidden(SweeperError):
    """The token's role does not allow this."""


class TooManyFailures(SweeperError):
    """Too many wrong tokens came from this address; ``retry_after`` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"too many wrong tokens came from this address. Try again in {retry_after:.0f} s")


@dataclass(frozen=True)
class Identity:
    """Who is asking."""

    user: str
    role: Role

    @property
    def sees(self) -> str | None:
        """The owner whose sweeps this identity sees; None: everybody's."""
        return self.user if self.role is Role.USER else None

    def require_writing(self) -> None:
        """Refuse what changes something to those who may only look.

        Raises:
            Forbidden: the role is viewer.
        """
        if self.role is Role.VIEWER:
            raise Forbidden(
                f"{self.user} is a viewer and cannot change anything. Use a token with the role user or admin"
            )

    def may_send_code(self, allowed: Role | None) -> bool:
        """Whether sweeps of this identity may hold code: their role is ``allowed``, or the one above."""
        return self.role is not Role.VIEWER and allowed is not None and allowed in (self.role, Role.USER)


def role_for_code(text: str | None) -> Role | None:
    """The role that ``--allow-code`` names.

    Raises:
        SpecError: there is no such role, or it starts no sweeps.
    """
    if text is not None and text not in (Role.ADMIN, Role.USER):
        problem = f"{text[:40]!r} is not a role that starts sweeps"
        raise SpecError(problem, key="--allow-code", remedy="Use admin, or user for admins and users")
    return None if text is None else Role(text)


def create_token(ledger: Ledger, user: str, role: str, *, replaces: str | None = None) -> tuple[TokenRecord, str]:
    """Make and store a token for a user; the text of it is returned this once and known to nobody afterwards.

    Raises:
        SpecError: the user's name or the role is not valid.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", user):
        remedy = "Use 1 to 64 letters, digits, dots, dashes, underscores and @, a letter or digit first"
        raise SpecError(f"{user[:80]!r} is not a user's name", key="USER", remedy=remedy)
    if role not in set(Role):
        raise SpecError(f"{role[:40]!r} is not a role", key="--role", remedy=nearest(role, Role))
    token, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
    record = TokenRecord(token, user, role, _digest(secret), time.time())
    ledger.add_token(record, replaces=replaces)
    return record, f"{PREFIX}_{token}_{secret}"


def rotate_token(ledger: Ledger, token: str) -> tuple[TokenRecord, str]:
    """A new token for the same user and role; the old one stops to work in the same moment.

    Raises:
        SpecError: there is no such token, or it was revoked.
    """
    known = ledger.token(token)
    if known is None or known.revoked_at is not None:
        raise _no_token(ledger, token)
    return create_token(ledger, known.user, known.role, replaces=token)


def revoke_token(ledger: Ledger, token: str) -> None:
    """End a token for good.

    Raises:
        SpecError: there is no such token.
    """
    if not ledger.revoke_token(token, time.time()):
        raise _no_token(ledger, token)


def any_token(ledger: Ledger) -> bool:
    """Whether anybody could log in."""
    return any(token.revoked_at is None for token in ledger.tokens())


class Failures:
    """Counts wrong tokens by address, in memory; the oldest addresses are forgotten when there are too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._seen: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Refuse an address that has failed too often.

        Raises:
            TooManyFailures: with the time to wait.
        """
        now = self._clock()
        with self._lock:
            times = [at for at in self._seen.get(address, []) if at > now - WINDOW_SECONDS]
            if len(times) >= FAILURES:
                raise TooManyFailures(max(1.0, times[0] + WINDOW_SECONDS - now))

    def add(self, address: str) -> None:
        """One more wrong token from here."""
        now = self._clock()
        with self._lock:
            times = [at for at in self._seen.pop(address, []) if at > now - WINDOW_SECONDS]
            self._seen[address] = [*times[-FAILURES:], now]
            while len(self._seen) > ADDRESSES:
                self._seen.popitem(last=False)


class Authenticator:
    """Turns an Authorization header into an identity."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.failures = Failures()
        self._known: OrderedDict[str, tuple[float, Identity]] = OrderedDict()
        self._lock = threading.Lock()

    def identify(self, header: str | None, address: str) -> Identity:
        """Who is asking. A token that was good a moment ago is not looked up again.

        Raises:
            Unauthorized: no token, or not a good one.
            TooManyFailures: as it says.
        """
        self.failures.check(address)
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized(
                "this needs a token: set SWEEPER_TOKEN. An admin creates one with `sweeper token create`"
            )
        key, now = _digest(token.strip()), time.monotonic()
        with self._lock:
            at, identity = self._known.get(key, (0.0, None))
        if identity is not None and now - at < REMEMBERED_SECONDS:
            return identity
        identity = self._look_up(token.strip())
        if identity is None:
            self.failures.add(address)
            raise Unauthorized("the token is not valid: it is misspelt, or it was revoked")
        with self._lock:
            self._known[key] = (now, identity)
            while len(self._known) > ADDRESSES:
                self._known.popitem(last=False)
        return identity

    def _look_up(self, token: str) -> Identity | None:
        """The comparison takes as long for an unknown token as for a known one."""
        match = re.fullmatch(rf"{PREFIX}_([0-9a-f]{{8}})_([A-Za-z0-9_-]{{43}})", token)
        known = self._ledger.token(match.group(1)) if match else None
        digest = _digest(match.group(2) if match else "")
        good = hmac.compare_digest(digest, known.digest if known is not None else _NOBODY)
        if not good or known is None or known.revoked_at is not None:
            return None
        return Identity(known.user, Role(known.role))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def _no_token(ledger: Ledger, token: str) -> SpecError:
    ids = [known.token for known in ledger.tokens() if known.revoked_at is None]
    return SpecError(f"there is no token {token[:80]!r}", key="ID", remedy=nearest(token, ids) if ids else None)
