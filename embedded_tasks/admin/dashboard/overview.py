"""The overview: is it well, what needs a person, and how the last hours went.

What lives here: its page. What does not: lists. Included by `pages`.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from embedded_tasks.admin.dashboard.drawing import RANGES, Chart, Range, counted, timed
from embedded_tasks.admin.dashboard.page import Page
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.admin.figures import group_of, queue_of
from embedded_tasks.admin.models import JobLine
from embedded_tasks.job import ShownState
from embedded_tasks.reported import Metric
from embedded_tasks.store import JobFilter

__all__ = ["charts_of", "pages", "range_of"]

_HELD = 5
_LOOKED_AT = 50


def pages(site: Site) -> list[Page]:
    """Return the routes."""
    return [Page("GET", "/", site.live(_Pages(site).overview))]


def range_of(request: Request) -> Range:
    """Return how far back the charts go."""
    return RANGES.get(request.query_params.get("range", ""), RANGES["1h"])


async def charts_of(site: Site, wanted: Range, task: str | None = None) -> list[Chart]:
    """Return the charts of a task, or of all of them.

    Args:
        site: What all pages share.
        wanted: How far back.
        task: Only this task.
    """
    reports = site.desk.runner.reports

    async def series(metric: Metric) -> Any:
        return await reports.series(metric, bucket=wanted.bucket, since=wanted.since, task=task)

    charts = [
        counted("Throughput", await series(Metric.THROUGHPUT), "plain", "attempts ended"),
        counted("Failures", await series(Metric.FAILURES), "bad", "attempts failed"),
        timed("Queue wait", await series(Metric.QUEUE_WAIT), "plain", "waits"),
    ]
    if task is not None:
        charts.append(timed("Run time", await series(Metric.RUN_TIME), "plain", "runs"))
    return charts


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def _held(self, shown: set[str]) -> list[JobLine]:
        """Return some held jobs, without those of the kinds of failures that are shown anyway."""
        desk = self._site.desk
        page = await desk.runner.reports.jobs(JobFilter(state="held", limit=_LOOKED_AT))
        rest = [record for record in page.jobs if record.group not in shown]
        return [await desk.line(record) for record in rest[:_HELD]]

    async def overview(self, request: Request) -> Response:
        """Show how it goes."""
        desk, wanted = self._site.desk, range_of(request)
        runner = desk.runner
        found, health = await runner.reports.overview(), await runner.health()
        groups = [
            group_of(group, await desk.masking_for(group.sample))
            for group in found.errors
            if group.failed.value
        ]
        held: list[JobLine] = []
        if found.states[ShownState.HELD].value:
            held = await self._held({group.id for group in groups})
        return await self._site.page(
            request,
            "overview.html",
            here="overview",
            title="Overview",
            health=health,
            problems=[desk.shown.masking.text(each) for each in health.problems],
            states=found.states,
            needs_you=found.needs_you,
            groups=groups,
            held=held,
            queues=[queue_of(queue) for queue in found.queues],
            charts=await charts_of(self._site, wanted),
            ranges=list(RANGES.values()),
            wanted=wanted,
        )
