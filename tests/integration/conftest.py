"""Fixtures of the tests that run whole sweeps in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.training import baselines
from tests.faults import SMALL_BASELINES


@pytest.fixture(scope="module", autouse=True)
def small_baselines() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL_BASELINES.items():
            patch.setattr(baselines, name, value)
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS", "SWEEPER_SERVER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
