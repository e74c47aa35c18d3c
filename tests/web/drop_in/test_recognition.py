"""Whose `BackgroundTasks` become durable: all of them, whatever the annotation.

What lives here: annotations, the one instance of a request, the public list. What does not: which
routes are reached (test_routes.py). Run by pytest.
"""

from __future__ import annotations

from typing import Annotated, Any

import fastapi
import pytest
import starlette.background
from fastapi import Depends, FastAPI
from starlette.background import BackgroundTask

import embedded_tasks
from embedded_tasks import Job, TaskRunner
from tests.web.drop_in import tasks
from tests.web.drop_in.serving import READS_OBJECTS, all_ended, serving, stored

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]


class OwnTasks(fastapi.BackgroundTasks):
    pass


async def as_fastapi(t: fastapi.BackgroundTasks) -> None:
    t.add_task(tasks.note, 1)


async def as_starlette(t: starlette.background.BackgroundTasks) -> None:
    t.add_task(tasks.note, 1)


async def as_ours(t: embedded_tasks.BackgroundTasks) -> None:
    t.add_task(tasks.note, 1)


async def as_own(t: OwnTasks) -> None:
    t.add_task(tasks.note, 1)


async def as_annotated(t: Annotated[fastapi.BackgroundTasks, "noted"]) -> None:
    t.add_task(tasks.note, 1)


async def as_string(t: "fastapi.BackgroundTasks") -> None:  # noqa: UP037  # users write this
    t.add_task(tasks.note, 1)


async def with_default(t: fastapi.BackgroundTasks = None) -> None:  # type: ignore[assignment]  # users write this
    t.add_task(tasks.note, 1)


def in_a_thread(t: fastapi.BackgroundTasks) -> None:
    t.add_task(tasks.note, 1)


class Callable:
    def __call__(self, t: fastapi.BackgroundTasks) -> None:
        t.add_task(tasks.note, 1)


class AsyncCallable:
    async def __call__(self, t: fastapi.BackgroundTasks) -> None:
        t.add_task(tasks.note, 1)


def app_with(runner: TaskRunner, endpoint: Any, **options: Any) -> FastAPI:
    app = FastAPI()
    runner.install(app)
    app.get("/", **options)(endpoint)
    return app


@pytest.mark.parametrize(
    "endpoint",
    [
        as_fastapi,
        as_starlette,
        as_ours,
        as_own,
        as_annotated,
        as_string,
        with_default,
        in_a_thread,
        pytest.param(Callable(), marks=READS_OBJECTS),
        pytest.param(AsyncCallable(), marks=READS_OBJECTS),
    ],
    ids=lambda endpoint: getattr(endpoint, "__name__", type(endpoint).__name__),
)
async def test_any_annotation_is_durable(runner: TaskRunner, endpoint: Any) -> None:
    async with serving(app_with(runner, endpoint)) as client:
        assert (await client.get("/")).status_code == 200
        (job,) = await all_ended(runner)
        assert job.state == "succeeded"
    assert tasks.seen == [1]


async def test_our_annotation_gives_the_job_and_options(runner: TaskRunner) -> None:
    async def endpoint(t: embedded_tasks.BackgroundTasks) -> list[str]:
        job = t.add_task(tasks.double, 21)
        assert job is not None
        later = t.options(delay=3600, queue="mail").add_task(tasks.note, "later")
        jobs.append(job)
        return [job.id, later.id]

    jobs: list[Job[int]] = []
    async with serving(app_with(runner, endpoint)) as client:
        ids = (await client.get("/")).json()
        assert await jobs[0].result(timeout=30) == 42
        first, second = await stored(runner)
        assert [first.id, second.id] == ids
        assert (second.queue, second.shown) == ("mail", "scheduled")


