"""What an operator does in a browser.

What lives here: finding jobs, acting on them, and what is live. What does not: how it looks and
what it weighs (`test_quality.py`), other apps (`test_places.py`). Run by pytest.
"""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.web.dashboard.conftest import Open
from tests.web.dashboard.shop import GO, RELAY, build_report, charge, purge, send_invoice
from tests.web.dashboard.site import KEY, Site, settled


def rows(page: Page) -> Any:
    return page.locator("tr[data-row]")


def is_live(page: Page) -> None:
    """Wait until the page hears of events."""
    expect(page.locator("html")).to_have_attribute("data-live", "on")


def test_jobs_are_found_by_what_is_written_and_the_address_says_so(
    open_page: Open, jobs: dict[str, str]
) -> None:
    page = open_page("jobs")
    box = page.get_by_role("searchbox")
    box.fill("state:failed task:mail.send_invoice")
    box.press("Enter")
    expect(page).to_have_url(re.compile(r"q=state%3Afailed\+task%3Amail\.send_invoice"))
    expect(rows(page)).to_have_count(2)
    page.reload()
    expect(rows(page)).to_have_count(2)
    page.get_by_role("link", name="Remove task:mail.send_invoice").click()
    expect(rows(page)).to_have_count(3)
    page.locator("a[data-edit]", has_text="failed").click()
    page.keyboard.type("state:succeeded")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(3)
    expect(page.locator("tr[data-row] .state.succeeded")).to_have_count(3)


def test_the_search_box_completes_keys_and_values(open_page: Open, jobs: dict[str, str]) -> None:
    page = open_page("jobs")
    box = page.locator("#q")
    box.focus()
    expect(page.get_by_role("option")).to_have_count(10)
    box.type("sta")
    box.press("ArrowDown")
    box.press("Enter")
    expect(box).to_have_value("state:")
    box.type("fai")
    expect(page.get_by_role("option")).to_have_count(1)
    box.press("ArrowDown")
    box.press("Tab")
    expect(box).to_have_value("state:failed ")
    box.type("task:billing")
    page.get_by_role("option", name="task:billing.charge").click()
    expect(box).to_have_value("state:failed task:billing.charge ")
    box.press("Escape")
    box.press("Enter")
    expect(rows(page)).to_have_count(1)


def test_a_search_that_means_nothing_says_what_to_write(open_page: Open) -> None:
    page = open_page("jobs?q=state:broken")
    expect(page.locator("#search-says")).to_contain_text("Write one of scheduled, retrying")
    expect(rows(page)).to_have_count(0)


def test_a_job_tells_its_arguments_attempts_log_and_life(
    open_page: Open, jobs: dict[str, str]
) -> None:
    page = open_page("jobs?q=state:failed")
    page.get_by_role("row", name="billing.charge").get_by_role("link").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("billing.charge")
    expect(page.locator(".pairs")).to_contain_text("***")
    expect(page.locator(".trace")).to_contain_text("was declined with ***")
    assert KEY not in page.content()
    page.goto(page.url.rpartition("/")[0] + "/" + jobs["failed"])
    expect(page.locator(".attempt")).to_have_count(2)
    expect(page.locator(".log li")).to_have_count(4)
    expect(page.locator(".timeline .what")).to_have_text(
        [
            "enqueued",
            "started attempt 1",
            "ended: retry attempt 1",
            "started attempt 2",
            "ended: failed attempt 2",
            "finished: failed",
        ]
    )


def test_a_job_is_retried_and_its_end_is_seen_live(
    open_page: Open, site: Site, jobs: dict[str, str]
) -> None:
    page = open_page(f"jobs/{jobs['failed']}")
    RELAY["up"] = True
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status").first).to_contain_text("Queued again")
    expect(page.locator(".head .state")).to_have_text("succeeded")
    expect(page.locator(".timeline")).to_contain_text("by ann")
    assert "did=" not in page.url
    RELAY["up"] = False


def test_progress_and_log_are_live_and_a_running_job_is_cancelled(
    open_page: Open, site: Site
) -> None:
    GO.clear()
    job = site.run(site.runner.options(queue="reports").enqueue(build_report, "2030-01", 50))
    page = open_page(f"jobs/{job.id}")
    expect(page.locator(".head .progress")).to_contain_text("60 %")
    expect(page.locator(".log")).to_contain_text("waiting for the ledger")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".head .state")).to_have_text("cancelled")


def test_a_scheduled_job_is_run_now(open_page: Open, jobs: dict[str, str]) -> None:
    page = open_page(f"jobs/{jobs['scheduled']}")
    page.get_by_role("button", name="Run now").click()
    expect(page.locator(".head .state")).to_have_text("succeeded")
    expect(page.locator("#result ~ pre")).to_have_text("8")


