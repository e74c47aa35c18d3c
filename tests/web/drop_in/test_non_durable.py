"""What cannot be stored: it runs in the request as before, is warned of and counted, or refused.

What lives here: `add_task` with all that has no name or no text. What does not: its order among
others (test_order.py). Run by pytest.
"""

from __future__ import annotations

import io
import linecache
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, UploadFile
from starlette.background import BackgroundTask

from embedded_tasks import (
    BackgroundTasks as DurableTasks,
    NotDurableError,
    NotDurableWarning,
    TaskRunner,
)
from embedded_tasks.errors import ArgumentsError
from tests.web.drop_in import tasks
from tests.web.drop_in.disk import Disk
from tests.web.drop_in.serving import Visitor, all_ended, client_of, serving, stored

pytestmark = pytest.mark.anyio


def app_that(
    runner: TaskRunner, add: Callable[[Any], Any], *, refuse: bool = False, **options: Any
) -> FastAPI:
    app = FastAPI()
    runner.install(app, non_durable="raise" if refuse else "run")

    @app.get("/", **options)
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        add(background_tasks)

    return app


def local(value: Any = None) -> None:
    tasks.note("ran")


def nested() -> Callable[..., None]:
    def inner(value: Any = None) -> None:
        tasks.note("ran")

    return inner


