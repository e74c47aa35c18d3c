"""Finding jobs: every filter alone and together, page by page, also among very many.

What lives here: `JobFilter` against a store. What does not: doors. Called by pytest, for a file and
for memory.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedded_tasks.errors import ConfigurationError
from embedded_tasks.job import AttemptError, Failed, Held, RetryLater, Succeeded
from embedded_tasks.store import JobFilter, Store, listing
from tests.support.jobs import ME, NOW, claimed_job, job_id, new_job, running_job, settled

pytestmark = pytest.mark.anyio

ERROR = AttemptError("ValueError", "Kaputt: 7", "Traceback", "shop:send")
OTHER_ERROR = AttemptError("KeyError", "gone", "Traceback", "shop:send")


async def fill(store: Store) -> None:
    """Store one job of each state, numbered from 1, and what stands beside some of them."""
    await store.insert([new_job(1), new_job(2, due_at=NOW + 60)])
    await store.insert([running_job(number) for number in range(3, 8)])
    await store.settle(
        [
            settled(claimed_job(4), Succeeded("null")),
            settled(claimed_job(5), Failed("ValueError: Kaputt: 7", ERROR)),
            settled(claimed_job(6), RetryLater(5.0, OTHER_ERROR)),
            settled(claimed_job(7), Held("why", "crash")),
        ]
    )
    await store.insert(
        [
            new_job(8, task="shop:rare", queue="mail", tags=json.dumps(["a", "b"])),
            new_job(9, belongs_to="ada", args='[1,["Stra\\u00dfe"],{}]', created_at=NOW + 100),
        ]
    )
    await store.cancel(job_id(1), "no more", NOW + 5)


async def numbers(store: Store, **wanted: Any) -> list[int]:
    page = await store.views.page(JobFilter(**wanted), NOW + 1)
    return [int(job.id[-4:], 16) for job in page.jobs]


CASES: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [9, 8, 7, 6, 5, 4, 3, 2, 1]),
    ({"state": "queued"}, [9, 8]),
    ({"state": "scheduled"}, [2]),
    ({"state": "retrying"}, [6]),
    ({"state": "running"}, [3]),
    ({"state": "succeeded"}, [4]),
    ({"state": "failed"}, [5]),
    ({"state": "cancelled"}, [1]),
    ({"state": "held"}, [7]),
    ({"state": ["failed", "held", "cancelled"]}, [7, 5, 1]),
    ({"task": "shop:rare"}, [8]),
    ({"task": "shop:none"}, []),
    ({"queue": "mail"}, [8]),
    ({"tag": "b"}, [8]),
    ({"belongs_to": "ada"}, [9]),
    ({"created_after": NOW + 50}, [9]),
    ({"created_before": NOW}, []),
    ({"created_after": NOW, "created_before": NOW + 1}, [8, 7, 6, 5, 4, 3, 2, 1]),
    ({"finished_after": NOW + 4}, [1]),
    ({"finished_before": NOW + 4}, [5, 4]),
    ({"error": "kaputt"}, [5]),
    ({"error": "no MORE"}, [1]),
    ({"argument": "Straße"}, [9]),
    ({"text": "kaputt"}, [5]),
    ({"argument": "kaputt"}, []),
    ({"queue": "default", "state": "queued"}, [9]),
    ({"queue": "mail", "task": "shop:rare", "tag": "a", "state": "queued"}, [8]),
    ({"queue": "mail", "tag": "c"}, []),
    ({"state": "failed", "finished_before": NOW - 60}, []),
    ({"before": 5, "state": ["cancelled", "succeeded"]}, [4, 1]),
]


@pytest.mark.parametrize(("wanted", "found"), CASES, ids=[str(case[0]) for case in CASES])
async def test_a_filter_finds_what_it_means(
    store: Store, wanted: dict[str, Any], found: list[int]
) -> None:
    await fill(store)
    assert await numbers(store, **wanted) == found


async def test_jobs_are_found_by_the_kind_of_their_latest_failure(store: Store) -> None:
    await fill(store)
    groups = {group.error_type: group for group in await store.views.groups(10, None)}
    assert groups.keys() == {"ValueError", "KeyError"}
    assert await numbers(store, group=groups["ValueError"].id) == [5]
    assert await numbers(store, group=groups["KeyError"].id, state="retrying") == [6]
    assert groups["ValueError"].failed.value == 1
    assert groups["KeyError"].failed.value == 0


async def test_pages_follow_each_other_without_a_gap(store: Store) -> None:
    await store.insert([new_job(number) for number in range(1, 26)])
    found: list[int] = []
    before = None
    while True:
        page = await store.views.page(JobFilter(limit=10, before=before), NOW)
        found += [int(job.id[-4:], 16) for job in page.jobs]
        before = page.next
        if before is None:
            break
    assert found == list(range(25, 0, -1))


async def test_a_search_stops_after_so_many_rows_and_goes_on_from_there(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SEARCH_DEPTH", 10)
    await store.insert([new_job(1, args='["needle"]', created_at=NOW - 7)])
    await store.insert([new_job(number) for number in range(2, 26)])
    wanted = JobFilter(argument="needle")
    page = await store.views.page(wanted, NOW)
    assert (page.jobs, page.stopped, page.next) == ([], True, 16)
    assert page.read_back_to == NOW
    page = await store.views.page(JobFilter(argument="needle", before=16), NOW)
    assert (page.jobs, page.stopped, page.next) == ([], True, 6)
    page = await store.views.page(JobFilter(argument="needle", before=6), NOW)
    assert [job.id for job in page.jobs] == [job_id(1)]
    assert not page.stopped
    assert page.next is None


async def test_a_rare_job_is_found_among_more_than_may_be_looked_at(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each index is walked from its own side; none of these looks at the many."""
    monkeypatch.setattr(listing, "DEPTH", 10)
    monkeypatch.setattr(listing, "_SORTABLE", 10)
    await fill(store)
    await store.insert([new_job(number) for number in range(20, 60)])
    await store.insert([running_job(number) for number in range(60, 90)])
    for wanted, found in CASES:
        alone = len(wanted) == 1 and not wanted.keys() & {
            "error",
            "argument",
            "text",
            "created_after",
        }
        if alone and wanted.get("state") not in ("queued", "running") and len(found) == 1:
            assert await numbers(store, **wanted) == found, wanted
    assert await numbers(store, task="shop:rare", state="queued", queue="mail") == [8]


