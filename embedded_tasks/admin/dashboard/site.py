"""What all pages share: templates, static files, addresses, and who may press which button.

What lives here: `Site`, and making an answer of a template. What does not: any page. Given to each
page of this folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.dashboard.assets import Assets
from embedded_tasks.admin.dashboard.copies import Copies
from embedded_tasks.admin.dashboard.roles import Roles
from embedded_tasks.admin.dashboard.search import quoted
from embedded_tasks.admin.dashboard.words import FILTERS, ago
from embedded_tasks.admin.desk import Desk
from embedded_tasks.errors import ConfigurationError

__all__ = ["NOTICE", "Site"]

_TEMPLATES: Final = Path(__file__).with_name("templates")
_MISSING: Final = (
    "The dashboard needs Jinja2. "
    'Run: pip install "embedded-tasks[dashboard]", or write admin.router(..., dashboard=False).'
)
_SOME_ID: Final = "00000000-0000-7000-8000-000000000000"
_MARK: Final = "embedded_tasks.mark"
NOTICE: Final = ("did", "n", "more")
"""Parts of an address that tell what was just done."""


class Site:
    """What all pages share.

    Args:
        desk: What they share with the JSON routes.

    Raises:
        ConfigurationError: Jinja2 is not installed.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk: Desk = desk
        self.assets: Assets = Assets()
        self._roles = Roles(desk)
        self._templates = _environment()
        self._copies = Copies()

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return self.desk.runner.reports.now()

    def url(self, request: Request, page: str, **values: Any) -> str:
        """Return the address of a page, below whatever prefix, mount or proxy it is.

        Args:
            request: The request that is answered.
            page: The name of the page's function.
            values: `job_id` and `asset` stand in the path, others behind the question mark.
        """
        path = {key: values.pop(key) for key in ("job_id", "asset") if key in values}
        # The path alone: what proxies know the host by is theirs.
        base = request.url_for(f"{self.desk.name}_page_{page}", **path).path
        return _with(base, values)

    def route(self, request: Request, name: str, **values: str) -> str:
        """Return the path of a JSON route."""
        return str(request.url_for(f"{self.desk.name}_{name}", **values).path)

    def see(self, request: Request, page: str, **values: Any) -> Response:
        """Send a browser from what it has changed to the page that shows it."""
        return RedirectResponse(self.url(request, page, **values), 303)

    def live(
        self, call: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return the function of a page that follows the changes of everything.

        However many have it open, it is made once for all whom the same change has sent to read
        it anew. Who opens it gets it as it is at that moment.
        """

        async def answer(request: Request) -> Response:
            reports = self.desk.runner.reports
            told = reports.last_mark if "hx-request" in request.headers else None
            if told is None:
                # From before anything is read: what changes after it is told to the page.
                request.scope[_MARK] = await reports.mark()
                return await call(request)
            request.scope[_MARK] = told
            url, roles = request.url, await self._roles.of(request)
            # What a page depends on: the place that it is at, what it is asked for, its buttons.
            key = (request.app, request.scope.get("root_path"), url.path, url.query, roles)
            return await self._copies.get(told, key, lambda: call(request))

        answer.__name__ = getattr(call, "__name__", "page")
        return answer

    async def page(
        self, request: Request, template: str, *, here: str, title: str, **values: Any
    ) -> Response:
        """Return a page.

        Args:
            request: The request that is answered.
            template: The name of its template.
            here: The name of the place in the navigation.
            title: What it is called.
            values: What the template is given. `stream` is the address of the events that it
                follows (default: those of everything); None where nothing changes.
        """
        if "stream" not in values:
            values["stream"] = self.url(request, "changes", since=request.scope.get(_MARK))
        text = self._templates.get_template(template).render(
            here=here,
            title=title,
            now=(now := self.now()),
            ago=lambda at: ago(at, now),
            may=await self._roles.of(request),
            roles=Role,
            trouble=self._trouble(),
            notice={key: request.query_params.get(key) for key in NOTICE},
            **self._shared(request),
            **values,
        )
        return HTMLResponse(text)

    def error(self, request: Request, status: int, title: str, detail: str) -> bytes:
        """Return a page that says what went wrong and what to do."""
        template = self._templates.get_template("error.html")
        shared = self._shared(request)
        return bytes(
            template.render(status=status, title=title, detail=detail, **shared).encode("utf-8")
        )

    def _trouble(self) -> str | None:
        """Return that pages show what is in the file no more; it costs no reading."""
        problem = self.desk.runner.reports.file_problem()
        return None if problem is None else self.desk.shown.masking.text(problem)

    def _shared(self, request: Request) -> dict[str, Any]:
        known: dict[str, str] = {}

        def url(page: str, job_id: str | None = None, **values: Any) -> str:
            # Looking for a route takes a while, and a list has hundreds of links.
            if page not in known:
                path = {} if job_id is None else {"job_id": _SOME_ID}
                known[page] = self.url(request, page, **path)
            base = known[page].replace(_SOME_ID, job_id or "")
            return _with(base, values)

        def asset(file: str) -> str:
            return self.url(request, "static_file", asset=self.assets.name(file))

        def route(name: str, **values: str) -> str:
            return self.route(request, name, **values)

        shared: dict[str, Callable[..., str]] = {"url": url, "asset": asset, "route": route}
        return {**shared, "name": self.desk.name}


def _with(base: str, values: Mapping[str, Any]) -> str:
    """Return an address with what stands behind its question mark."""
    given = {key: value for key, value in values.items() if value not in (None, "", [])}
    return f"{base}?{urlencode(given, doseq=True)}" if given else base


def _environment() -> Any:
    try:
        jinja2: Any = importlib.import_module("jinja2")
    except ModuleNotFoundError:
        raise ConfigurationError(_MISSING) from None
    return _templates(jinja2)


@cache
def _templates(jinja2: Any) -> Any:
    """Return the templates, read once for all routers of a process.

    All of them: whoever looks first is often in a hurry, and would wait for it.
    """
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        # Of everything, whatever the file is called: what jobs carry is never trusted.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    found.filters.update(FILTERS, quoted=quoted)
    for name in found.list_templates():
        found.get_template(name)
    return found
