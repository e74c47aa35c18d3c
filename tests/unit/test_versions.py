"""A task's version: in the name of its stored jobs, and in what becomes of earlier ones.

What lives here: `versions.py`, `upgrading.py`, and how an attempt uses them. What does not: two
releases on one file (`tests/crash/test_releases.py`).
"""

from __future__ import annotations

from typing import Any

import pytest

from embedded_tasks import task
from embedded_tasks.errors import ConfigurationError, PayloadError, UnknownTaskError
from embedded_tasks.references import References
from embedded_tasks.store import JobFilter
from embedded_tasks.task import Catalogue, Task
from embedded_tasks.upgrading import Versions
from embedded_tasks.versions import split_name, stored_name
from tests.support.jobs import job_id, new_job
from tests.support.stores import opened, rows

pytestmark = pytest.mark.anyio

HERE = __name__
SPLIT = {
    "a": ("a", 1),
    "shop:send@2": ("shop:send", 2),
    "shop:send@10": ("shop:send", 10),
    "a@999999": ("a", 999_999),
    "a@1000000": ("a@1000000", 1),
    "a@0": ("a@0", 1),
    "a@02": ("a@02", 1),
    "a@": ("a@", 1),
    "@2": ("@2", 1),
    "a@2@3": ("a@2", 3),
    "mail@x.de": ("mail@x.de", 1),
    "x@2b": ("x@2b", 1),
    "a2": ("a2", 1),
    "é@3": ("é", 3),
}


@pytest.mark.parametrize("stored", SPLIT)
def test_a_stored_name_is_split_into_name_and_version(stored: str) -> None:
    assert split_name(stored) == SPLIT[stored]


@pytest.mark.parametrize("version", [1, 2, 9, 10, 999_999])
def test_a_version_is_stored_in_the_name_and_read_again(version: int) -> None:
    assert split_name(stored_name("shop:send", version)) == ("shop:send", version)


async def test_sql_splits_names_as_python_does() -> None:
    async with opened() as store:
        await store.insert([new_job(n, task=name) for n, name in enumerate(SPLIT, start=1)])
        found = await rows(store, "SELECT name, title, version FROM tasks")
    assert {name: (title, version) for name, title, version in found} == SPLIT


async def test_jobs_are_shown_and_listed_by_the_name_alone() -> None:
    async with opened() as store:
        await store.insert([new_job(1, task="a"), new_job(2, task="a@2"), new_job(3, task="b")])
        page = await store.read.page(JobFilter(task="a"), 0.0)
        record = await store.read.get(job_id(2), 0.0)
    assert [(job.task, job.version) for _, job in page] == [("a", 2), ("a", 1)]
    assert record is not None
    assert (record.task, record.version) == ("a", 2)


# What can be written.


def plain(version: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args, kwargs


async def not_plain(version: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


BAD: list[dict[str, Any]] = [
    {"version": 0},
    {"version": -1},
    {"version": True},
    {"version": 1.5},
    {"version": "2"},
    {"version": 1_000_000},
    {"version": 2, "upgrade": 5},
    {"version": 2, "upgrade": not_plain},
    {"upgrade": plain},
    {"name": "send@2"},
    {"aliases": ("send", "send@2")},
]


@pytest.mark.parametrize("options", BAD, ids=str)
def test_what_could_never_work_is_refused_when_it_is_written(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        task(**options)


# What becomes of the jobs of a version.


@task(name="versioned", version=3, upgrade=plain)
def versioned(a: int, b: str = "") -> None: ...


@task(version=2)
def no_upgrade(a: int) -> None: ...


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(References(modules=["tests"]))


def test_new_jobs_are_stored_under_the_present_version(catalogue: Catalogue) -> None:
    found, _, _ = catalogue.of(versioned, (1,), {})
    assert (found.name, found.stored_name) == ("versioned", "versioned@3")


@pytest.mark.parametrize("stored", ["versioned", "versioned@2", "versioned@3"])
def test_earlier_versions_are_found_where_there_is_an_upgrade(
    catalogue: Catalogue, stored: str
) -> None:
    assert catalogue.find(stored).function is versioned


@pytest.mark.parametrize(
    ("stored", "why"),
    [
        ("versioned@4", "stored by version 4 of the task; this code has version 3"),
        (f"{HERE}:no_upgrade", "stored by version 1 of the task; this code has version 2 and no"),
        (f"{HERE}:no_upgrade@3", "this code has version 2"),
        (f"{HERE}:plain@2", "this code has version 1"),
    ],
)
def test_what_this_code_cannot_run_is_unknown_to_it(
    catalogue: Catalogue, stored: str, why: str
) -> None:
    with pytest.raises(UnknownTaskError, match=why):
        catalogue.find(stored)


def made_with(upgrade: Any) -> Task:
    base = Catalogue(References(modules=["tests"])).find("versioned@3")
    return Task("t", base.function, base.policy, decorated=True, versions=Versions(3, upgrade))


def test_an_upgrade_gets_what_was_stored_and_its_result_is_called() -> None:
    seen = []

    def upgrade(version: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        seen.append((version, args, kwargs))
        return [7], {"b": "x"}

    assert made_with(upgrade).fitted(2, ("old",), {"c": 1}) == ((7,), {"b": "x"})
    assert seen == [(2, ("old",), {"c": 1})]


def test_the_present_version_is_not_upgraded() -> None:
    def upgrade(*_: object) -> Any:
        raise AssertionError

    assert made_with(upgrade).fitted(3, (1,), {}) == ((1,), {})


RETURNS: list[object] = [
    None,
    (),
    ((1,),),
    ((1,), {}, 3),
    (1, {}),
    ((1,), None),
    ((1,), {2: 3}),
    "ab",
]


@pytest.mark.parametrize("result", RETURNS, ids=str)
def test_an_upgrade_that_returns_something_else_holds_the_job(result: object) -> None:
    with pytest.raises(PayloadError, match=r"expected \(args, kwargs\)"):
        made_with(lambda *_: result).fitted(1, (), {})


@pytest.mark.parametrize(
    "result", [((), {}), (("x",), {}), ((1, 2), {}), ((1,), {"z": 1})], ids=str
)
def test_what_an_upgrade_returns_is_checked_as_strictly_as_a_new_job(result: object) -> None:
    with pytest.raises(PayloadError, match="what upgrade= made of"):
        made_with(lambda *_: result).fitted(1, (), {})


def test_an_upgrade_that_raises_holds_the_job_with_the_reason() -> None:
    def upgrade(*_: object) -> Any:
        raise LookupError("no such \udc80customer")

    with pytest.raises(PayloadError, match="LookupError: no such") as failed:
        made_with(upgrade).fitted(2, (), {})
    assert "version 2" in str(failed.value)
    str(failed.value).encode()  # what is stored must be text