def test_what_has_succeeded_is_retried_only_by_who_says_so(open_page: Open, site: Site) -> None:
    job = site.run(site.runner.enqueue(purge, "/twice"))
    site.run(settled(site.runner, [job]))
    for scripts in (True, False):
        page = open_page(f"jobs/{job.id}", java_script_enabled=scripts)
        page.get_by_role("button", name="Retry").click()
        assert page.url.endswith(job.id)
        assert "by ann" not in page.locator(".timeline").inner_text() or not scripts
        page.get_by_label("do it once more").check()
        page.get_by_role("button", name="Retry").click()
        expect(page.get_by_role("status").first).to_contain_text("Queued again")
        site.run(settled(site.runner, [job]))
    acts = site.run(site.runner.control.audit(limit=200)).entries
    assert sum(act.target == job.id for act in acts) == 2


def test_the_page_one_is_on_is_seen_among_the_pages_of_a_phone(open_page: Open) -> None:
    for scripts in (True, False):
        page = open_page(
            "audit", viewport={"width": 390, "height": 844}, java_script_enabled=scripts
        )
        tab = page.get_by_role("navigation", name="Pages").get_by_role("link", name="Audit")
        expect(tab).to_be_in_viewport(ratio=1)


def test_a_job_is_deleted_only_by_who_is_sure(open_page: Open, site: Site) -> None:
    job = site.run(site.runner.enqueue(purge, "/tmp"))
    site.run(settled(site.runner, [job]))
    page = open_page(f"jobs/{job.id}")
    page.get_by_role("button", name="Delete").click()
    assert page.url.endswith(job.id)
    page.get_by_label("I am sure").check()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("status").first).to_contain_text("1 job deleted")
    expect(page.locator(f"#j-{job.id}")).to_have_count(0)


def test_an_error_group_is_retried_after_a_look_at_how_many_it_is(
    open_page: Open, site: Site
) -> None:
    jobs = [site.run(site.runner.enqueue(charge, 5 * n, 1, KEY)) for n in range(1, 4)]
    site.run(settled(site.runner, jobs))
    page = open_page("errors")
    group = page.locator(".fault", has_text="ValueError")
    count = int(re.search(r"(\d+) jobs? need", group.inner_text())[1])  # type: ignore[index]
    group.get_by_role("link", name="Retry this group").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Retry {count} jobs?")
    page.get_by_role("button", name=f"Retry {count} jobs").click()
    expect(page.get_by_role("status").first).to_contain_text(f"{count} jobs queued again.")
    page.goto(f"{site.url}/audit")
    expect(rows(page).first).to_contain_text("bulk retry")
    expect(rows(page).first).to_contain_text(f"changed {count}")


def test_chosen_jobs_are_changed_and_others_are_not(open_page: Open, site: Site) -> None:
    later = site.runner.options(delay=3600, queue="chosen")
    jobs = [site.run(later.enqueue(purge, f"/{n}")) for n in range(3)]
    page = open_page("jobs?q=queue:chosen")
    for job in jobs[:2]:
        page.locator(f"input[value='{job.id}']").check()
    expect(page.locator("#picked")).to_have_text("2 chosen")
    page.get_by_role("button", name="Cancel…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancel 2 jobs?")
    page.get_by_role("button", name="Cancel 2 jobs").click()
    expect(page.locator("tr[data-row] .state.cancelled")).to_have_count(2)
    expect(page.locator("tr[data-row] .state.scheduled")).to_have_count(1)


def test_a_queue_is_paused_before_it_has_jobs(open_page: Open, site: Site) -> None:
    page = open_page("queues")
    page.get_by_role("button", name="Pause default").click()
    expect(page.get_by_role("row", name="default")).to_contain_text("paused")
    page.get_by_role("button", name="Resume default").click()
    page.get_by_label("Pause a queue that is not listed").fill("nowhere yet")
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("button", name="Resume nowhere yet").click()
    expect(page.get_by_role("button", name="Pause default")).to_be_visible()


def test_a_queue_is_paused_and_resumed(open_page: Open, site: Site) -> None:
    site.run(site.runner.options(delay=3600, queue="paper").enqueue(purge, "/paper"))
    page = open_page("queues")
    page.get_by_role("button", name="Pause paper").click()
    expect(page.get_by_role("row", name="paper")).to_contain_text("paused")
    expect(page.get_by_role("row", name="paper")).to_contain_text("by ann")
    page.get_by_role("button", name="Resume paper").click()
    expect(page.get_by_role("button", name="Pause paper")).to_be_visible()


