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
from embedded_tasks.admin.access import Guards, access_of
from embedded_tasks.admin.desk import Desk, Who, client_address
from embedded_tasks.admin.feed import Pace
from embedded_tasks.admin.masking import Masking
from embedded_tasks.admin.origins import origins_of
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.runner import Runner

__all__ = ["RouterOptions", "router"]

_API = "/api/v1"


class RouterOptions(TypedDict, total=False):
    """What `router` takes beside the runner and its guards."""

    name: str
    include_in_schema: bool
    enqueue: Sequence[Callable[..., Any]]
    who: Who
    secrets: Iterable[str]
    allowed_origins: Iterable[str]
    pace: Pace


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
        options: `name` (default "tasks") begins the operation ids and is their tag: give each
            router of an app its own. `include_in_schema` (default True): whether the app's OpenAPI
            document shows the routes. `enqueue`: the tasks that clients may enqueue over HTTP
            (default none). `who`: a function of the request that says who asks, for the audit
            trail (default the client's address). `secrets`: further names whose values are
            masked. `allowed_origins`: origins of other front ends whose pages may change things.
            `pace`: how long streams wait and live.

    Raises:
        ConfigurationError: There are no dependencies; the message says what to write.

    Example:
        ```python
        router = admin.router(runner, dependencies=[Depends(require_admin)])
        app.include_router(router, prefix="/admin/tasks")
        ```
    """
    unknown = set(options) - set(RouterOptions.__annotations__)
    if unknown:
        raise ConfigurationError(
            f"admin.router has no option {', '.join(sorted(unknown))}; known are "
            f"{', '.join(sorted(RouterOptions.__annotations__))}."
        )
    desk = Desk(
        runner,
        access_of(dependencies, read, operate, admin),
        name=options.get("name", "tasks"),
        who=options.get("who", client_address),
        allowed_origins=origins_of(options.get("allowed_origins", ())),
        masking=Masking(options.get("secrets", ())),
        pace=options.get("pace", Pace()),
    )
    made = desk.router(include_in_schema=options.get("include_in_schema", True))
    # Fixed paths stand before those with an id in the same place.
    for found in (
        export.endpoints(desk),
        bulk.endpoints(desk),
        jobs.endpoints(desk),
        actions.endpoints(desk),
        enqueuing.endpoints(desk, options.get("enqueue", ())),
        queues.endpoints(desk),
        stats.endpoints(desk),
        streams.endpoints(desk),
        system.endpoints(desk),
    ):
        desk.add(made, found, prefix=_API)
    return made
