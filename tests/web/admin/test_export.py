"""Jobs written out, as NDJSON and as CSV.

What lives here: what is in the file, and that a spreadsheet is not harmed by it. What does not:
filters (`test_jobs.py`). Run by pytest.
"""

from __future__ import annotations

import csv
import io
import json

import httpx
import pytest

from embedded_tasks.admin.export import ExportCutError
from embedded_tasks.job import Failed
from tests.support.jobs import job_id, new_job
from tests.web.admin.status_app import (
    SOME_ERROR,
    StillRunner,
    end,
    fill,
    problem_of,
)

pytestmark = pytest.mark.anyio


async def test_every_line_is_a_job_as_the_list_shows_it(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await fill(runner.store)
    answer = await client.get("/jobs/export")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert 'filename="tasks-jobs.ndjson"' in answer.headers["content-disposition"]
    written = [json.loads(line) for line in answer.text.splitlines()]
    assert written == (await client.get("/jobs")).json()["items"]


async def test_a_table_has_a_header_and_a_row_for_each_job(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await fill(runner.store)
    answer = await client.get("/jobs/export", params={"form": "csv", "state": ["failed", "held"]})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in rows] == [job_id(9), job_id(6)]
    assert rows[0]["reason"] == "the code is gone"
    assert rows[0]["tags"] == "[]"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
async def test_no_cell_is_a_formula(
    client: httpx.AsyncClient, runner: StillRunner, start: str
) -> None:
    reason = f"{start}HYPERLINK(1)"
    await end(runner.store, 1, Failed(reason, SOME_ERROR))
    answer = await client.get("/jobs/export", params={"form": "csv"})
    [row] = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert row["reason"] == f"'{reason}"


async def test_all_pages_are_written_and_no_more_than_asked_for(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await runner.store.insert([new_job(number) for number in range(450)])
    whole = (await client.get("/jobs/export")).text.splitlines()
    assert [json.loads(line)["id"] for line in whole] == [job_id(n) for n in reversed(range(450))]
    some = (await client.get("/jobs/export", params={"limit": 250})).text.splitlines()
    assert some == whole[:250]
    assert (await client.get("/jobs/export", params={"task": "none"})).text == ""


async def test_what_is_odd_is_refused_before_anything_is_written(
    client: httpx.AsyncClient,
) -> None:
    for query in ({"limit": 0}, {"limit": "1e20"}, {"form": "xls"}, {"cursor": "x"}, {"sate": "x"}):
        problem_of(await client.get("/jobs/export", params=query), 422, "invalid_input")


async def test_an_export_that_is_cut_off_does_not_look_whole(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await runner.store.insert([new_job(number) for number in range(3)])
    runner.stopping.set()
    with pytest.raises(ExportCutError):
        await client.get("/jobs/export")
