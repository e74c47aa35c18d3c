"""A real SMTP server for the sample app, with its mailbox in a folder.

What lives here: the server, and what it refuses. What does not: sending mail, which the app does
with smtplib. Started by the demo, in a process that `kill -9` of the app leaves alone.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox

__all__ = ["REFUSED", "mail_server"]

REFUSED = "@nobody.example"
"""There is nobody at this domain."""

_SECONDS_PER_MAIL = 0.2


class _PostOffice(Mailbox):
    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, to: str, _: Any) -> str:  # noqa: N802  # the server calls it so
        if to.endswith(REFUSED):
            return "550 There is no such mailbox"
        envelope.rcpt_tos.append(to)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        # It takes its time, as mail servers do: there is something to kill.
        await asyncio.sleep(_SECONDS_PER_MAIL)
        return str(await super().handle_DATA(server, session, envelope))


def mail_server(folder: Path, port: int) -> Controller:
    """Return a server, not started yet, that keeps its mail in `folder` as a maildir."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return Controller(_PostOffice(folder), hostname="127.0.0.1", port=port)
