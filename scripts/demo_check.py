"""The sample app's story, which checks itself: work, SIGKILL in the middle of it, start again.

What lives here: what is done, what must have come of it, and the figures. What does not: the
processes (`sample_process.py`). Called by `scripts/demo --check` and by a test.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from mailbox import Maildir
from pathlib import Path
from urllib.parse import urlencode

import structlog

from embedded_tasks import TaskRunner
from scripts.mail_server import REFUSED, mail_server
from scripts.sample_process import SampleApp, free_port

__all__ = ["check"]

_SIGN_UPS = 240
_HOOKS = 3
_ROWS = 60
_LONGEST_WAIT = 40.0
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class LostError(Exception):
    """Something that was accepted was not done; the text says what."""


@dataclass
class Client:
    """A user of the app, who remembers what it has accepted."""

    port: int
    accepted: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> bool:
        """Return whether the app accepted it; without an answer, nobody knows."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if status != 303:
            raise LostError(f"POST {path} was answered with {status}")
        return True

    def form(self, path: str, **values: str) -> bool:
        """Send a form."""
        return self.post(path, urlencode(values).encode(), _FORM)

    def upload(self, path: str, name: str, text: str) -> bool:
        """Send a file."""
        disposition = f'Content-Disposition: form-data; name="file"; filename="{name}"'
        body = f"--limit\r\n{disposition}\r\n\r\n{text}\r\n--limit--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=limit"}
        return self.post(path, body.encode(), kind)

    def page(self, path: str) -> str:
        """Return a page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def sign_up_many(self, stop: threading.Event) -> None:
        """Send sign-ups, until enough are accepted; go on while the app is away."""
        number = 0
        while len(self.accepted) < _SIGN_UPS and not stop.is_set():
            number += 1
            email = f"member{number}@club.example"
            if self.form("/signups", email=email):
                self.accepted.append(email)
            else:
                self.unanswered.append(email)
                stop.wait(0.05)


class Story:
    """One run of the story, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._output = (folder / "output.txt").open("wb")
        self._server = mail_server(folder / "mail", free_port())
        self._app = SampleApp(folder, free_port(), self._server.port, self._output)
        self._client = Client(self._app.port)
        self._stop = threading.Event()
        self._poster = threading.Thread(target=self._client.sign_up_many, args=(self._stop,))

    def run(self) -> None:
        """Live through it.

        Raises:
            LostError: Something that was accepted was not done.
        """
        self._server.start()
        self._start()
        self._give_work()
        self._kill_after(mails=10)
        self._kill_after(mails=100)
        self._poster.join()
        self._wait_for_the_end()
        self._judge()

    def close(self) -> None:
        """Leave nothing running."""
        self._stop.set()
        if self._poster.is_alive():
            self._poster.join()
        self._app.stop()
        self._server.stop()
        self._output.close()

    def output(self) -> str:
        """Return what the app printed."""
        return (self._folder / "output.txt").read_text(errors="replace")

    def _start(self) -> None:
        begin = time.monotonic()
        self._app.start()
        recovered = re.findall(r"recovered=(\d+)", self.output())
        took = time.monotonic() - begin
        say(f"The app is up after {took:.1f} s, as process {self._app.pid}: ", end="")
        say(f"{recovered[-1] if recovered else 'no'} jobs of a dead process go on.")

    def _give_work(self) -> None:
        rows = "".join(f"{number},{number / 2}\n" for number in range(_ROWS))
        accepted = [
            self._client.upload("/reports", "orders.csv", "order,price\n" + rows),
            self._client.form("/signups", email=f"somebody{REFUSED}"),
            *(self._client.form("/hooks", text=f"order {n} was sent") for n in range(_HOOKS)),
        ]
        if not all(accepted):
            raise LostError("the app did not answer before anything was done to it")
        self._poster.start()
        say(
            f"It gets a CSV file of {_ROWS} rows, {_HOOKS} web-hooks, a sign-up that no mail server"
        )
        say(f"takes, and then {_SIGN_UPS} sign-ups, one after the other.")

    def _kill_after(self, mails: int) -> None:
        wait_until(lambda: len(self._mails()) >= mails, f"{mails} mails to arrive")
        self._app.kill()
        accepted, delivered = len(self._client.accepted), len(self._mails())
        say(f"SIGKILL, with {accepted} sign-ups accepted and {delivered} mails delivered.")
        self._start()

    def _wait_for_the_end(self) -> None:
        path = self._folder / "tasks.db"
        begin = time.monotonic()
        counts = asyncio.run(counts_when_idle(path))
        say(f"All jobs have ended {time.monotonic() - begin:.1f} s later: ", end="")
        say(", ".join(f"{number} {state}" for state, number in counts.items() if number) + ".")
        if counts.get("failed") != 1:
            raise LostError("one job was to fail, the mail to nobody")

    def _judge(self) -> None:
        """Compare what came of it with what was accepted."""
        self._judge_mails()
        page = self._client.page("/results")
        total = f"order: {sum(range(_ROWS))}"
        if f"{_ROWS} rows" not in page or total not in page:
            raise LostError(f"the report is not complete: there is no {_ROWS} rows, {total}")
        say(f"  Report:    complete, {_ROWS} rows, {total}.")
        taken = page.count(">taken<")
        if taken != _HOOKS:
            raise LostError(f"the partner has taken {taken} of {_HOOKS} web-hooks")
        say(f"  Web-hooks: {taken} of {_HOOKS} taken, each after it was refused twice.")

    def _judge_mails(self) -> None:
        sent = Counter(self._mails())
        accepted, unanswered = self._client.accepted, len(self._client.unanswered)
        lost = [email for email in accepted if not sent[email]]
        if lost:
            raise LostError(f"{len(lost)} accepted sign-ups got no mail, such as {lost[0]}")
        say(f"  Sign-ups:  {len(accepted)} accepted, {len(accepted)} got their mail; ", end="")
        say(f"{unanswered} got no answer, as the app was dead.")
        twice = sum(number - 1 for number in sent.values())
        say(f"  Mails:     {twice} came twice, under way at a SIGKILL; a copy has the same id.")
        if not sent["operator@shop.example"]:
            raise LostError("nobody told the operator of the sign-up that got no mail")
        say("  Operator:  told of the one sign-up that no mail server takes.")

    def _mails(self) -> list[str]:
        return [str(mail["To"]) for mail in Maildir(self._folder / "mail")]


