"""What all endpoints of one router share: the runner, who may do what, and how routes are made.

What lives here: `Desk` and `Endpoint`. What does not: any endpoint. Each resource of this folder,
and the dashboard, is given the desk.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from embedded_tasks.admin.access import Access, Role
from embedded_tasks.admin.feed import Pace
from embedded_tasks.admin.models import JobLine
from embedded_tasks.admin.problems import documented
from embedded_tasks.admin.route import StatusRoute, refuse_other_methods
from embedded_tasks.admin.shown import Shown
from embedded_tasks.errors import ConfigurationError, JobNotFoundError, NotStartedError
from embedded_tasks.fastapi.routes import module_of
from embedded_tasks.job import JobRecord
from embedded_tasks.masking import Masking
from embedded_tasks.runner import Runner

__all__ = ["Desk", "Endpoint", "Who", "check_options", "client_address"]

Who = Callable[[Request], str | None]
"""Says who asks, for the audit trail; called when the dependencies have let a request through."""

_LONGEST_WHO: Final = 200
_MOST_KEPT: Final = 1_000
_PACE: Final = Pace()
_ALWAYS: Final = (401, 403, 503)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route, as a resource describes it. Its function's docstring is what OpenAPI says.

    Args:
        method: Such as "GET".
        path: Below the prefix that the user chooses.
        call: The function.
        model: What it answers with; None for no body.
        role: Who may.
        status: Its usual status.
        statuses: Further statuses, of problems, that it may answer with.
        extra: Further parts of its OpenAPI operation.
        responses: Further documented answers.
        answers: The class of its usual answer; None for JSON.
    """

    method: str
    path: str
    call: Callable[..., Any]
    model: object
    role: Role = Role.READ
    status: int = 200
    statuses: tuple[int, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    responses: Mapping[int | str, dict[str, Any]] = field(default_factory=dict)
    answers: type[Response] | None = None


def check_options(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse an option that is spelt wrong: it would leave something open or shown.

    Raises:
        ConfigurationError: There is one; names those that there are.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{function} has no option {', '.join(unknown)}; known are {', '.join(sorted(known))}."
        )


def client_address(request: Request) -> str | None:
    """Return the client's address, which is all that is known without the app's help."""
    return request.client.host if request.client is not None else None


class Desk:
    """What all endpoints of one router share.

    Args:
        runner: The app's.
        access: Who may do what.
        name: Begins the operation ids and names of all routes.
        who: Says who asks, for the audit trail.
        allowed_origins: Origins of other front ends whose pages may change things.
        secrets: Further names of secrets, beside the runner's own.
        pace: How long streams wait and live.
    """

    def __init__(
        self,
        runner: Runner,
        access: Access,
        *,
        name: str,
        who: Who = client_address,
        allowed_origins: Collection[str] = (),
        secrets: Iterable[str] = (),
        pace: Pace = _PACE,
    ) -> None:
        if not isinstance(runner, Runner):
            raise ConfigurationError(
                f"admin.router({runner!r}): expected the runner. Write admin.router(runner, ...)."
            )
        if not name.isidentifier():
            raise ConfigurationError(f"name={name!r}: expected a name such as 'tasks'.")
        self._own = runner
        self._who = who
        self._methods_at: dict[str, str] = {}
        self._words: dict[str, str] = {}
        self._maskings: OrderedDict[str, Masking] = OrderedDict()
        self._routes_at: dict[str, list[tuple[str, str]]] = {}
        self.name: str = name
        self.access: Access = access
        self.pace: Pace = pace
        masking = Masking((*runner.settings.secrets, *secrets))
        self.shown: Shown = Shown(masking, runner.parameters_of)
        self.route_class: type[StatusRoute] = type(
            "StatusRoute",
            (StatusRoute,),
            {
                "allowed_origins": frozenset(allowed_origins),
                "methods_at": self._methods_at,
                "words": self._words,
            },
        )

    @property
    def runner(self) -> Runner:
        """The runner, which runs on this loop.

        Raises:
            NotStartedError: It does not.
        """
        if not self._own.runs_on_this_loop():
            raise NotStartedError("The status routes")
        return self._own

    def who(self, request: Request) -> str | None:
        """Return who asks, as text that can be stored."""
        found = self._who(request)
        if found is None:
            return None
        text = str(found).encode("utf-8", "backslashreplace").decode("utf-8")
        return re.sub(r"[\x00-\x1f\x7f]", " ", text)[:_LONGEST_WHO]

    async def masking_for(self, job_id: str | None) -> Masking:
        """Return what hides the secrets among a job's arguments, wherever they are said.

        An error may repeat what its function was given. Arguments never change, so what was found
        in them is kept for a while.

        Args:
            job_id: The job; None for what belongs to none.
        """
        if job_id is None:
            return self.shown.masking
        found = self._maskings.get(job_id)
        if found is None:
            try:
                found = self.shown.masking_for(await self.runner.reports.job(job_id))
            except JobNotFoundError:
                return self.shown.masking
            self._keep(job_id, found)
        return found

    async def maskings_for(self, ids: Collection[str]) -> dict[str, Masking]:
        """Return what hides the secrets of each of these jobs; one reading tells of all."""
        found = {job_id: self._maskings[job_id] for job_id in ids if job_id in self._maskings}
        unknown = [job_id for job_id in ids if job_id not in found]
        if unknown:
            given = await self.runner.reports.given(unknown)
            for job_id, (task, args) in given.items():
                found[job_id] = self.shown.masking_of(task, args)
                self._keep(job_id, found[job_id])
        return {job_id: found.get(job_id, self.shown.masking) for job_id in ids}

    def _keep(self, job_id: str, masking: Masking) -> None:
        self._maskings[job_id] = masking
        while len(self._maskings) > _MOST_KEPT:
            self._maskings.popitem(last=False)

    async def line(self, record: JobRecord) -> JobLine:
        """Return a job for a list, without the secrets among its arguments."""
        says = record.reason or (record.progress and record.progress.message)
        return self.shown.line(record, await self.masking_for(record.id if says else None))

    def task_name(self, function: Callable[..., Any]) -> str:
        """Return the name by which the jobs of a function are stored.

        Who names a function here says as much as by a route of the app: its package is known.

        Raises:
            NotDurableError: It has no name that leads back to it.
        """
        self._own.references.add_package(module_of(function))
        return self._own.task_name(function)

    def router(self, *, include_in_schema: bool = True) -> APIRouter:
        """Return a router with no routes yet; whatever is added to it asks the readers' guards."""
        tags: list[str | Enum] = [self.name]
        return APIRouter(
            dependencies=[*self.access.read, Depends(refuse_other_methods)],
            route_class=self.route_class,
            responses=documented(*_ALWAYS),
            tags=tags,
            include_in_schema=include_in_schema,
        )

    def add(self, router: APIRouter, endpoints: Iterable[Endpoint], *, prefix: str = "") -> None:
        """Add the routes for which there is a role."""
        for each in endpoints:
            if self.access.allows(each.role):
                self._add(router, each, prefix + each.path)

    def _add(self, router: APIRouter, each: Endpoint, path: str) -> None:
        name = f"{self.name}_{each.call.__name__}"
        responses = {**documented(*each.statuses), **each.responses}
        router.add_api_route(
            path,
            each.call,
            methods=[each.method],
            status_code=each.status,
            response_model=each.model,
            response_class=each.answers or router.default_response_class,
            summary=each.call.__name__.replace("_", " ").capitalize(),
            operation_id=name,
            name=name,
            dependencies=self.access.beyond_read(each.role),
            responses=responses,
            openapi_extra=dict(each.extra) or None,
        )
        at = self._routes_at.setdefault(path, [])
        at.append((each.method, name))
        allowed = ", ".join(sorted(method for method, _ in at))
        self._methods_at.update({other: allowed for _, other in at})
        self._words[path.rpartition("/")[2]] = allowed
