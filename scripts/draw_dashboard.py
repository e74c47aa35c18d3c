"""Draws the pictures of the dashboard that the documentation shows, into docs/images.

What lives here: which pages, how wide and in which scheme. What does not: the app
(tests/web/dashboard/site.py). Run by hand: `python -m scripts.draw_dashboard`, where the tests run.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from embedded_tasks import JobFilter
from tests.web.dashboard.conftest import ARGUMENTS
from tests.web.dashboard.shop import GO
from tests.web.dashboard.site import Site, app_with, history, new_runner, serve

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZES = {
    "wide": ViewportSize(width=1280, height=860),
    "narrow": ViewportSize(width=390, height=780),
}


def draw(browser: Browser, site: Site, places: dict[str, str], size: str) -> None:
    """Draw pages in both schemes."""
    for scheme in ("light", "dark"):
        context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)
        page = context.new_page()
        for name, place in places.items():
            page.goto(f"{site.url}/{place}")
            page.locator("html[data-live=on]").wait_for()
            # Tracebacks name the folders of the machine that draws.
            page.evaluate("document.querySelectorAll('details').forEach(each => each.open = false)")
            page.screenshot(path=IMAGES / f"dashboard-{name}-{scheme}.png")
        context.close()


def main() -> None:
    """Draw all of them."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        runner = new_runner(Path(folder))
        with serve(runner, app_with(runner)) as site, sync_playwright() as playwright:
            site.run(history(runner))
            failed = site.run(runner.reports.jobs(JobFilter(state="failed", limit=1))).jobs[0]
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=ARGUMENTS
            )
            draw(browser, site, {"overview": "", "job": f"jobs/{failed.id}"}, "wide")
            draw(browser, site, {"phone": "jobs"}, "narrow")
            browser.close()
            GO.set()


if __name__ == "__main__":
    main()
