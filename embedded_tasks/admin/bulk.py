"""The endpoints that change many jobs at once, or only say how many it would be.

What lives here: bulk actions by filter or by ids. What does not: what one job becomes (`actions`).
Included by `routes`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal
from uuid import UUID

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.bodies import BODY_STATUSES, described, json_body
from embedded_tasks.admin.desk import Desk, Endpoint
from embedded_tasks.admin.fields import JobSelection, filter_of
from embedded_tasks.control import BULK_CAP, Action, states_for
from embedded_tasks.store import JobFilter

__all__ = ["BulkAction", "BulkChosen", "BulkOutcome", "chosen_of", "endpoints", "note_of"]

_MOST = 10_000
_PAGE = 200


class BulkChosen(BaseModel):
    """Which jobs, by a filter or by their ids."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [{"required": ["filter"]}, {"required": ["ids"]}]},
    )

    filter: Annotated[
        JobSelection,
        Field(
            description="All that match; an empty one means all jobs. What has succeeded is "
            "retried only if `state` names it.",
            default_factory=JobSelection,
        ),
    ]
    ids: Annotated[list[UUID], Field(min_length=1, max_length=_MOST, default_factory=list)]
    dry_run: Annotated[bool, Field(description="Only count.")] = False
    cap: Annotated[int, Field(description="How many jobs at most.", ge=1, le=_MOST)] = BULK_CAP

    @property
    def by_ids(self) -> bool:
        """Whether the jobs are given by their ids."""
        return "ids" in self.model_fields_set

    @model_validator(mode="after")
    def _one_of_both(self) -> BulkChosen:
        if not self.by_ids and "filter" not in self.model_fields_set:
            raise ValueError("Give either filter or ids.")
        if self.by_ids and "filter" in self.model_fields_set:
            raise ValueError("Give either filter or ids.")
        return self


class BulkAction(BulkChosen):
    """What to do, and to which jobs."""

    action: Literal["retry", "cancel", "run_now"]


class BulkOutcome(BaseModel):
    """What a bulk action did, or would do."""

    matched: Annotated[int, Field(description="Jobs whose state allows it.")]
    changed: int
    capped: Annotated[bool, Field(description="There are more; the rest is as it was.")]
    dry_run: bool
    note: Annotated[
        str | None, Field(description="Where no filter is set: which jobs that means, in words.")
    ]


_BODY = described(
    BulkAction,
    examples={
        "how many it would be": {
            "action": "retry",
            "filter": {"state": ["failed"], "queue": "mail"},
            "dry_run": True,
        },
        "these two": {
            "action": "cancel",
            "ids": [
                "019a7c1e-5b2e-7c3a-9d55-2f6a0b9c4e11",
                "019a7c1e-5b2f-7a10-8c1b-6d2f4a7e9b02",
            ],
        },
    },
)
_DELETE_BODY = described(
    BulkChosen,
    examples={"what nobody will ask for": {"filter": {"state": ["cancelled"]}, "dry_run": True}},
)


def endpoints(desk: Desk) -> list[Endpoint]:
    """Return the routes."""
    each = _Endpoints(desk)
    return [
        Endpoint(
            "POST",
            "/jobs/bulk",
            each.change_jobs,
            BulkOutcome,
            role=Role.OPERATE,
            statuses=BODY_STATUSES,
            extra=_BODY,
        ),
        Endpoint(
            "POST",
            "/jobs/bulk/delete",
            each.delete_jobs,
            BulkOutcome,
            role=Role.ADMIN,
            statuses=BODY_STATUSES,
            extra=_DELETE_BODY,
        ),
    ]


class _Endpoints:
    """Their docstrings are what the OpenAPI document says."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def change_jobs(
        self, request: Request, body: Annotated[BulkAction, Depends(json_body(BulkAction))]
    ) -> BulkOutcome:
        """Retry, cancel or run now many jobs; those whose state does not allow it are left alone.

        At most `cap` jobs are changed; `capped` says whether there are more.
        """
        return await self._do(Action(body.action), body, request)

    async def delete_jobs(
        self, request: Request, body: Annotated[BulkChosen, Depends(json_body(BulkChosen))]
    ) -> BulkOutcome:
        """Remove many finished or held jobs, with all that is known of them."""
        return await self._do(Action.DELETE, body, request)

    async def _do(self, action: Action, body: BulkChosen, request: Request) -> BulkOutcome:
        chosen = (
            [str(each) for each in body.ids]
            if body.by_ids
            else await chosen_of(self._desk, body.filter, body.cap)
        )
        done = await self._desk.runner.control.bulk(
            action, chosen, dry_run=body.dry_run, cap=body.cap, by=self._desk.who(request)
        )
        return BulkOutcome(
            matched=done.matched,
            changed=done.changed,
            capped=done.capped,
            dry_run=done.dry_run,
            note=None if body.by_ids else note_of(action, body.filter),
        )


def note_of(action: Action, chosen: JobSelection) -> str | None:
    """Return what it means that no filter is set; None where one is."""
    if any(getattr(chosen, name) for name in JobSelection.model_fields):
        return None
    *names, last = (state.value for state in states_for(action))
    return f"No filter is set: this means every {', '.join(names)} and {last} job."


async def chosen_of(desk: Desk, chosen: JobSelection, cap: int) -> JobFilter | list[str]:
    """Return what a bulk action is given for a filter: the filter, or the ids that it finds.

    A filter by what is in texts is tried against what is shown of them, here: the number of jobs
    that a text is found in would otherwise tell a masked secret, letter by letter.
    """
    if not filter_of(chosen).searches:
        return filter_of(chosen)
    ids: list[str] = []
    before: int | None = None
    while len(ids) <= cap:
        page = await desk.runner.reports.jobs(filter_of(chosen, _PAGE, before), shows=desk.shown)
        ids += [record.id for record in page.jobs]
        before = page.next
        if before is None:
            break
    return ids
