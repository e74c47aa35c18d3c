"""The parts that pages are made of, each by itself.

What lives here: the filter language, numbers in words, charts, vendored files. What does not:
pages. Run by pytest.
"""

from __future__ import annotations

import json
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends

from embedded_tasks import admin
from embedded_tasks.admin.dashboard import assets
from embedded_tasks.admin.dashboard.drawing import counted, timed
from embedded_tasks.admin.dashboard.search import quoted, search_of
from embedded_tasks.admin.dashboard.words import ago, percent, size, span
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.reported import Bucket, Metric, Series
from tests.web.dashboard.site import app_with, everybody, new_runner, serve

NOW = 1_900_000_000.0
VENDORED = [
    Path(assets.__file__).with_name("static") / "vendor",
    Path(__file__).with_name("vendor"),
]


def meant(text: str) -> dict[str, Any]:
    query = search_of(text, NOW).query
    assert query is not None
    return query.model_dump(mode="json", exclude_unset=True, exclude={"limit", "cursor"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("state:failed", {"state": ["failed"]}),
        ("state:failed,held state:expired", {"state": ["failed", "held", "expired"]}),
        ("task:shop:send queue:mail", {"task": "shop:send", "queue": "mail"}),
        ('tag:"big deal" arg:"say \\"hi\\""', {"tag": "big deal", "argument": 'say "hi"'}),
        ("no route to postgres", {"text": "no route to postgres"}),
        ("after:1h", {"created_after": "2030-03-17T16:46:40Z"}),
        ("before:2030-01-31", {"created_before": "2030-01-31T00:00:00Z"}),
        ("error:421 group:ab owner:ann", {"error": "421", "group": "ab", "owner": "ann"}),
        ("shop:send", {"text": "shop:send"}),
    ],
)
def test_what_is_written_is_what_is_meant(text: str, expected: dict[str, Any]) -> None:
    assert meant(text) == expected


@pytest.mark.parametrize(
    "text", ["state:broken", "after:soon", "before:2030-99-01", "queue:a queue:b", "tag:\x00"]
)
def test_what_means_nothing_finds_nothing_and_says_why(text: str) -> None:
    found = search_of(text, NOW)
    assert found.query is None
    assert found.problem


def test_a_filter_that_is_none_is_searched_for_as_text_and_said_to_be() -> None:
    found = search_of("stat:failed", NOW)
    assert found.hint is not None
    assert "stat:" in found.hint


def test_a_term_is_taken_out_and_a_state_put_in_place_of_another() -> None:
    found = search_of('state:failed tag:"a b" x', NOW)
    assert found.without(found.terms[1]) == "state:failed x"
    assert found.with_state("held") == 'state:held tag:"a b" x'
    assert found.with_state(None) == 'tag:"a b" x'


@pytest.mark.parametrize("value", ["mail", "two words", 'a"b', "back\\slash", ""])
def test_what_is_quoted_is_read_back(value: str) -> None:
    terms = search_of(f"tag:{quoted(value)}", NOW).terms
    assert [term.value for term in terms] == [value]


def test_lengths_of_time_and_sizes_are_in_words() -> None:
    assert [span(each) for each in (None, 0.0124, 4.24, 42, 90, 3_900, 100_000)] == [
        "\N{EN DASH}", "12 ms", "4.2 s", "42 s", "1 min 30 s", "1 h 5 min", "1 d 3 h",
    ]  # fmt: skip
    assert [ago(NOW - each, NOW) for each in (1, 59, 3_599, -7_190)] == [
        "now", "59 s ago", "59 min ago", "in 2 h",
    ]  # fmt: skip
    assert [size(each) for each in (None, 12, 4_096, 123_456_789)] == [
        "not known", "12 B", "4.1 KB", "123 MB",
    ]  # fmt: skip
    assert [percent(each) for each in (1.0, 0.999, 0.5, 0.001, 0.0)] == [
        "100 %", "99+ %", "50 %", "< 1 %", "0 %",
    ]  # fmt: skip


def test_bars_stay_inside_their_chart_and_what_is_little_is_seen() -> None:
    buckets = [Bucket(NOW + 60 * n, n * 1_000) for n in range(5)] + [Bucket(NOW + 300, 1)]
    chart = counted("Throughput", Series(Metric.THROUGHPUT, 60, buckets), "plain", "attempts")
    assert len(chart.bars) == 5
    assert all(bar.y >= 0 and bar.y + bar.height <= 100.1 and bar.height >= 2 for bar in chart.bars)
    assert chart.words == "Throughput: 10,001 attempts, at most 4,000 in 1 min."
    waits = [Bucket(NOW, 3, 0.1, 0.4), Bucket(NOW + 60)]
    drawn = timed("Queue wait", Series(Metric.QUEUE_WAIT, 60, waits), "plain", "waits")
    assert (drawn.bars[0].inner_height, drawn.bars[0].height) == (25.0, 100.0)
    empty = timed("Queue wait", Series(Metric.QUEUE_WAIT, 60, []), "plain", "waits")
    assert (empty.bars, empty.words) == ([], "Queue wait: no waits yet.")


@pytest.mark.parametrize("vendor", VENDORED, ids=["package", "tests"])
def test_what_is_vendored_is_what_the_manifest_says_with_its_licence(vendor: Path) -> None:
    entries = json.loads(vendor.joinpath("vendor.json").read_text())
    for each in entries:
        assert sha256(vendor.joinpath(each["file"]).read_bytes()).hexdigest() == each["sha256"]
        assert each["licence"]
        assert vendor.joinpath(each["licence_file"]).stat().st_size > 100
        assert each["version"] in each["file"]
        assert each["source"].startswith("https://")
    named = {each["file"] for each in entries} | {each["licence_file"] for each in entries}
    assert {path.name for path in vendor.iterdir()} == named | {"vendor.json"}


def test_templates_are_read_when_the_app_is_made_and_not_by_who_looks_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = new_runner(tmp_path)
    admin.router(runner, dependencies=[Depends(everybody)])

    def refuse(*_: object) -> None:
        raise AssertionError("a template is compiled")

    monkeypatch.setattr("jinja2.Environment.compile", refuse)
    app = app_with(runner)
    with serve(runner, app) as site:
        for path in ("", "/jobs", "/errors", "/queues", "/tasks", "/durability", "/audit"):
            assert httpx.get(f"{site.url}{path or '/'}").status_code == 200, path


def test_without_jinja_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        if name == "jinja2":
            raise ModuleNotFoundError(name)
        return import_module(name)

    monkeypatch.setattr("importlib.import_module", missing)
    guards = [Depends(everybody)]
    with pytest.raises(ConfigurationError) as caught:
        admin.router(new_runner(tmp_path), dependencies=guards)
    assert 'pip install "embedded-tasks[dashboard]"' in str(caught.value)
    assert admin.router(new_runner(tmp_path), dependencies=guards, dashboard=False).routes
