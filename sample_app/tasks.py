"""What the app does in the background; each task can run twice without harm.

What lives here: the runner and its tasks. What does not: pages. A task gets an id, looks up what
was done already, and writes down what it has done, so that a second run finds little to do.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from email.message import EmailMessage
from smtplib import SMTP, SMTPRecipientsRefused

import httpx

from embedded_tasks import JobContext, TaskRunner, task
from sample_app import records

runner = TaskRunner(records.DATA / "tasks.db")


@task(max_attempts=4, backoff=[0.5, 1, 2], retry_on=[OSError], give_up_on=[SMTPRecipientsRefused])
def send_welcome(signup_id: str, ctx: JobContext | None = None) -> None:
    """Mail a new member; when that fails for good, a second job tells the operator."""
    signup = records.run("SELECT * FROM signups WHERE id = :id", id=signup_id)[0]
    if signup["mailed"]:
        return
    try:
        send_mail(signup_id, signup["email"], "Welcome!", "It is good to have you with us.")
    except OSError as error:  # smtplib's errors are OSErrors too
        if isinstance(error, SMTPRecipientsRefused) or (ctx and ctx.failures == 3):
            # Stored before this job is failed: a crash in between cannot lose the notice.
            runner.enqueue_sync(tell_operator, signup_id, signup["email"], str(error))
        raise
    records.run("UPDATE signups SET mailed = 1 WHERE id = :id", id=signup_id)


@task(max_attempts=10, backoff=[1, 10, 60])
def tell_operator(signup_id: str, email: str, error: str) -> None:
    send_mail(f"notice-{signup_id}", "operator@shop.example", f"No mail for {email}", error)


def send_mail(id: str, to: str, subject: str, text: str) -> None:
    mail = EmailMessage()
    # The same mail has the same id: the copy that a crash may cause can be told from a new one.
    mail["Message-ID"] = f"<{id}@shop.example>"
    mail["From"], mail["To"], mail["Subject"] = "hello@shop.example", to, subject
    mail.set_content(text)
    with SMTP("127.0.0.1", int(os.environ["SAMPLE_SMTP_PORT"])) as server:
        server.send_message(mail)


@task
def build_report(ctx: JobContext, report_id: str) -> None:
    """Add up the columns of an uploaded CSV file, slowly; it can be cancelled on the way."""
    report = records.run("SELECT * FROM reports WHERE id = :id", id=report_id)[0]
    rows, sums = list(csv.DictReader(io.StringIO(report["csv"]))), dict[str, float]()
    for row in rows:
        ctx.check()
        time.sleep(0.05)
        for column, value in row.items():
            if value and value.replace(".", "", 1).isdecimal():
                sums[column] = sums.get(column, 0) + float(value)
    result = json.dumps({"rows": len(rows), "sums": sums})
    # One statement: the report is there as a whole, or not at all.
    records.run("UPDATE reports SET result = :result WHERE id = :id", id=report_id, result=result)


@task(max_attempts=10, backoff=[0.2, 0.5, 1], retry_on=[httpx.HTTPError], timeout=5)
async def call_hook(hook_id: str, text: str) -> None:
    """Tell another system; by the key it sees that a second call is the same one."""
    url = f"http://127.0.0.1:{os.environ['SAMPLE_PORT']}/partner"
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, data={"text": text}, headers={"Idempotency-Key": hook_id})
    answer.raise_for_status()
