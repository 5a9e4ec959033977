"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import pytest

# before torch is loaded: the threads of several test processes wait for each other on the same cores, and do so busily
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.postgres import start_postgres

postgres = pytest.fixture(scope="session", name="postgres")(start_postgres)


@pytest.fixture(autouse=True)
def no_tracking_uri_is_left() -> Iterator[None]:
    """Put back what ``mlflow.set_tracking_uri`` has written into the environment, where later tests would read it."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    if os.environ.get("MLFLOW_TRACKING_URI") != before and "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(before)


@pytest.fixture(autouse=True)
def nothing_is_exported_meanwhile() -> None:
    """Wait for the tracker of an earlier test in this process that still exports its winner in a thread.

    While torch.export runs, torch.optim counts steps in float32, in every thread.
    """
    compiler = getattr(sys.modules.get("torch"), "compiler", None)
    deadline = time.monotonic() + 120
    while compiler is not None and compiler.is_compiling() and time.monotonic() < deadline:
        time.sleep(0.05)