def test_what_happens_is_seen_without_a_reload_and_focus_and_typing_stay(
    open_page: Open, site: Site
) -> None:
    page = open_page("jobs?q=queue:news")
    is_live(page)
    page.evaluate("window.same = true")
    page.locator("#q").fill("half a thou")
    job = site.run(site.runner.options(queue="news").enqueue(purge, "/news"))
    expect(page.locator(f"#j-{job.id} .state")).to_have_text("succeeded")
    assert page.evaluate("window.same")
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#q")).to_have_value("half a thou")


def test_a_hidden_page_asks_nothing_and_catches_up_when_it_is_seen(
    open_page: Open, site: Site
) -> None:
    page = open_page("jobs?q=queue:hidden")
    is_live(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    job = site.run(site.runner.options(queue="hidden").enqueue(purge, "/hidden"))
    site.run(settled(site.runner, [job]))
    # Another page has been told meanwhile; this one has not asked.
    other = open_page("jobs?q=queue:hidden")
    expect(other.locator(f"#j-{job.id}")).to_be_visible()
    assert asked == []
    page.evaluate(hide, False)
    expect(page.locator(f"#j-{job.id}")).to_be_visible()


def test_without_a_stream_a_page_asks_now_and_then(open_page: Open, site: Site) -> None:
    page = open_page("about:blank", allows="Failed to ")
    page.route("**/changes?*", lambda route: route.abort())
    page.clock.install()
    page.goto(f"{site.url}/jobs?q=queue:polled")
    page.clock.run_for(11_000)
    expect(page.locator("#live-words")).to_have_text("Live, slowly")
    job = site.run(site.runner.options(queue="polled").enqueue(purge, "/polled"))
    site.run(settled(site.runner, [job]))
    page.clock.run_for(11_000)
    expect(page.locator(f"#j-{job.id}")).to_be_visible()


def test_live_updates_can_be_stopped(open_page: Open, site: Site) -> None:
    page = open_page("jobs?q=queue:stopped")
    is_live(page)
    page.get_by_role("button", name="Live").click()
    expect(page.locator("#live-words")).to_have_text("Not live")
    job = site.run(site.runner.options(queue="stopped").enqueue(purge, "/stopped"))
    other = open_page("jobs?q=queue:stopped")
    expect(other.locator(f"#j-{job.id}")).to_be_visible()
    assert page.locator(f"#j-{job.id}").count() == 0
    page.keyboard.press("p")
    expect(page.locator(f"#j-{job.id}")).to_be_visible()


def test_all_of_it_works_without_scripts(open_page: Open, site: Site) -> None:
    refused = site.run(site.runner.enqueue(send_invoice, 21, "bob@example.com"))
    site.run(settled(site.runner, [refused]))
    page = open_page("", java_script_enabled=False, viewport={"width": 390, "height": 844})
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Jobs").click()
    page.get_by_role("searchbox").fill('error:"for invoice 21" state:failed')
    page.get_by_role("button", name="Search").click()
    expect(rows(page)).to_have_count(1)
    rows(page).get_by_role("checkbox").check()
    page.get_by_role("button", name="Retry…").click()
    page.get_by_role("button", name="Retry 1 job").click()
    expect(page.get_by_role("status").first).to_contain_text("1 job queued again")
    site.run(settled(site.runner, [refused]))
    page.goto(f"{site.url}/jobs/{refused.id}")
    expect(page.locator(".attempt")).to_have_count(4)
    page.get_by_role("button", name="Retry").click()
    expect(page.get_by_role("status").first).to_contain_text("Queued again")
    site.run(settled(site.runner, [refused]))


def test_keys_search_move_open_choose_go_and_help(open_page: Open, jobs: dict[str, str]) -> None:
    page = open_page("jobs?q=state:succeeded")
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.locator("#q").blur()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(rows(page).first).to_have_attribute("data-at", "")
    page.keyboard.press("x")
    expect(rows(page).first.get_by_role("checkbox")).to_be_checked()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/jobs/[0-9a-f-]{36}$"))
    for key, path in (("e", "errors"), ("q", "queues"), ("t", "tasks"), ("d", "durability")):
        page.keyboard.press("g")
        page.keyboard.press(key)
        expect(page).to_have_url(re.compile(f"/{path}$"))


def test_the_theme_is_chosen_and_kept(open_page: Open) -> None:
    page = open_page("")
    shown = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(shown)
    page.get_by_role("button", name="Theme").click()
    page.get_by_role("button", name="Theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate(shown) != light
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
