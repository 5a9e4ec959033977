"""Where a Ray of our own keeps its sockets and its token, when the usual places cannot be used."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from pathlib import Path

from sweeper.errors import SweeperError

SHORT = "/tmp/ray"  # noqa: S108 - where Ray keeps its files unless told otherwise
LONGEST = 107 - len("/session_2026-11-28_22-04-29_560559_1234567/sockets/plasma_store")  # a socket's path, in bytes


def usable_folder() -> str | None:
    """The folder for Ray's files; None: the one that Ray takes by itself will do.

    Raises:
        SweeperError: neither can be written.
    """
    wanted = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR")
    if wanted is None:
        _check(SHORT)
        return None
    folder = os.path.join(wanted, "ray")
    if len(os.fsencode(folder)) > LONGEST:
        why = f"the path is longer than the {LONGEST} bytes that leave room for a socket's name"
    elif not folder.isascii():
        why = "Ray takes ASCII letters only"
    elif (problem := _problem(folder)) is not None:
        why = f"it cannot be written: {problem}"
    else:
        return None
    _check(SHORT)
    logging.getLogger("sweeper").warning("Ray keeps its files in %s, not in %s (%s)", SHORT, folder, why)
    return SHORT


def lend_token() -> None:
    """Give a Ray of our own a token for this process's life, where it could not keep one in the user's folder."""
    if "RAY_AUTH_TOKEN" in os.environ or "RAY_AUTH_TOKEN_PATH" in os.environ:
        return
    folder = os.path.expanduser("~/.ray")
    file = os.path.join(folder, "auth_token")
    if not (os.access(file, os.R_OK) if os.path.exists(file) else _problem(folder) is None):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def protect_token() -> None:
    """The token that Ray writes for a cluster of its own opens it to whoever can read it."""
    try:
        Path(os.path.expanduser("~/.ray/auth_token")).chmod(0o600)
    except OSError:
        return


def _check(folder: str) -> None:
    if (problem := _problem(folder)) is not None:
        remedy = "Set RAY_TMPDIR to a folder with a short path that can be written, or use --workers inline"
        raise SweeperError(f"Ray cannot keep its files in {folder} ({problem}). {remedy}")


def _problem(folder: str) -> str | None:
    """Why a folder cannot be made or written; None: it can."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)
