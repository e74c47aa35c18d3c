"""Test mode and production; with the lifespan and without.

What lives here: what `add_task` does when no runner runs, and which file is touched. What does
not: the pytest plugin (test_pytest_plugin.py). Run by pytest.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi import BackgroundTasks, FastAPI

from embedded_tasks import BackgroundTasks as DurableTasks, NotStartedError, TaskRunner
from tests.web.drop_in import tasks
from tests.web.drop_in.serving import Visitor, all_ended, client_of, serving, stored

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]


@pytest.fixture
def app(runner: TaskRunner) -> FastAPI:
    app = FastAPI()
    runner.install(app)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, 1)
        background_tasks.add_task(lambda: tasks.note(2))
        background_tasks.add_task(tasks.anote, 3)

    @app.get("/fails")
    async def fails(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.fail, "failed")
        background_tasks.add_task(tasks.note, "never, as with plain")

    @app.get("/later")
    async def later(background_tasks: DurableTasks) -> None:
        background_tasks.options(delay=60).add_task(tasks.note, "later")

    @app.get("/none")
    async def none() -> str:
        return "none"

    return app


def files_beside(path: Path) -> list[str]:
    return [file.name for file in path.parent.iterdir()]


async def test_under_test_without_a_lifespan_all_is_as_plain(
    app: FastAPI, runner: TaskRunner, path: Path
) -> None:
    await Visitor(app, "/", tasks.seen)()
    assert tasks.seen == ["start", "body", 1, 2, 3, "ended"]
    assert files_beside(path) == []
    assert runner.non_durable == 0


async def test_under_test_without_a_lifespan_an_error_stops_the_rest_as_plain(
    app: FastAPI,
) -> None:
    async with client_of(app) as client:
        with pytest.raises(tasks.TaskError):
            await client.get("/fails")
    assert tasks.seen == ["failed"]


async def test_under_test_without_a_lifespan_options_cannot_be_honoured(app: FastAPI) -> None:
    async with client_of(app) as client:
        with pytest.raises(NotStartedError):
            await client.get("/later")


@pytest.mark.usefixtures("production")
async def test_in_production_without_a_lifespan_there_is_no_false_success(
    app: FastAPI, path: Path
) -> None:
    async with client_of(app) as client:
        with pytest.raises(NotStartedError, match=r"runner\.install\(app\) and start the app"):
            await client.get("/")
        assert (await client.get("/none")).json() == "none"
    async with client_of(app, raises=False) as client:
        assert (await client.get("/")).status_code == 500
    assert tasks.seen == []
    assert files_beside(path) == []


async def test_under_test_the_real_file_is_not_touched(
    app: FastAPI, runner: TaskRunner, path: Path
) -> None:
    async with serving(app) as client:
        await client.get("/later")
        assert len(await stored(runner)) == 1
    assert files_beside(path) == []


@pytest.mark.usefixtures("production")
async def test_in_production_the_file_is_where_it_was_asked_for(
    app: FastAPI, runner: TaskRunner, path: Path
) -> None:
    async with serving(app) as client:
        await client.get("/later")
        assert len(await stored(runner)) == 1
    assert path.name in files_beside(path)


async def test_under_test_an_app_that_is_called_on_another_loop_runs_as_plain(
    app: FastAPI, runner: TaskRunner
) -> None:
    def elsewhere() -> None:
        asyncio.run(Visitor(app, "/", tasks.seen)())

    async with serving(app):
        await asyncio.to_thread(elsewhere)
        assert await stored(runner) == []
    assert tasks.seen == ["start", "body", 1, 2, 3, "ended"]


@pytest.mark.usefixtures("production")
@pytest.mark.filterwarnings("ignore::embedded_tasks.NotDurableWarning")
async def test_an_app_in_a_process_that_only_enqueues_leaves_its_jobs_to_others(
    app: FastAPI, runner: TaskRunner
) -> None:
    async with runner, client_of(app) as client:
        assert (await client.get("/")).status_code == 200
        assert tasks.seen == [2]
    async with TaskRunner(runner.settings.path, modules=["tests"]).open(run_jobs=True) as other:
        jobs = await all_ended(other)
        assert [job.state for job in jobs] == ["succeeded"] * 2
    assert tasks.seen == [2, 1, 3]