async def test_all_of_a_request_share_one_instance(runner: TaskRunner) -> None:
    instances: list[Any] = []

    async def below(t: fastapi.BackgroundTasks) -> None:
        instances.append(t)
        t.add_task(tasks.note, "below")

    async def dependency(t: starlette.background.BackgroundTasks, _: None = Depends(below)) -> None:
        instances.append(t)
        t.add_task(tasks.note, "dependency")

    async def of_the_route(t: fastapi.BackgroundTasks) -> None:
        instances.append(t)
        t.add_task(tasks.note, "route")

    async def endpoint(t: embedded_tasks.BackgroundTasks, _: None = Depends(dependency)) -> None:
        instances.append(t)
        t.add_task(tasks.note, "endpoint")

    app = app_with(runner, endpoint, dependencies=[Depends(of_the_route)])
    async with serving(app) as client:
        await client.get("/")
        await all_ended(runner)
    assert len({id(instance) for instance in instances}) == 1
    assert isinstance(instances[0], fastapi.BackgroundTasks)
    assert isinstance(instances[0], embedded_tasks.BackgroundTasks)
    assert tasks.seen == ["route", "below", "dependency", "endpoint"]


@pytest.mark.usefixtures("mode")
async def test_the_list_of_tasks_may_be_changed_by_hand(runner: TaskRunner) -> None:
    async def endpoint(t: fastapi.BackgroundTasks) -> None:
        t.add_task(tasks.note, 2)
        t.add_task(tasks.note, "taken out")
        t.tasks.pop()
        t.tasks.append(BackgroundTask(tasks.anote, 3))
        t.tasks.insert(0, BackgroundTask(tasks.note, value=1))
        tasks.note([type(task).__mro__[-2] for task in t.tasks])

    async with serving(app_with(runner, endpoint)) as client:
        await client.get("/")
        jobs = await all_ended(runner)
        assert [job.state for job in jobs] == ["succeeded"] * 3
    assert tasks.seen == [[BackgroundTask] * 3, 1, 2, 3]


@pytest.mark.usefixtures("mode")
async def test_a_new_list_may_be_put_in_place(runner: TaskRunner) -> None:
    async def endpoint(t: fastapi.BackgroundTasks) -> None:
        t.add_task(tasks.note, "gone")
        t.tasks = [BackgroundTask(tasks.note, 1)]

    async with serving(app_with(runner, endpoint)) as client:
        await client.get("/")
        assert len(await all_ended(runner)) == 1
    assert tasks.seen == [1]


async def test_an_argument_that_plain_does_not_take_is_refused_too(runner: TaskRunner) -> None:
    async def endpoint(t: fastapi.BackgroundTasks) -> None:
        with pytest.raises(TypeError, match="func"):
            t.add_task(tasks.note, func=1)  # type: ignore[misc, arg-type, call-arg]  # the point of it

    async with serving(app_with(runner, endpoint)) as client:
        assert (await client.get("/")).status_code == 200


async def test_another_class_in_the_place_of_fastapis_is_told_of(
    runner: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastapi.dependencies.utils.BackgroundTasks", OwnTasks)
    async with serving(app_with(runner, as_fastapi)) as client:
        with pytest.warns(embedded_tasks.NotDurableWarning, match="OwnTasks has taken the place"):
            await client.get("/")
        assert await stored(runner) == []
        assert runner.non_durable == 1
    assert tasks.seen == [1]


async def test_made_by_hand_outside_an_app_they_behave_as_plain() -> None:
    by_hand = embedded_tasks.BackgroundTasks([BackgroundTask(tasks.note, 1)])
    assert by_hand.add_task(tasks.anote, 2) is None
    by_hand.add_task(tasks.fail, 3)
    by_hand.add_task(tasks.note, "never, as with plain")
    with pytest.raises(tasks.TaskError):
        await by_hand()
    assert tasks.seen == [1, 2, 3]
    with pytest.raises(embedded_tasks.NotStartedError):
        by_hand.options(delay=1).add_task(tasks.note, 4)
