"""The router for operators, which is included in the app.

What lives here: `router`, and the order of its routes. What does not: the endpoints, which are by
resource in the other modules of this folder. Called by users through `admin`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypedDict, Unpack

from fastapi import APIRouter

from embedded_tasks.admin import (
    actions,
    bulk,
    enqueuing,
    export,
    jobs,
    queues,
    stats,
    streams,
    system,
)
from embedded_tasks.admin.access import Access, Guards, access_of
from embedded_tasks.admin.dashboard import add_pages
from embedded_tasks.admin.desk import Desk, Endpoint, Who, check_options, client_address
from embedded_tasks.admin.feed import Pace
from embedded_tasks.admin.origins import origins_of
from embedded_tasks.runner import Runner

__all__ = ["RouterOptions", "router"]

_API = "/api/v1"


class RouterOptions(TypedDict, total=False):
    """What `router` takes beside the runner and its guards.

    Args:
        name: Begins the operation ids and is their tag (default "tasks"); give each router of an
            app its own.
        include_in_schema: Whether the app's OpenAPI document shows the routes (default True).
        enqueue: The tasks that clients may enqueue over HTTP (default none).
        who: A function of the request that says who asks, for the audit trail (default the
            client's address).
        secrets: Further names whose values are masked, such as "iban".
        allowed_origins: Origins of other front ends whose pages may change things.
        pace: How long streams wait and live.
        dashboard: Whether there are pages for people too (default True); they need the extra
            "dashboard".
    """

    name: str
    include_in_schema: bool
    enqueue: Sequence[Callable[..., Any]]
    who: Who
    secrets: Iterable[str]
    allowed_origins: Iterable[str]
    pace: Pace
    dashboard: bool


def router(
    runner: Runner,
    *,
    dependencies: Guards | None = None,
    read: Guards | None = None,
    operate: Guards | None = None,
    admin: Guards | None = None,
    **options: Unpack[RouterOptions],
) -> APIRouter:
    """Return routes that show what the jobs do and let an operator steer them.

    Args:
        runner: The app's runner.
        dependencies: At least one `Depends(...)` that lets operators through and nobody else;
            or give the roles one by one:
        read: For those who may look; asked by every route.
        operate: For those who may also retry, cancel, run now, pause and enqueue; left out, there
            are no such routes.
        admin: For those who may also delete; left out, nobody may.
        options: See `RouterOptions`.

    Raises:
        ConfigurationError: There are no dependencies, or Jinja2 is missing; the message says what
            to write.

    Example:
        ```python
        router = admin.router(runner, dependencies=[Depends(require_admin)])
        app.include_router(router, prefix="/admin/tasks")
        ```
    """
    check_options("admin.router", options, RouterOptions.__annotations__)
    desk = _desk(runner, access_of(dependencies, read, operate, admin), options)
    made = desk.router(include_in_schema=options.get("include_in_schema", True))
    for found in _resources(desk, options.get("enqueue", ())):
        desk.add(made, found, prefix=_API)
    if options.get("dashboard", True):
        add_pages(desk, made)
    return made


def _desk(runner: Runner, access: Access, options: RouterOptions) -> Desk:
    return Desk(
        runner,
        access,
        name=options.get("name", "tasks"),
        who=options.get("who", client_address),
        allowed_origins=origins_of(options.get("allowed_origins", ())),
        secrets=options.get("secrets", ()),
        pace=options.get("pace", Pace()),
    )


def _resources(desk: Desk, enqueue: Sequence[Callable[..., Any]]) -> Iterable[list[Endpoint]]:
    # Fixed paths stand before those with an id in the same place.
    return (
        export.endpoints(desk),
        bulk.endpoints(desk),
        jobs.endpoints(desk),
        actions.endpoints(desk),
        enqueuing.endpoints(desk, enqueue),
        queues.endpoints(desk),
        stats.endpoints(desk),
        streams.endpoints(desk),
        system.endpoints(desk),
    )
