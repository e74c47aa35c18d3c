"""Workers forked from the test run, which has imported everything already: half a second each.

What lives here: a fork that is made to look like a program of its own. What does not: what the
worker does. Called by `harness.py`; servers and scripts are started as programs.
"""

from __future__ import annotations

import asyncio
import faulthandler
import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from typing import NoReturn

from tests.crash.worker import main

__all__ = ["Forked"]


class Forked:
    """A forked worker, with the part of `subprocess.Popen` that the harness needs.

    Args:
        mode: "run" or "enqueue".
        environment: All of its environment.
        errors: The descriptor for what it writes to stderr.
    """

    def __init__(self, mode: str, environment: dict[str, str], errors: int) -> None:
        read_orders, write_orders = os.pipe()
        read_replies, write_replies = os.pipe()
        sys.stdout.flush()
        with warnings.catch_warnings(action="ignore"):  # of threads: pytest's watchdog is one
            self.pid = os.fork()
        if self.pid == 0:
            _become(mode, environment, (read_orders, write_replies, errors))
        os.close(read_orders)
        os.close(write_replies)
        self.args = mode
        self.returncode: int | None = None
        self.stdin = io.FileIO(write_orders, "w")
        self.stdout = io.FileIO(read_replies)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.001)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _become(mode: str, environment: dict[str, str], streams: tuple[int, ...]) -> NoReturn:
    """Forget the test run, and be the worker until its end."""
    code = 1
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(len(streams), 1024)
        _forget_pytest()
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:0] = environment["PYTHONPATH"].split(":")
        main(mode)
        code = 0
    except BaseException:  # noqa: BLE001  # as the interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _forget_pytest() -> None:
    faulthandler.disable()  # it would write to a number that is another file's by now
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    sys.stdin = sys.stdout = io.StringIO()
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115  # until the end
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    logging.root.handlers.clear()
    warnings.resetwarnings()
    warnings.simplefilter("error")
    asyncio.set_event_loop(None)
