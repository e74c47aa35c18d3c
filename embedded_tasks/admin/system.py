"""What the routes tell of the file, the processes and their health.

What lives here: the JSON of durability and health, and their endpoints. What does not: jobs.
Included by `routes`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field
from starlette.responses import Response

from embedded_tasks.admin.desk import Desk, Endpoint
from embedded_tasks.admin.moments import Moment, known_moment, moment
from embedded_tasks.admin.problems import problem
from embedded_tasks.masking import Masking
from embedded_tasks.reported import Durability, NonDurableSite, ProcessReport

__all__ = ["JobDurability", "JobProcess", "JobSite", "RunnerHealth", "RunnerStatus", "endpoints"]


class RunnerHealth(BaseModel):
    """One process's runner, with nothing that needs a person."""

    ok: bool
    problems: list[str]
    process: Annotated[str, Field(description="The id of this run.")]
    running: Annotated[int, Field(description="Attempts that run here.")]
    slots: Annotated[dict[str, int], Field(description="How many may, by kind.")]
    stuck: Annotated[int, Field(description="Functions that go on although they were stopped.")]
    processes: Annotated[list[str], Field(description="Living siblings.")]
    unknown_tasks: Annotated[list[str], Field(description="Stored names without code here.")]
    recovered: Annotated[int, Field(description="Jobs that the last start put back.")]


class RunnerStatus(BaseModel):
    """A yes for a probe; a no is a problem."""

    ok: bool = True


class JobProcess(BaseModel):
    """A process that has the file open, or had it and was not yet recovered."""

    id: str
    pid: int
    started_at: Moment
    runs_jobs: bool
    lock: Annotated[str, Field(description="ours, held (it lives), free (it is dead) or unknown.")]
    why: str | None
    running: Annotated[int, Field(description="Jobs that it runs.")]


class JobSite(BaseModel):
    """A place in the code that adds tasks which cannot be stored."""

    file: str
    line: int
    reason: str
    count: int
    last_at: Moment


class JobDurability(BaseModel):
    """How safe what is stored is. Sizes are in bytes."""

    path: str
    size: int
    wal_size: int
    free: Annotated[int | None, Field(description="What is free on its disk.")]
    checkpointed_at: Moment | None
    checkpoint_frames: int | None
    checkpoints: int
    journal_mode: str
    synchronous: str
    sqlite: str
    wal_reset_bug: bool
    schema_number: int
    processes: list[JobProcess]
    recovered: Annotated[int, Field(description="Jobs that this process's start put back.")]
    recovered_processes: list[str]
    recovered_held: int
    non_durable: Annotated[int, Field(description="Tasks that could not be stored.")]
    non_durable_sites: list[JobSite]


def endpoints(desk: Desk) -> list[Endpoint]:
    """Return the routes."""
    each = _Endpoints(desk)
    return [
        Endpoint("GET", "/durability", each.get_durability, JobDurability),
        Endpoint("GET", "/health", each.get_health, RunnerHealth),
        Endpoint("GET", "/health/live", each.get_live, RunnerStatus),
        Endpoint("GET", "/health/ready", each.get_ready, RunnerStatus),
    ]


class _Endpoints:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def get_durability(self) -> JobDurability:
        """Tell of the file, its WAL and its disk, of the processes, and of what is not durable."""
        return _durability(await self._desk.runner.reports.durability(), self._desk.shown.masking)

    async def get_health(self) -> RunnerHealth | Response:
        """Tell whether everything is well in this process; 503 says what is not, in words."""
        health = await self._desk.runner.health()
        if health.ok:
            return RunnerHealth.model_validate(health, from_attributes=True)
        return problem(503, "unhealthy", " ".join(health.problems), problems=health.problems)

    async def get_live(self) -> RunnerStatus:
        """Answer while the event loop goes round; nothing else is asked, the file neither."""
        return RunnerStatus()

    async def get_ready(self) -> RunnerStatus | Response:
        """Tell whether this process can take requests: it runs, is not ending, and can store.

        A backlog, however long, or a job that hangs, is no reason to say no: a restart would not
        shorten it.
        """
        runner = self._desk.runner
        health = await runner.health()
        if health.ready:
            return RunnerStatus()
        if runner.stopping.is_set():
            return problem(503, "stopping", "This process is about to end.")
        detail = " ".join(health.problems)
        return problem(503, "store_unavailable", detail, headers={"Retry-After": "5"})


def _durability(found: Durability, masking: Masking) -> JobDurability:
    return JobDurability(
        path=found.path,
        size=found.size,
        wal_size=found.wal_size,
        free=found.free,
        checkpointed_at=moment(found.checkpointed_at),
        checkpoint_frames=found.checkpoint_frames,
        checkpoints=found.checkpoints,
        journal_mode=found.journal_mode,
        synchronous=found.synchronous,
        sqlite=found.sqlite,
        wal_reset_bug=found.wal_reset_bug,
        schema_number=found.schema,
        processes=[_process(each) for each in found.processes],
        recovered=found.recovered,
        recovered_processes=found.recovered_processes,
        recovered_held=found.recovered_held,
        non_durable=found.non_durable,
        non_durable_sites=[_site(each, masking) for each in found.non_durable_sites],
    )


def _process(found: ProcessReport) -> JobProcess:
    return JobProcess(
        id=found.id,
        pid=found.pid,
        started_at=known_moment(found.started_at),
        runs_jobs=found.runs_jobs,
        lock=found.lock,
        why=found.why,
        running=found.running,
    )


def _site(found: NonDurableSite, masking: Masking) -> JobSite:
    return JobSite(
        file=found.file,
        line=found.line,
        reason=masking.text(found.reason),
        count=found.count,
        last_at=known_moment(found.last_at),
    )
