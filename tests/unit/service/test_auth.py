"""Tokens: made once, stored as digests, compared in full, refused after too many failures."""

from __future__ import annotations

import pytest

from sweeper.errors import SpecError
from sweeper.ledger.memory import MemoryLedger
from sweeper.service.auth import (
    FAILURES,
    REMEMBERED_SECONDS,
    WINDOW_SECONDS,
    Authenticator,
    Failures,
    Forbidden,
    Identity,
    Role,
    TooManyFailures,
    Unauthorized,
    any_token,
    create_token,
    revoke_token,
    rotate_token,
)

HERE = "10.0.0.1"


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


def who(ledger: MemoryLedger, token: str) -> Identity:
    return Authenticator(ledger).identify(f"Bearer {token}", HERE)


def test_a_token_is_its_users_and_has_its_role(ledger: MemoryLedger) -> None:
    _, token = create_token(ledger, "ada", "viewer")
    assert who(ledger, token) == Identity("ada", Role.VIEWER)


def test_the_ledger_knows_only_a_digest(ledger: MemoryLedger) -> None:
    record, token = create_token(ledger, "ada", "user")
    secret = token.split("_", 2)[2]
    assert len(secret) == 43  # 256 bits
    assert secret not in str(record)
    assert len(record.digest) == 64


def test_two_tokens_of_one_user_differ_and_both_work(ledger: MemoryLedger) -> None:
    tokens = [create_token(ledger, "ada", "user")[1] for _ in range(2)]
    assert tokens[0] != tokens[1]
    assert {who(ledger, token).user for token in tokens} == {"ada"}


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer wrong", "Bearer swp_00000000_x"]
)
def test_anything_else_is_refused(ledger: MemoryLedger, header: str | None) -> None:
    create_token(ledger, "ada", "user")
    with pytest.raises(Unauthorized):
        Authenticator(ledger).identify(header, HERE)


def test_a_token_with_one_other_letter_is_refused(ledger: MemoryLedger) -> None:
    _, token = create_token(ledger, "ada", "user")
    for place in (5, 20, len(token) - 1):
        wrong = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        with pytest.raises(Unauthorized):
            who(ledger, wrong)


def test_the_secret_of_one_token_does_not_open_another(ledger: MemoryLedger) -> None:
    first, mine = create_token(ledger, "ada", "user")
    second, _ = create_token(ledger, "root", "admin")
    with pytest.raises(Unauthorized):
        who(ledger, mine.replace(first.token, second.token))


def test_a_revoked_token_is_refused_for_good(ledger: MemoryLedger) -> None:
    record, token = create_token(ledger, "ada", "user")
    assert any_token(ledger)
    revoke_token(ledger, record.token)
    assert not any_token(ledger)
    with pytest.raises(Unauthorized):
        who(ledger, token)
    with pytest.raises(SpecError, match="there is no token"):
        rotate_token(ledger, record.token)


def test_rotating_replaces_a_token_by_one_for_the_same_user(ledger: MemoryLedger) -> None:
    record, old = create_token(ledger, "ada", "viewer")
    _, new = rotate_token(ledger, record.token)
    assert who(ledger, new) == Identity("ada", Role.VIEWER)
    with pytest.raises(Unauthorized):
        who(ledger, old)


def test_a_token_that_was_just_used_is_remembered_for_a_moment_only(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, token = create_token(ledger, "ada", "user")
    now = [1000.0]
    monkeypatch.setattr("sweeper.service.auth.time.monotonic", lambda: now[0])
    authenticator = Authenticator(ledger)
    authenticator.identify(f"Bearer {token}", HERE)
    revoke_token(ledger, record.token)
    now[0] += REMEMBERED_SECONDS + 0.1
    with pytest.raises(Unauthorized):
        authenticator.identify(f"Bearer {token}", HERE)


def test_an_address_that_fails_too_often_is_refused_even_with_a_good_token(ledger: MemoryLedger) -> None:
    _, token = create_token(ledger, "ada", "user")
    authenticator = Authenticator(ledger)
    for _ in range(FAILURES):
        with pytest.raises(Unauthorized):
            authenticator.identify("Bearer wrong", HERE)
    with pytest.raises(TooManyFailures, match="Try again in"):
        authenticator.identify(f"Bearer {token}", HERE)
    assert authenticator.identify(f"Bearer {token}", "10.0.0.2").user == "ada"


def test_failures_are_forgotten_after_the_window() -> None:
    now = [0.0]
    failures = Failures(lambda: now[0])
    for _ in range(FAILURES):
        failures.add(HERE)
    with pytest.raises(TooManyFailures) as refused:
        failures.check(HERE)
    assert 0 < refused.value.retry_after <= WINDOW_SECONDS
    now[0] += WINDOW_SECONDS + 1
    failures.check(HERE)


@pytest.mark.parametrize("user", ["", ".hidden", "a/b", "a b", "-x", "../up", "x" * 65, "ü"])
def test_a_users_name_is_safe_as_the_name_of_a_folder(ledger: MemoryLedger, user: str) -> None:
    with pytest.raises(SpecError, match="is not a user's name"):
        create_token(ledger, user, "user")


def test_a_misspelt_role_names_the_nearest(ledger: MemoryLedger) -> None:
    with pytest.raises(SpecError, match="Did you mean 'viewer'"):
        create_token(ledger, "ada", "viewr")


def test_a_viewer_changes_nothing_and_a_user_sees_only_their_own() -> None:
    with pytest.raises(Forbidden):
        Identity("vic", Role.VIEWER).require_writing()
    assert Identity("bob", Role.USER).sees == "bob"
    assert Identity("ada", Role.ADMIN).sees is None
    assert Identity("vic", Role.VIEWER).sees is None