class Service:
    """Like a session or a client: an object of this process only."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def work(self) -> None:
        tasks.note("ran")


UNSTORABLE: dict[str, tuple[Any, ...]] = {
    "lambda": (lambda: tasks.note("ran"),),
    "closure": (nested(),),
    "method": (Service().work,),
    "session": (local, Service()),
    "lock": (local, threading.Lock()),
    "file": (local, io.BytesIO()),
    "generator": (local, (number for number in range(3))),
    "exception": (local, ValueError("wrong")),
    "nested in data": (local, {"deep": [Service()]}),
    "other package": (linecache.checkcache,),
}


@pytest.mark.usefixtures("mode", "way")
@pytest.mark.parametrize("kind", UNSTORABLE)
async def test_it_runs_in_the_request_is_warned_of_and_counted(
    runner: TaskRunner, kind: str
) -> None:
    app = app_that(runner, lambda background_tasks: background_tasks.add_task(*UNSTORABLE[kind]))
    async with serving(app) as client:
        with pytest.warns(NotDurableWarning, match="runs in the request") as warned:
            assert (await client.get("/")).status_code == 200
        assert len(warned) == 1
        assert runner.non_durable == 1
        assert await stored(runner) == []
    assert tasks.seen == ([] if kind == "other package" else ["ran"])


async def test_the_warning_points_at_the_line_that_calls_add_task(runner: TaskRunner) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        lines.append(sys._getframe().f_lineno + 1)
        background_tasks.add_task(lambda: None)

    lines: list[int] = []
    async with serving(app_that(runner, add)) as client:
        with pytest.warns(NotDurableWarning) as warned:
            await client.get("/")
    assert (warned[0].filename, warned[0].lineno) == (__file__, lines[0])


async def test_each_call_site_is_warned_of_once_and_each_call_counted(runner: TaskRunner) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        for number in range(3):
            background_tasks.add_task(local, Service())
            background_tasks.tasks.append(BackgroundTask(nested(), number))

    async with serving(app_that(runner, add)) as client:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("default")
            await client.get("/")
            await client.get("/")
        assert runner.non_durable == 12
    assert [warning.category for warning in warned] == [NotDurableWarning] * 2


@pytest.mark.usefixtures("mode", "way")
async def test_it_runs_after_the_body_and_while_the_dependencies_are_open(
    runner: TaskRunner,
) -> None:
    async def session() -> AsyncIterator[None]:
        yield
        tasks.note("closed")

    app = app_that(
        runner,
        lambda background_tasks: background_tasks.add_task(local, Service()),
        dependencies=[Depends(session)],
    )
    async with serving(app):
        with pytest.warns(NotDurableWarning):
            await Visitor(app, "/", tasks.seen)()
    assert tasks.seen == ["start", "body", "ran", "closed", "ended"]


@pytest.mark.usefixtures("mode", "way")
async def test_an_uploaded_file_can_still_be_read(runner: TaskRunner) -> None:
    app = FastAPI()
    runner.install(app)

    async def read(file: UploadFile) -> None:
        tasks.note(await file.read())

    @app.post("/")
    async def endpoint(
        file: UploadFile, request: Request, background_tasks: BackgroundTasks
    ) -> None:
        background_tasks.add_task(read, file)
        background_tasks.add_task(local, request)

    async with serving(app) as client:
        with pytest.warns(NotDurableWarning) as warned:
            await client.post("/", files={"file": b"1,2,3"})
    assert tasks.seen == [b"1,2,3", "ran"]
    assert len(warned) == 2


@pytest.mark.usefixtures("mode", "way")
async def test_strict_refuses_it_in_add_task_and_stores_nothing_of_the_request(
    runner: TaskRunner, disk: Disk
) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "never")
        background_tasks.add_task(local, Service())

    app = app_that(runner, add, refuse=True)
    async with serving(app) as client:
        with pytest.raises(NotDurableError, match="Service"):
            await client.get("/")
        async with client_of(app, raises=False) as quiet:
            assert (await quiet.get("/")).status_code == 500
    assert disk.events == []
    assert tasks.seen == []
    assert runner.non_durable == 0


@pytest.mark.usefixtures("mode")
async def test_strict_refuses_what_was_put_into_the_list_by_hand(
    runner: TaskRunner, disk: Disk
) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "never")
        background_tasks.tasks.append(BackgroundTask(nested()))

    async with serving(app_that(runner, add, refuse=True)) as client:
        with pytest.raises(NotDurableError):
            await client.get("/")
    assert disk.events == []
    assert tasks.seen == []


async def called() -> None: ...


@pytest.mark.parametrize("wrong", [None, "send_mail", 3, called])
@pytest.mark.parametrize("where", ["request", "no lifespan", "by hand"])
async def test_what_cannot_be_called_is_refused_at_add_task(
    runner: TaskRunner, wrong: Any, where: str
) -> None:
    def add(background_tasks: Any) -> None:
        adder: Any = DurableTasks() if where == "by hand" else background_tasks
        with pytest.raises(TypeError, match="was given as the task"):
            adder.add_task(called() if wrong is called else wrong)
        assert adder.tasks == []

    app = app_that(runner, add)
    async with client_of(app) if where == "no lifespan" else serving(app) as client:
        assert (await client.get("/")).status_code == 200


@pytest.mark.usefixtures("mode")
async def test_arguments_that_do_not_fit_are_refused_at_add_task(runner: TaskRunner) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        with pytest.raises(ArgumentsError, match="value"):
            background_tasks.add_task(tasks.note)  # type: ignore[call-arg]  # the point of it
        with pytest.raises(ArgumentsError, match="loud"):
            background_tasks.add_task(tasks.note, 1, loud=True)  # type: ignore[call-arg]  # as above

    async with serving(app_that(runner, add)) as client:
        assert (await client.get("/")).status_code == 200
        assert await stored(runner) == []


@pytest.mark.usefixtures("mode")
async def test_options_are_refused_for_what_cannot_be_stored(runner: TaskRunner) -> None:
    def add(background_tasks: Any) -> None:
        with pytest.raises(NotDurableError):
            background_tasks.options(delay=60).add_task(local, Service())

    async with serving(app_that(runner, add)) as client:
        await client.get("/")
    assert runner.non_durable == 0


@pytest.mark.usefixtures("mode", "way")
async def test_a_change_of_an_argument_after_add_task_is_stored(runner: TaskRunner) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        basket: list[Any] = ["added"]
        background_tasks.add_task(tasks.note, basket)
        basket.append("changed")

    async with serving(app_that(runner, add)) as client:
        await client.get("/")
        await all_ended(runner)
    assert tasks.seen == [["added", "changed"]]


@pytest.mark.usefixtures("mode", "way")
async def test_an_argument_that_is_changed_into_one_that_cannot_be_stored_breaks_nothing(
    runner: TaskRunner,
) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        basket: list[Any] = []
        background_tasks.add_task(tasks.note, 1)
        background_tasks.add_task(local, basket)
        background_tasks.add_task(tasks.note, 2)
        basket.append(Service())

    async with serving(app_that(runner, add)) as client:
        with pytest.warns(NotDurableWarning, match="Service"):
            assert (await client.get("/")).status_code == 200
        assert len(await all_ended(runner)) == 2
    assert tasks.seen == [1, "ran", 2]
    assert runner.non_durable == 1


@pytest.mark.usefixtures("mode", "way")
async def test_a_task_object_of_a_class_of_its_own_is_called_as_it_is(runner: TaskRunner) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.tasks.append(tasks.Loud(tasks.note, "said"))

    async with serving(app_that(runner, add)) as client:
        with pytest.warns(NotDurableWarning, match="Loud") as warned:
            await client.get("/")
        assert await stored(runner) == []
    assert tasks.seen == ["loud", "said"]
    assert runner.non_durable == 1
    assert warned[0].filename == __file__
