"""A process of the shop that is killed at work, as a machine's owner or its kernel kills one.

What lives here: the process. What does not: what is seen of its death (`test_deaths.py`). Started
by tests, with the path of a database.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.web.dashboard.shop import BEGUN, charge_once, wait_for_ledger
from tests.web.dashboard.site import new_runner


async def main(folder: Path) -> None:
    runner = new_runner(folder)
    async with runner.open(run_jobs=True):
        print((await runner.enqueue(charge_once, 7)).id)
        print((await runner.enqueue(wait_for_ledger, "2030-01")).id, flush=True)
        for _ in range(2):
            await asyncio.to_thread(BEGUN.acquire)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
