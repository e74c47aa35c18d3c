"""How the pages are: for every eye, under every policy, light, and safe with whatever jobs carry.

What lives here: accessibility, the content security policy, weight, and stored markup. What does
not: what an operator does (`test_browser.py`). Run by pytest.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page

from embedded_tasks import TaskRunner
from embedded_tasks.admin.dashboard.search import quoted
from tests.web.dashboard.conftest import Open
from tests.web.dashboard.shop import build_report, import_ledger
from tests.web.dashboard.site import KEY, Site, app_with, new_runner, serve, settled
from tests.web.dashboard.wild import MARKUP, wild

PLACES = (
    "",
    "jobs",
    "jobs?q=state:broken",
    "jobs?q=queue:none",
    "errors",
    "queues",
    "tasks",
    "task?name=mail.send_invoice",
    "durability",
    "audit",
    "jobs/bulk?action=delete&all=1&q=state:failed",
    "jobs/00000000-0000-0000-0000-000000000000",
)
COLOURS = "{runOnly: ['color-contrast', 'link-in-text-block']}"
LARGEST = 60 * 1024
MOST_REQUESTS = 8


@pytest.fixture(scope="module")
def axe() -> str:
    vendor = Path(__file__).with_name("vendor")
    return vendor.joinpath("axe-4.14.1.min.js").read_text(encoding="utf-8")


def heard(page: Page) -> list[Any]:
    """Every answer that a page gets from now on."""
    answers: list[Any] = []

    def hear(answer: Any) -> None:
        answers.append(answer)

    page.on("response", hear)
    return answers


def violations(page: Page, axe: str, options: str = "{}") -> list[str]:
    if axe:
        page.evaluate(axe)
    found = page.evaluate(f"axe.run(document, {options})")
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found["violations"]
        for node in each["nodes"]
    ]


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_light_or_dark_and_nothing_is_wider_than_the_screen(
    open_page: Open, site: Site, jobs: dict[str, str], axe: str, width: int
) -> None:
    page = open_page("", allows="404 (Not Found)", viewport={"width": width, "height": 850})
    running = site.run(site.runner.enqueue(build_report, "2030-02", 50))
    long = site.run(site.runner.enqueue(import_ledger, 500))
    site.run(settled(site.runner, [long]))
    found: list[str] = []
    for place in (*PLACES, *(f"jobs/{id}" for id in (jobs["failed"], running.id, long.id))):
        page.emulate_media(color_scheme="light")
        page.goto(f"{site.url}/{place}")
        page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        found += [f"light {place}: {each}" for each in violations(page, axe)]
        page.emulate_media(color_scheme="dark")
        # Nothing else than colours differs between the schemes.
        found += [f"dark {place}: {each}" for each in violations(page, "", COLOURS)]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"{place}: wider than the screen")
    assert found == []


@pytest.mark.parametrize("width", [390, 320])
def test_a_phone_shows_all_places_at_once(open_page: Open, width: int) -> None:
    page = open_page("durability", viewport={"width": width, "height": 850})
    places = page.get_by_role("navigation", name="Pages").get_by_role("link")
    boxes = [box for each in places.all() if (box := each.bounding_box()) is not None]
    assert len(boxes) == 7
    for box in boxes:
        assert 0 <= box["x"] < box["x"] + box["width"] <= width
        # Large enough for a finger (WCAG 2.2, target size).
        assert min(box["width"], box["height"]) >= 24


def test_the_help_and_the_completions_pass_axe_too(open_page: Open, axe: str) -> None:
    page = open_page("jobs")
    page.locator("#q").focus()
    page.get_by_role("option").first.wait_for()
    assert violations(page, axe) == []
    page.locator("#q").blur()
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    assert violations(page, axe) == []


def test_what_is_told_of_a_lost_file_passes_axe_too(
    open_page: Open, tmp_path: Path, axe: str
) -> None:
    runner = new_runner(tmp_path)
    with serve(runner, app_with(runner)) as site:
        page = open_page("about:blank", viewport={"width": 390, "height": 850})
        away = (tmp_path / "tasks.db").rename(tmp_path / "away.db")
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto(f"{site.url}/queues")
            page.get_by_text("was deleted or moved away").wait_for()
            assert violations(page, axe) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        away.rename(tmp_path / "tasks.db")
        # The server waits for open streams.
        page.goto("about:blank")


def test_the_first_page_is_light_and_asks_nobody_else(
    open_page: Open, site: Site, jobs: dict[str, str]
) -> None:
    page = open_page("about:blank")
    answers = heard(page)
    page.goto(f"{site.url}/")
    page.locator("html[data-live=on]").wait_for()
    page.locator("#q").or_(page.locator("main")).first.wait_for()
    streams = [each for each in answers if "/changes?" in each.url]
    assert len(answers) <= MOST_REQUESTS
    assert {each.url.startswith(site.url) for each in answers} == {True}
    weight = sum(len(gzip.compress(each.body())) for each in answers if each not in streams)
    print(f"\n{len(answers)} requests, {weight / 1024:.1f} KB gzip")
    assert weight <= LARGEST


def test_static_files_are_kept_for_ever_and_pages_never(
    open_page: Open, site: Site, jobs: dict[str, str]
) -> None:
    page = open_page("about:blank")
    answers = heard(page)
    page.goto(f"{site.url}/jobs")
    kept = {each.url.rpartition("/")[2]: each.header_value("cache-control") for each in answers}
    assert kept["jobs"] == "no-store"
    assert kept["events"] == "no-store" if "events" in kept else True
    files = [value for name, value in kept.items() if name.endswith((".css", ".js"))]
    assert len(files) == 4
    assert set(files) == {"private, max-age=31536000, immutable"}


@pytest.mark.parametrize("bypass", [False, True], ids=["under the policy", "without it"])
def test_markup_in_what_jobs_carry_is_text_everywhere(
    open_page: Open, tmp_path: Path, bypass: bool
) -> None:
    runner = new_runner(tmp_path)
    with serve(runner, app_with(runner)) as site:
        ids = site.run(stored_markup(runner))
        page = open_page("about:blank", bypass_csp=bypass)
        for place in (
            *("", "jobs", "errors", "tasks", "queues", "audit", "task?name=wild"),
            *(f"jobs/{id}" for id in ids),
            "jobs?q=" + quote(f"tag:{quoted(MARKUP)}"),
            "jobs?q=" + quote(MARKUP),
            "jobs/bulk?action=retry&all=1&q=" + quote(MARKUP),
        ):
            page.goto(f"{site.url}/{place}")
            page.wait_for_load_state("load")
            assert page.evaluate("window.pwned ?? null") is None, place
            assert page.locator("img, iframe, main script, main style").count() == 0, place
        page.goto(f"{site.url}/jobs/{ids[0]}")
        for part in (".pairs", ".trace", ".log", ".facts"):
            assert "<img src=x" in page.locator(part).first.inner_text(), part
        assert KEY not in page.content()


async def stored_markup(runner: TaskRunner) -> list[str]:
    options = runner.options(queue="<b>q</b>", tags=[MARKUP])
    failed = await options.enqueue(wild, {MARKUP: MARKUP, "api_key": KEY}, fails=True)
    fine = await options.enqueue(wild, {"a": MARKUP}, fails=False)
    await settled(runner, [failed, fine])
    await runner.control.pause("<img src=x onerror=pwned=1>", by=MARKUP)
    await runner.control.retry(fine.id, by=MARKUP)
    await settled(runner, [fine])
    return [failed.id, fine.id]
