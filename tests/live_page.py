"""Measure the live page of a sweep with a million reports: ``python -m tests.live_page``."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.big_ledger import large_sweep
from tests.served import Served, serving

CHROMIUM = "/usr/bin/chromium"
PICTURES = ("history", "curves", "parallel", "slices", "finals")


def measure(served: Served, sweep: str) -> None:
    """The first answer, when nothing is known of the sweep, then the median of five; CPU time of this process."""
    client = served.client("ada")
    client.get("/info")
    _wait_until_loaded()
    for path in ("", *(f"/summary/{name}" for name in PICTURES)):
        seconds, spent = [], []
        for _ in range(6):
            began, cpu = time.perf_counter(), time.process_time()
            answer = client.get(f"/sweeps/{sweep}{path}")
            seconds.append(time.perf_counter() - began)
            spent.append(time.process_time() - cpu)
        first, later = f"{seconds[0]:.2f} s (CPU {spent[0]:.2f})", statistics.median(seconds[1:])
        later_cpu = statistics.median(spent[1:])
        size = len(answer.content) / 1000
        after = f"{1000 * later:.0f} ms (CPU {1000 * later_cpu:.0f})"
        print(f"{path or 'sweep':20} first {first}, then {after}, {size:.0f} kB")


def _wait_until_loaded() -> None:
    """The service imports in the background what it will need; that is no part of an answer."""
    busy = 1.0
    while busy > 0.05:
        cpu = time.process_time()
        time.sleep(1.0)
        busy = time.process_time() - cpu


def load(served: Served, sweep: str) -> None:
    """From the click on the button until every picture is there, median of five."""
    seconds = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        for _ in range(5):
            page = browser.new_context().new_page()
            page.goto(f"{served.url}/?sweep={sweep}")
            page.fill("#token", served.tokens["ada"])
            began = time.perf_counter()
            page.click("#login button")
            page.wait_for_selector("#picture-slices svg")
            seconds.append(time.perf_counter() - began)
        browser.close()
    print(f"page in Chromium: {statistics.median(seconds):.2f} s")


def main() -> None:
    """Build the ledger, ask, look."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        sweep = large_sweep(Path(folder) / "home", "large", 100_000, 10, owner="ada")
        print(f"ledger built in {time.perf_counter() - began:.1f} s")
        with serving(Path(folder) / "home") as served:
            measure(served, sweep)
            load(served, sweep)


if __name__ == "__main__":
    main()
