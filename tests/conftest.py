"""Fixtures that several test folders share."""

from __future__ import annotations

import sys
import time

import pytest

from tests.postgres import start_postgres

postgres = pytest.fixture(scope="session", name="postgres")(start_postgres)


@pytest.fixture(autouse=True)
def nothing_is_exported_meanwhile() -> None:
    """Wait for the tracker of an earlier test in this process that still exports its winner in a thread.

    While torch.export runs, torch.optim counts steps in float32, in every thread.
    """
    compiler = getattr(sys.modules.get("torch"), "compiler", None)
    deadline = time.monotonic() + 120
    while compiler is not None and compiler.is_compiling() and time.monotonic() < deadline:
        time.sleep(0.05)
