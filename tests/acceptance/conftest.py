"""What acceptance tests share: the sweep that faults happen to, what it comes to undisturbed, and a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.faults")

from tests.faults import INLINE, SWEEP, Site, outcomes  # noqa: E402 - after the line above

CHROMIUM = Path("/usr/bin/chromium")


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


@pytest.fixture(scope="module")  # a longer life would leave Playwright's event loop to tests that have their own
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium on this machine")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()
