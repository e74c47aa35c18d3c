"""The app: a few forms, and pages that show what became of them.

What lives here: routes. What does not: what happens in the background, which is in `tasks.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from mailbox import Maildir
from pathlib import Path
from secrets import compare_digest
from typing import Annotated
from uuid import uuid4

from fastapi import (
    BackgroundTasks,
    Depends,
    FastAPI,
    Form,
    Header,
    HTTPException,
    Request,
    UploadFile,
)
from fastapi.responses import RedirectResponse, Response
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates

from embedded_tasks import JobFilter, admin
from sample_app import records
from sample_app.tasks import build_report, call_hook, runner, send_welcome

app = FastAPI(title="embedded-tasks sample")
app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")))
runner.install(app)
pages = Jinja2Templates(Path(__file__).with_name("templates"))


def only_operators(login: Annotated[HTTPBasicCredentials, Depends(HTTPBasic())]) -> None:
    """Let in who knows the password, which the start page tells; an app of yours would not."""
    if not compare_digest(login.password.encode(), b"sample"):
        raise HTTPException(401, "Wrong password.", {"WWW-Authenticate": "Basic"})


operators = admin.router(runner, dependencies=[Depends(only_operators)])
app.include_router(operators, prefix="/operators")


@app.get("/")
def start(request: Request) -> Response:
    return pages.TemplateResponse(request, "start.html")


@app.post("/signups")
def sign_up(tasks: BackgroundTasks, email: str = Form(pattern="^[^@ ]+@[^@ ]+$")) -> Response:
    id = uuid4().hex
    records.run("INSERT INTO signups VALUES (:id, :email, 0)", id=id, email=email)
    tasks.add_task(send_welcome, id)
    return RedirectResponse("/jobs", 303)


@app.post("/reports")
def upload(file: UploadFile) -> Response:
    id, name, text = uuid4().hex, file.filename or "a file", file.file.read().decode()
    records.run("INSERT INTO reports VALUES (:id, :name, :text, '')", id=id, name=name, text=text)
    runner.enqueue_sync(build_report, id)
    return RedirectResponse("/jobs", 303)


@app.post("/hooks")
def tell_partner(tasks: BackgroundTasks, text: str = Form()) -> Response:
    tasks.add_task(call_hook, uuid4().hex, text)
    return RedirectResponse("/jobs", 303)


@app.post("/partner")
def partner(text: str = Form(), idempotency_key: str = Header()) -> Response:
    """Stand in for another company's system: it fails twice before it takes a message."""
    sql = """INSERT INTO hooks VALUES (:id, :text, 1)
             ON CONFLICT (id) DO UPDATE SET calls = calls + 1 RETURNING calls"""
    calls = records.run(sql, id=idempotency_key, text=text)[0]["calls"]
    return Response(status_code=503 if calls <= 2 else 204)


@app.get("/jobs")
async def show_jobs(request: Request) -> Response:
    found = {"jobs": await runner.jobs(JobFilter(limit=100)), "counts": await runner.counts()}
    return pages.TemplateResponse(request, "jobs.html", found)


@app.post("/jobs/{id}/cancel")
async def cancel(id: str) -> Response:
    await runner.cancel(id, reason="Somebody pressed the button.")
    return RedirectResponse("/jobs", 303)


@app.get("/results")
def show_results(request: Request) -> Response:
    reports = records.run("SELECT * FROM reports ORDER BY rowid DESC")
    found = {
        "mails": sorted(Maildir(records.DATA / "mail"), key=lambda m: m.get_date(), reverse=True),
        "reports": [(it["name"], json.loads(it["result"] or "null")) for it in reports],
        "hooks": records.run("SELECT * FROM hooks ORDER BY rowid DESC"),
    }
    return pages.TemplateResponse(request, "results.html", found)


@app.post("/kill")
async def kill(request: Request) -> Response:
    """Die as by `kill -9`, right after the answer; the demo starts the app again."""
    asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGKILL)
    return pages.TemplateResponse(request, "killed.html")
