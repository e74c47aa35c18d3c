"""What the OpenAPI document of the status routes says.

What lives here: ids, tags, problems, and two routers in one document. What does not: whether it is
true (`test_schema.py`). Run by pytest.
"""

from __future__ import annotations

from typing import get_args

import pytest
from fastapi import Depends, FastAPI

from embedded_tasks import admin
from embedded_tasks.admin.stats import MetricName
from embedded_tasks.job import ShownState
from embedded_tasks.reported import Metric
from tests.support.jobs import job_id, new_job
from tests.web.admin.status_app import (
    PROBLEM,
    StillRunner,
    only_operators,
    operating,
    status_app,
)

pytestmark = [
    pytest.mark.anyio,
    # FastAPI itself reads it when it makes the OpenAPI document; old releases of pydantic warn.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute:DeprecationWarning"),
]


ASKED = {"401", "403", "503"}
BODY = {"400", "413", "415", "422"}
ONE = {"404", "422"}
CHANGING = {*ONE, "409", "412"}
SAID = {
    "tasks_cancel_job": CHANGING,
    "tasks_change_jobs": BODY,
    "tasks_delete_job": CHANGING,
    "tasks_delete_jobs": BODY,
    "tasks_export_jobs": {"422"},
    "tasks_get_durability": set(),
    "tasks_get_health": set(),
    "tasks_get_job": ONE,
    "tasks_get_live": set(),
    "tasks_get_logs": ONE,
    "tasks_get_ready": set(),
    "tasks_get_result": {*ONE, "409"},
    "tasks_get_series": {"422"},
    "tasks_get_stats": set(),
    "tasks_get_timeline": ONE,
    "tasks_list_attempts": ONE,
    "tasks_list_audit": {"422"},
    "tasks_list_errors": {"422"},
    "tasks_list_jobs": {"422"},
    "tasks_list_queues": set(),
    "tasks_list_tasks": set(),
    "tasks_pause_queue": ONE,
    "tasks_resume_queue": ONE,
    "tasks_retry_job": CHANGING,
    "tasks_run_job_now": CHANGING,
    "tasks_stream_events": {"422"},
    "tasks_stream_job": ONE,
}


@pytest.fixture
def app() -> FastAPI:
    return status_app(StillRunner())


def test_the_openapi_document_says_it_all(app: FastAPI) -> None:
    document = app.openapi()
    operations = {
        each["operationId"]: each
        for path, methods in document["paths"].items()
        for each in methods.values()
    }
    own = {"200", "202", "204", "304"}
    said = {name: set(each["responses"]) - own - ASKED for name, each in operations.items()}
    assert said == SAID
    for each in operations.values():
        assert each["tags"] == ["tasks"]
        assert each["summary"]
        assert each["description"]
        assert set(each["responses"]) >= ASKED
        for status, answer in each["responses"].items():
            if status not in own:
                assert list(answer["content"]) == [PROBLEM]
                assert answer["content"][PROBLEM]["schema"]["title"] == "Problem"
    schemas = document["components"]["schemas"]
    assert set(schemas["ShownState"]["enum"]) == {state.value for state in ShownState}
    assert "HTTPValidationError" not in schemas


def test_routes_can_be_left_out_of_the_document() -> None:
    assert not status_app(StillRunner(), include_in_schema=False).openapi()["paths"]


async def test_two_runners_in_one_app_have_routes_of_their_own() -> None:
    first, second = StillRunner(), StillRunner()
    app = status_app(first)
    made = admin.router(second, dependencies=[Depends(only_operators)], name="mail")
    app.include_router(made, prefix="/mail")
    async with second, operating(app) as client:
        await first.store.insert([new_job(1)])
        await second.store.insert([new_job(2)])
        for path, number in (("/jobs", 1), ("http://test/mail/api/v1/jobs", 2)):
            found = (await client.get(path)).json()["items"]
            assert [each["id"] for each in found] == [job_id(number)]
    names = [
        each["operationId"] for path in app.openapi()["paths"].values() for each in path.values()
    ]
    assert len(set(names)) == 2 * 27
    assert app.url_path_for("mail_get_job", job_id=job_id(1)) == f"/mail/api/v1/jobs/{job_id(1)}"


def test_every_metric_can_be_asked_for() -> None:
    assert {metric.value for metric in Metric} == set(get_args(MetricName))
