"""What an operator sees after a process was killed at work.

What lives here: the overview, the durability page, a held job and a replayed one, in a browser.
What does not: what becomes of such jobs (`tests/crash`). Run by pytest.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from embedded_tasks.reported import Metric
from tests.support.stores import write
from tests.web.dashboard.conftest import Open
from tests.web.dashboard.shop import GO, purge
from tests.web.dashboard.site import Site, settled

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it is killed by a signal")

PHONE = {"viewport": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def folder_of_the_dead(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder in which a process has died; the ids of its jobs that may run once, and again."""
    folder = tmp_path_factory.mktemp("dead")
    command = [sys.executable, "-m", "tests.web.dashboard.dying", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
    assert done.returncode < 0
    once, again = re.findall(r"^[0-9a-f-]{36}$", done.stdout, re.MULTILINE)
    return folder, once, again


@pytest.fixture(scope="module")
def site_folder(folder_of_the_dead: tuple[Path, str, str]) -> Path:
    return folder_of_the_dead[0]


@pytest.fixture(scope="module")
def once(folder_of_the_dead: tuple[Path, str, str]) -> str:
    return folder_of_the_dead[1]


@pytest.fixture(scope="module")
def again(folder_of_the_dead: tuple[Path, str, str]) -> str:
    return folder_of_the_dead[2]


def test_the_overview_tells_of_the_recovery_and_of_the_held_job_once(
    open_page: Open, once: str
) -> None:
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("1 job needs you")
    expect(page.locator(".lead")).to_contain_text("put back 1 job of a process that had died")
    needs = page.get_by_role("region", name="Needs you")
    expect(needs.locator("article")).to_have_count(1)
    expect(needs.locator("article")).to_contain_text("billing.charge_once")
    expect(needs.locator("article")).to_contain_text("died while it ran")
    expect(needs.get_by_role("link", name="Latest job")).to_have_attribute("href", re.compile(once))
    page.get_by_role("link", name="see which").click()
    expect(page).to_have_url(re.compile("/durability$"))


def test_the_durability_page_tells_what_the_start_put_back(open_page: Open) -> None:
    page = open_page("durability")
    start = page.get_by_role("region", name="The last start")
    expect(start).to_contain_text("1 job was put back that a dead process had left")
    expect(start).to_contain_text("1 of them held")
    expect(start.locator("code")).to_have_count(1)
    expect(page.get_by_role("row", name="this process")).to_be_visible()


def test_the_life_of_a_replayed_job_marks_the_death_and_the_replay(
    open_page: Open, again: str
) -> None:
    page = open_page(f"jobs/{again}")
    expect(page.locator(".timeline .what")).to_have_text(
        [
            "enqueued",
            "started attempt 1",
            "process died attempt 1",
            "replayed attempt 1",
            "started attempt 2",
        ]
    )
    expect(page.locator(".timeline .died")).to_contain_text("died while it ran")
    expect(page.locator(".facts")).to_contain_text(re.compile(r"Crashes\s*1"))


def test_a_death_is_a_failure_in_the_charts_and_of_its_tasks(open_page: Open, site: Site) -> None:
    session = site.runner._running("test")
    site.run(session.operating.notebook._flush())
    failures = site.run(site.runner.reports.series(Metric.FAILURES))
    assert sum(bucket.count for bucket in failures.buckets) == 2
    page = open_page()
    chart = page.locator("figure", has_text="Failures")
    expect(chart.locator(".figure")).to_have_text("2")
    page = open_page("tasks")
    expect(page.get_by_role("row", name="billing.charge_once")).to_contain_text("0 %")


def test_a_held_job_without_an_error_has_a_card_with_its_buttons_in_it(
    open_page: Open, site: Site
) -> None:
    job = site.run(site.runner.options(delay=3600, queue="held").enqueue(purge, "/held"))
    held = "state = 'held', held_for = 'arguments', reason = 'They cannot be read.'"
    store = site.runner._running("test").store
    site.run(write(store, f"UPDATE jobs SET {held} WHERE id = '{job.id}'"))
    for shape in ({}, PHONE):
        page = open_page(**shape)
        card = page.locator(f"#h-{job.id}")
        for name in ("Cancel", "Retry"):
            button = card.locator("footer .acts").get_by_role("button", name=name)
            box, around = button.bounding_box(), card.bounding_box()
            assert box is not None
            assert around is not None
            assert around["x"] < box["x"] < box["x"] + box["width"] < around["x"] + around["width"]
            assert box["y"] + box["height"] < around["y"] + around["height"]
        tops = {
            round((card.get_by_role("button", name=name).bounding_box() or {"y": 0})["y"])
            for name in ("Cancel", "Retry")
        }
        assert len(tops) == 1
    page = open_page(f"jobs/{job.id}")
    expect(page.locator(".head")).to_contain_text("It needs you (arguments)")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".head .state")).to_have_text("cancelled")


def test_a_held_job_is_retried_from_its_page_and_ends_well(
    open_page: Open, site: Site, once: str
) -> None:
    page = open_page(f"jobs/{once}")
    expect(page.locator(".head .state")).to_have_text("held")
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status").first).to_contain_text("Queued again")
    GO.set()
    site.run(settled(site.runner, [site.run(site.runner.get(once))]))
    expect(page.locator(".head .state")).to_have_text("succeeded")
    page = open_page()
    expect(page.get_by_role("heading", level=1)).to_have_text("All is well")