async def counts_when_idle(path: Path) -> dict[str, int]:
    """Look at the jobs from outside, as a script beside the app can, until none is left to do."""
    async with TaskRunner(path) as runner:
        deadline = time.monotonic() + _LONGEST_WAIT
        while True:
            counts = {str(state): number for state, number in (await runner.counts()).items()}
            if not counts.get("queued") and not counts.get("running"):
                return counts
            if time.monotonic() > deadline:
                raise LostError(f"after {_LONGEST_WAIT:g} s there are still {counts}")
            await asyncio.sleep(0.05)


def wait_until(done: Callable[[], bool], what: str) -> None:
    """Wait for something that has to come.

    Raises:
        LostError: It has not come.
    """
    deadline = time.monotonic() + _LONGEST_WAIT
    while not done():
        if time.monotonic() > deadline:
            raise LostError(f"waited for {_LONGEST_WAIT:g} s for {what}")
        time.sleep(0.01)


def say(text: str, end: str = "\n") -> None:
    """Tell the story, as it happens."""
    print(text, end=end, flush=True)


def check() -> int:
    """Run the story in a temporary folder; return the exit code."""
    begin = time.monotonic()
    # The runner's own messages would stand between the lines of the story.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="embedded-tasks-demo-") as folder:
        story = Story(Path(folder))
        try:
            story.run()
        except (LostError, RuntimeError) as error:
            say(f"\nFAILED: {error}\n\nThe last that the app said:\n{story.output()[-3000:]}")
            return 1
        finally:
            story.close()
    say(f"\nNothing was lost. ({time.monotonic() - begin:.1f} s)")
    return 0
