"""What is known of a death, where people look for it: the job's page, the status routes, the log.

What lives here: real deaths of a real server. What does not: what is found out (`test_blame.py`,
`test_out_of_memory.py`).
"""

from __future__ import annotations

import html
import http.client
import re
from contextlib import closing, suppress

import pytest

from tests.crash.harness import LIMIT, Place, Server, wait_until


def page(server: Server, path: str) -> str:
    """Return the text of a page as a person reads it."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=LIMIT)) as client:
        client.request("GET", path, headers={"accept": "text/html"})
        response = client.getresponse()
        text = response.read().decode()
        assert response.status == 200, text
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.mark.parametrize(
    ("how", "words", "stack"),
    [
        ("abort", "killed by SIGABRT", "in abort"),
        ("kill", "killed by SIGKILL", None),
    ],
)
def test_a_death_is_told_on_the_page_in_the_routes_and_in_the_log(
    place: Place, how: str, words: str, stack: str | None
) -> None:
    app = "tests.crash.admin_app:app"
    doomed, other = place.server(app=app), place.server(app=app, concurrency=0)
    doomed.ready()
    beside = doomed.post("/stay/beside")
    place.wait_for("started", ["beside"])
    other.ready()
    # Nobody asks for its end, so that the system can still be asked how it ended.
    with suppress(http.client.HTTPException, OSError):
        doomed.post(f"/{how}/poison")
    wait_until(lambda: place.lines("process.recovered", other.pid), "the sibling has seen it")

    found = other.get(f"/tasks/api/v1/jobs/{beside}")
    assert found["state"] == "held"
    (attempt,) = found["attempts"]
    assert attempt["outcome"] == "crashed"
    error = attempt["error"]
    print(f"\n{error['message']}")
    assert error["type"] == "ProcessDied"
    assert error["message"].startswith(f"Its process (pid {doomed.pid}) died while it ran, with 1 ")
    assert words in error["message"]
    assert re.search(r"(died|found dead) at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", error["message"])
    assert stack is None or stack in error["traceback"]

    shown = page(other, f"/tasks/jobs/{beside}")
    assert error["message"] in shown
    assert stack is None or stack in shown

    lines = place.lines("job.crashed", other.pid)
    assert {line["job_id"] for line in lines} >= {beside}
    assert all(words in line["reason"] for line in lines)
    other.kill()
