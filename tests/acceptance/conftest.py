"""The sweep that faults happen to, and what it comes to when nothing happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.faults")

from tests.faults import INLINE, SWEEP, Site, outcomes  # noqa: E402 - after the line above


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "home")
    yield site
    site.close()


@pytest.fixture(scope="session")
def spec(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("spec") / "sweep.json"
    path.write_text(json.dumps(SWEEP))
    return str(path)


@pytest.fixture(scope="session")
def undisturbed(spec: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    """The results of the same sweep when nothing happens to it."""
    site = Site(tmp_path_factory.mktemp("undisturbed"))
    summary = site.answer("run", spec, *INLINE)
    assert summary["state"] == "complete"
    assert summary["failed"] > 0, "some trials have to diverge"
    results = outcomes(site.trials("faulty"))
    site.close()
    return results
