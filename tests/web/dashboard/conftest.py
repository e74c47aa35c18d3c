"""The browser, and the app that it looks at.

What lives here: one browser and one app for each file of tests. What does not: the app
(`site.py`). Called by pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.needs import need_command
from tests.web.dashboard.shop import GO, RELAY
from tests.web.dashboard.site import Site, app_with, fill, new_runner, serve

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
Open = Callable[..., Page]


# Of a file and not of the session: its event loop goes round in this thread, where the tests of
# other files run theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = need_command("chromium", "a browser shows the dashboard")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the app's file is; another one in files of tests that say so."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def site(site_folder: Path) -> Iterator[Site]:
    RELAY["up"] = False
    GO.clear()
    runner = new_runner(site_folder)
    with serve(runner, app_with(runner)) as site:
        try:
            yield site
        finally:
            GO.set()


@pytest.fixture(scope="module")
def jobs(site: Site) -> dict[str, str]:
    """The ids of jobs in most states."""
    found: dict[str, str] = site.run(fill(site.runner))
    return found


@pytest.fixture
def open_page(browser: Browser, site: Site) -> Iterator[Open]:
    """Opens a page in a context of its own; whatever its console says fails the test."""
    contexts: list[Any] = []
    said: list[str] = []

    def open_page(path: str = "", *, allows: str = "", **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()

        def hear(words: str) -> None:
            if not (allows and allows in words):
                said.append(words)

        page.on("console", lambda message: hear(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: hear(str(error)))
        page.goto(path if path == "about:blank" else f"{site.url}/{path}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture
def folder() -> Path:
    return Path(__file__).parent
