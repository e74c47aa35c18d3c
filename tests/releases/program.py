"""A program that runs a runner of whatever release it finds, and is told what to do.

What lives here: only what every release has. What does not: the functions it runs, which are the
`shop` beside it. Started by `tests/crash/test_releases.py`.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import shop  # type: ignore[import-not-found]  # the test writes it
import structlog

import embedded_tasks

ROOT = Path(embedded_tasks.__file__).parents[1]


def say(**fields: Any) -> None:
    os.write(1, json.dumps(fields, default=str).encode() + b"\n")


async def orders() -> AsyncIterator[dict[str, Any]]:
    text = b""
    while data := await asyncio.to_thread(os.read, 0, 65536):
        *lines, text = (text + data).split(b"\n")
        for order in map(json.loads, lines):
            if order["do"] == "stop":
                return
            yield order


async def obey(runner: embedded_tasks.TaskRunner, order: dict[str, Any]) -> Any:
    match order["do"]:
        case "enqueue":
            adder = runner.options(**order.get("options", {}))
            function = getattr(shop, order["task"])
            return [
                (await adder.enqueue(function, key, *order["args"])).id for key in order["keys"]
            ]
        case "counts":
            return {str(state): n for state, n in (await runner.counts()).items() if n}
        case "job":
            record = await runner.fetch(order["id"])
            return {"task": record.task, "state": record.state, "reason": record.reason}
        case _:
            return {"root": str(ROOT)}


def keep_logs() -> None:
    lines = Path(f"{os.environ['CRASH_LINES']}.{os.getpid()}").open("a", buffering=1)  # noqa: SIM115  # closed at exit
    atexit.register(lines.close)
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.WriteLoggerFactory(lines),
    )


async def main(mode: str) -> None:
    keep_logs()
    runner = embedded_tasks.TaskRunner(os.environ["CRASH_FILE"], modules=["shop"], concurrency=4)
    async with runner.open(run_jobs=mode == "run"):
        say(ready=os.getpid())
        async for order in orders():
            try:
                say(token=order["token"], value=await obey(runner, order))
            except Exception as error:  # noqa: BLE001  # told to the test
                say(token=order["token"], error=repr(error))


def check() -> int:
    """What a program does that is run before a deploy, with the new code."""
    runner = embedded_tasks.TaskRunner(os.environ["CRASH_FILE"], modules=["shop"])
    report = embedded_tasks.check(runner)
    print(report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    if sys.argv[1] == "check":
        raise SystemExit(check())
    asyncio.run(main(sys.argv[1]))
