"""The live page of the service in a real browser: a token opens it, it follows the sweeps, without a complaint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeper.spec.parse import load_spec
from tests.served import LONG, SMALL, Served, serving, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("page") / "home") as served:
        ended = served.submit("bob", SMALL | {"name": "ended", "search": {"trials": 24, "sampler": "random"}})
        served.wait(ended, "complete")
        yield served


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: page.complaints.append(str(e)))
    page.on("request", lambda r: r.url.startswith(served.url) or page.complaints.append(f"asks {r.url}"))
    page.goto(served.url)
    yield page
    context.close()


def log_in(page: Any, served: Served, user: str) -> None:
    page.fill("#token", served.tokens[user])
    page.click("#login button")
    page.wait_for_selector("#main:not([hidden])")


def test_a_wrong_token_is_answered_and_a_good_one_shows_the_sweeps(page: Any, served: Served) -> None:
    page.fill("#token", "wrong")
    page.click("#login button")
    page.wait_for_selector("#problem:not([hidden])")
    assert "the token is not valid" in page.inner_text("#problem")
    page.complaints.clear()  # Chromium tells of every 401
    log_in(page, served, "bob")
    page.wait_for_selector("#sweeps tr")
    assert "bob (user)" in page.inner_text("#who")
    row = page.inner_text("#sweeps tr")
    assert "ended" in row
    assert "24 complete" in row
    assert page.inner_text("#detail-state") == "complete: every trial has ended"
    assert page.complaints == []


def test_the_best_value_is_a_curve_over_all_trials_and_mlflow_is_linked(page: Any, served: Served) -> None:
    log_in(page, served, "bob")
    page.wait_for_selector("#curve path.line")
    assert page.inner_text("#curve-title") == "Best val_loss over 24 complete trials"
    box = page.locator("#curve path.line").bounding_box()
    assert box["width"] > 300
    assert page.locator("#curve circle.point").count() >= 20
    assert page.get_attribute("#detail-links a", "href").startswith("http://mlflow.example/#/experiments/")
    facts = page.inner_text("#best")
    assert "learning_rate" in facts
    assert page.locator("#trials tr").count() == 24
    if folder := os.environ.get("SWEEPER_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "service-page.png", full_page=True)
    assert page.complaints == []


def test_the_page_follows_a_sweep_without_being_loaded_again(page: Any, served: Served) -> None:
    log_in(page, served, "cat")
    page.wait_for_selector("#none:not([hidden])")
    sweep = served.submit("cat", LONG | {"name": "living"})
    until(lambda: served.ledger.sweep(sweep).counts["running"], 60)
    page.wait_for_selector("#sweeps td:has-text('running')")
    page.wait_for_selector("#sweeps svg rect.running")
    if folder := os.environ.get("SWEEPER_SCREENSHOTS"):
        page.emulate_media(color_scheme="dark")
        page.screenshot(path=Path(folder) / "service-page-dark.png", full_page=True)
    served.client("cat").post(f"/sweeps/{sweep}/stop")
    page.wait_for_selector("#detail-state:has-text('stopped: stopped by cat')")
    assert page.locator("#sweeps tr").count() == 1, "bob's sweep is none of cat's business"
    assert page.complaints == []


def test_the_token_lives_in_the_tab_only_and_can_be_forgotten(page: Any, served: Served) -> None:
    log_in(page, served, "bob")
    page.reload()
    page.wait_for_selector("#main:not([hidden])")
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("document.cookie") == ""
    assert served.tokens["bob"] not in page.url + page.content()
    page.click("#leave")
    page.wait_for_selector("#login:not([hidden])")
    page.reload()
    page.wait_for_selector("#login:not([hidden])")
    assert page.evaluate("sessionStorage.length") == 0
    assert not page.is_visible("#main")


def test_names_are_shown_as_text_whatever_they_are(page: Any, served: Served) -> None:
    """A reason can hold anything that a user wrote, such as a column's name."""
    name = served.client("cat").post("/datasets", params={"filename": "a.csv"}, content=b"a,b\n1,2\n").json()["upload"]
    target = "<img src=x onerror=alert(1)>"
    sweep = served.submit("cat", SMALL | {"name": "odd", "dataset": {"upload": name, "target": target}})
    served.wait(sweep, "failed")
    log_in(page, served, "cat")
    page.wait_for_selector("#detail-state:has-text('onerror')")
    assert page.locator("img").count() == 0
    assert page.complaints == []


def test_code_of_a_user_is_shown_as_text_and_does_not_run_where_nobody_allowed_it(page: Any, served: Served) -> None:
    text = "def build(trial, data):\n    return '<img src=x onerror=alert(1)>'\n"
    model = {"file": "<sent>/mine.py", "function": "build", "text": text}
    sweep = served.ledger.create_sweep("coded", load_spec(SMALL).to_json() | {"model": model}, 1, owner="cat").sweep
    assert "runs no code of its users" in served.wait(sweep, "failed")["reason"]
    log_in(page, served, "cat")
    page.wait_for_selector("#code summary:has-text('Model: build in mine.py')")
    page.click("#code summary")
    assert page.inner_text("#code pre") == text
    assert page.locator("img").count() == 0
    assert page.complaints == []


def test_a_service_that_stops_is_said_and_the_page_goes_on_when_it_is_back(page: Any, served: Served) -> None:
    log_in(page, served, "bob")
    page.wait_for_selector("#sweeps tr")
    page.route("**/api/**", lambda route: route.abort())
    page.wait_for_selector("#problem:has-text('does not answer')")
    page.unroute("**/api/**")
    page.wait_for_selector("#problem", state="hidden")
    assert page.locator("#sweeps tr").count() == 1
