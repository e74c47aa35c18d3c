"""A shop's tasks, as an operator meets them: some work, some fail, one is slow.

What lives here: tasks. What does not: their runner (`site.py`). Used by the tests of this folder.
"""

from __future__ import annotations

import asyncio
import threading

from embedded_tasks import JobContext, task

__all__ = [
    "BEGUN", "GO", "RELAY", "build_report", "charge", "charge_once", "import_ledger", "purge",
    "send_invoice", "sync_crm", "wait_for_ledger",
]  # fmt: skip

RELAY = {"up": False}
"""Whether mails can be sent."""
GO = threading.Event()
"""Reports go on when this is set."""
BEGUN = threading.Semaphore(0)
"""Released by each job that then waits for that."""


class SmtpError(OSError):
    """A mail relay said no."""


@task(name="mail.send_invoice", max_attempts=2, backoff=[0.01], retry_on=[SmtpError])
async def send_invoice(ctx: JobContext, invoice_id: int, to: str) -> dict[str, object]:
    """Mail an invoice to a customer."""
    ctx.log("connecting", host="mail.example.com")
    if not RELAY["up"] and invoice_id % 7 == 0:
        ctx.log("the relay refuses", level="error", code=421)
        raise SmtpError(f"421 mail.example.com is too busy for invoice {invoice_id}")
    ctx.log("sent", receiver=to)
    return {"message_id": f"<{invoice_id}@shop.example>"}


@task(name="billing.charge")
async def charge(order_id: int, cents: int, api_key: str) -> None:
    """Charge a customer's card."""
    if order_id % 5 == 0:
        raise ValueError(f"card of order {order_id} was declined with {api_key}")
    await asyncio.sleep(0)


@task(name="reports.build")
def build_report(ctx: JobContext, month: str, rows: int) -> int:
    """Add up a month, slowly."""
    for row in range(rows):
        ctx.progress(row, rows, f"row {row} of {month}")
        if row == rows * 3 // 5:
            ctx.log("waiting for the ledger", month=month)
            while not GO.wait(0.02):
                ctx.check()
    return rows


@task(name="crm.sync")
async def sync_crm(user_id: int) -> None:
    """Tell the CRM of a user."""
    await asyncio.sleep(0.001 * (user_id % 9))


@task(name="files.purge")
def purge(folder: str) -> int:
    """Remove what nobody needs."""
    return len(folder)


@task(name="billing.charge_once", on_crash="hold")
def charge_once(ctx: JobContext, order_id: int) -> None:
    """Charge a card, which must not happen twice."""
    BEGUN.release()
    while not GO.wait(0.02):
        ctx.check()


@task(name="reports.wait")
def wait_for_ledger(ctx: JobContext, month: str) -> None:
    """Wait until a month is closed; again, if need be."""
    BEGUN.release()
    while not GO.wait(0.02):
        ctx.check()


@task(name="ledger.import")
def import_ledger(lines: int) -> None:
    """Read a ledger, and tell at length of what is wrong with it."""
    raise ValueError("\n".join(f"<b>line {line}</b> has no account" for line in range(lines)))