async def test_a_count_stops_at_its_cap(store: Store) -> None:
    await store.insert([new_job(number) for number in range(1, 8)])
    assert str(await store.views.count(JobFilter(), NOW, 5)) == "5+"
    assert str(await store.views.count(JobFilter(), NOW, 7)) == "7"
    assert str(await store.views.count(JobFilter(before=3, limit=1), NOW, 9)) == "7"


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "lost"},
        {"state": ["failed", "lost"]},
        {"created_after": float("nan")},
        {"finished_before": float("inf")},
        {"tag": ""},
        {"text": "x" * 501},
    ],
)
def test_a_filter_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="JobFilter"):
        JobFilter(**wrong)


def test_a_filter_says_itself_in_words() -> None:
    wanted = JobFilter(state=["failed", "held"], task="shop:send", limit=7)
    assert wanted.in_words() == "state=failed,held task=shop:send"
    assert JobFilter().in_words() == "all jobs"
    assert ME not in wanted.in_words()


@pytest.mark.parametrize(
    "wanted", [{"state": "scheduled"}, {"state": "queued"}, {"queue": "default"}, {}], ids=str
)
async def test_keys_do_not_come_one_by_one(store: Store, wanted: dict[str, Any]) -> None:
    due = [NOW + 60 * (number % 2) for number in range(600)]
    await store.insert([new_job(number, due_at=at) for number, at in enumerate(due, 1)])
    rows = 0

    def counted(_cursor: Any, row: Any) -> Any:
        nonlocal rows
        rows += 1
        return row

    def look(connection: Any) -> int:
        plain, connection.row_factory = connection.row_factory, counted
        try:
            found = listing.find(connection, JobFilter(**wanted, limit=200), NOW + 1)
        finally:
            connection.row_factory = plain
        return len(found.keys)

    # Each of them would have the reader's thread wait for the interpreter.
    assert await store.read.run(look) == 200
    assert rows <= 8
