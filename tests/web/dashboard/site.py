"""An app with the dashboard, on a real server, and a history that it shows.

What lives here: what the browser tests and the drawn pictures share. What does not: what they
promise. Used by the tests of this folder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request

from embedded_tasks import TaskRunner, admin
from embedded_tasks.clock import SystemClock
from tests.web.dashboard.shop import build_report, charge, purge, send_invoice, sync_crm
from tests.web.drop_in.live import Live, live

__all__ = ["KEY", "Site", "app_with", "fill", "history", "serve"]

KEY = "live_0123456789abcdef"
"""A secret, which is to be seen nowhere."""


class PastClock(SystemClock):
    """The clock of a runner that lives through the last hour in a moment."""

    back = 0.0

    def now(self) -> float:
        return super().now() - self.back


class PastRunner(TaskRunner):
    """Its time can be put back."""

    def _make_clock(self) -> PastClock:
        self.past = PastClock()
        return self.past


@dataclass(frozen=True)
class Site:
    """An app that is being served."""

    server: Live
    runner: TaskRunner
    url: str

    def run(self, work: Any) -> Any:
        """Run a coroutine on the app's loop."""
        return self.server.on_loop(work)


def everybody(request: Request) -> None:
    if request.headers.get("x-stranger"):
        raise HTTPException(401, "Who are you?")


def app_with(runner: TaskRunner, prefix: str = "/admin/tasks", **options: Any) -> FastAPI:
    app = FastAPI()
    runner.install(app)
    if "read" not in options:
        options.setdefault("dependencies", [Depends(everybody)])
    options.setdefault("who", lambda _: "ann")
    app.include_router(admin.router(runner, **options), prefix=prefix)
    return app


@contextmanager
def serve(runner: TaskRunner, app: FastAPI, prefix: str = "/admin/tasks") -> Iterator[Site]:
    with live(app) as server:
        host, port = server.address
        yield Site(server, runner, f"http://{host}:{port}{prefix}")


def new_runner(folder: Path) -> PastRunner:
    return PastRunner(folder / "tasks.db", modules=["tests"])


async def settled(runner: TaskRunner, jobs: list[Any]) -> None:
    for job in jobs:
        await runner.wait(job.id, 30)


async def fill(runner: TaskRunner) -> dict[str, str]:
    """Jobs in most states; return an id of each kind."""
    mail = runner.options(queue="mail", tags=["invoice"])
    sent = [await mail.enqueue(send_invoice, n, "ann@example.com") for n in (1, 2, 7, 14)]
    paid = [await runner.enqueue(charge, n, 995, KEY) for n in (1, 5)]
    await settled(runner, [*sent, *paid])
    later = await runner.options(delay=timedelta(hours=2)).enqueue(purge, "/var/tmp")
    return {
        "succeeded": sent[0].id,
        "failed": sent[2].id,
        "declined": paid[1].id,
        "scheduled": later.id,
    }


async def history(runner: PastRunner) -> None:
    """An hour of a shop's work, for pictures."""
    for minute in range(58, 0, -2):
        runner.past.back = minute * 60.0
        jobs: list[Any] = []
        for n in range(minute, minute + 4 + (minute * 7) % 9):
            mail = runner.options(queue="mail", tags=["invoice", f"batch-{minute % 4}"])
            jobs.append(await mail.enqueue(send_invoice, n, f"customer{n}@example.com"))
            jobs.append(await runner.options(queue="crm").enqueue(sync_crm, n))
        if minute % 6 == 0:
            jobs.append(await runner.enqueue(charge, minute, 1995, KEY))
        await settled(runner, jobs)
    runner.past.back = 0.0
    await runner.options(queue="reports").enqueue(build_report, "2026-10", 500)
    await runner.options(delay=timedelta(hours=2)).enqueue(purge, "/var/tmp")
