"""Fixtures of the tests that run whole sweeps in this process."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPER_HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_URI", "SWEEPER_DATABASE_URL", "RAY_ADDRESS", "SWEEPER_SERVER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path
