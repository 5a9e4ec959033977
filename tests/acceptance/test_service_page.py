"""The live page of the service in a real browser: a token opens it, it follows the sweeps, without a complaint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sweeper.spec.parse import load_spec
from tests.big_ledger import large_sweep
from tests.served import LONG, SMALL, Served, serving, until

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = tmp_path_factory.mktemp("page") / "home"
    large_sweep(home, "large", 100_000, 10, owner="ada")
    with serving(home) as served:
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


def test_the_pictures_of_a_sweep_are_named_as_in_its_report_and_mlflow_is_linked(page: Any, served: Served) -> None:
    log_in(page, served, "bob")
    page.wait_for_selector("#picture-history path.best")
    report = served.client("bob").get("/sweeps/ended/report").text
    titles = page.locator("#pictures figure:not([hidden]) h3").all_inner_texts()
    assert titles == ["Optimisation history", "Learning curves", "Parallel coordinates", "One parameter at a time"]
    assert all(title in report for title in titles)
    assert page.locator("#picture-history path.best").bounding_box()["width"] > 300
    assert page.locator("#picture-history circle.point").count() >= 20
    label = page.get_attribute("#picture-history svg", "aria-label")
    assert label.startswith("val_loss by trial number with the best so far")
    assert page.get_attribute("#detail-links a", "href").startswith("http://mlflow.example/#/experiments/")
    facts = page.inner_text("#best")
    assert "learning_rate" in facts
    assert page.locator("#trials tr").count() == 24
    if folder := os.environ.get("SWEEPER_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "service-page.png", full_page=True)
    assert page.complaints == []


def test_a_million_reports_come_as_summaries_and_another_sweep_is_drawn_above(page: Any, served: Served) -> None:
    large = served.ledger.sweep("large").sweep
    answers: dict[str, int] = {}
    page.on("response", lambda r: answers.__setitem__(r.url, len(r.body())) if "/api/v1/sweeps/" in r.url else None)
    page.goto(f"{served.url}/?sweep={large}")
    log_in(page, served, "ada")
    page.wait_for_selector("#picture-slices svg")
    assert "98000 complete, 2000 failed, 2 waiting" in page.inner_text("#sweeps tr.chosen")
    assert "1,000 of 98,000 complete trials are drawn." in page.inner_text("#picture-history figcaption")
    assert page.locator("#picture-history circle.point").count() > 800
    assert "(2,000 of 98,000 were looked at)" in page.inner_text("#picture-curves figcaption")
    assert page.locator("#picture-parallel path.line").count() == 200
    assert page.locator("#picture-slices rect.count").count() > 60
    assert page.locator("#trials tr").count() == 50
    named = {url.rpartition("/")[2].partition("?")[0] for url in answers}
    assert named == {large, "history", "curves", "parallel", "slices", "finals", "trials"}
    assert max(answers.values()) < 60_000
    box = page.locator("#sweeps input[aria-label='Draw ended above']")
    box.focus()
    page.keyboard.press("Space")
    page.wait_for_selector("#picture-history path.other0")
    page.wait_for_selector("#picture-curves path.other0")
    assert box.evaluate("box => box === document.activeElement"), "drawing the list again leaves the focus"
    assert "with=" in page.url
    if folder := os.environ.get("SWEEPER_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / "service-page-large.png", full_page=True)
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
    stored = load_spec(SMALL | {"space": {"learning_rate": {"float": [1e-3, 1e-1], "log": True}}}).to_json()
    space = {"name": "space", "function": "<sent>/my_space.py:space", "sha256": "0", "text": text}
    sweep = served.ledger.create_sweep("coded", stored | {"model": model, "space": space}, 1, owner="cat").sweep
    assert "runs no code of its users" in served.wait(sweep, "failed")["reason"]
    log_in(page, served, "cat")
    page.wait_for_selector("#code summary:has-text('Model: build in mine.py')")
    assert page.locator("#code summary:has-text('Space: space in my_space.py')").count() == 1
    page.click("#code summary >> nth=0")
    assert page.inner_text("#code pre >> nth=0") == text
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
