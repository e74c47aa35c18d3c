"""What the OpenAPI document says is true, whatever is sent: schemathesis with all its checks.

What lives here: one run of it over every route. What does not: what the document must say
(`test_openapi.py`). Run by pytest.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.web.admin.schema_app import fill_all, served, whole_app
from tests.web.admin.status_app import OPERATOR, StillRunner

pytestmark = [
    pytest.mark.anyio,
    # FastAPI itself reads it when it makes the OpenAPI document; old releases of pydantic warn.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute:DeprecationWarning"),
]

SETTINGS = Path(__file__).with_name("schemathesis.toml")
# No seed of the day: the same requests each time.
OPTIONS = ["--checks", "all", "--generation-deterministic", "--workers", "1", "--no-color"]


async def checked(address: str, folder: Path, *options: str) -> tuple[int, str]:
    headers = {**OPERATOR, "x-user": "ann"}
    sent = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    run = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(SETTINGS), "run"]
    process = await asyncio.create_subprocess_exec(
        *run,
        f"{address}/openapi.json",
        *OPTIONS,
        *options,
        *sent,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def test_no_request_gets_what_the_document_does_not_say(tmp_path: Path) -> None:
    pytest.importorskip("schemathesis")
    runner = StillRunner()
    app = whole_app(runner)
    async with served(app) as address:
        await fill_all(runner)
        code, said = await checked(
            address, tmp_path, "--phases", "examples,coverage,fuzzing", "-n", "3"
        )
    assert code == 0, said
    assert "Tested: 31" in said, said


@pytest.mark.slow
async def test_nor_do_many_requests_one_after_the_other(tmp_path: Path) -> None:
    runner = StillRunner()
    app = whole_app(runner)
    async with served(app) as address:
        await fill_all(runner)
        code, said = await checked(address, tmp_path, "-n", "100")
    assert code == 0, said


async def test_it_finds_what_the_document_does_not_say(tmp_path: Path) -> None:
    runner = StillRunner()
    app = whole_app(runner)
    path = app.openapi()["paths"]["/ops/api/v1/jobs/{job_id}"]
    del path["get"]["responses"]["404"]
    async with served(app) as address:
        only = ["--include-operation-id", "tasks_get_job", "--phases", "coverage"]
        code, said = await checked(address, tmp_path, *only)
    assert code == 1, said
    assert "404" in said
