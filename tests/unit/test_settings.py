"""The runner's own settings: what may be given, and what holds when it is not.

What lives here: `embedded_tasks/settings.py`. What does not: a task's policy (`test_config.py`).
Called by pytest.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from embedded_tasks.config import Retention
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.settings import RunnerOptions, Settings, always_decodes, in_test_mode


def settings(**options: Any) -> Settings:
    return Settings.of("tasks.db", cast(RunnerOptions, options))


def test_the_defaults_are_those_that_are_documented() -> None:
    assert settings() == Settings(path="tasks.db")


def test_sync_slots_are_as_many_as_the_async_ones_unless_told() -> None:
    assert settings(concurrency=3).sync_concurrency == 3
    assert settings(concurrency=3, sync_concurrency=7).sync_concurrency == 7
    assert settings(concurrency=0).sync_concurrency == 0


GOOD: list[tuple[str, Any, Any]] = [
    ("concurrency", 0, 0),
    ("concurrency", 10_000, 10_000),
    ("sync_concurrency", 1, 1),
    ("modules", ["shop"], ("shop",)),
    ("retention", Retention(failed=1), Retention(failed=1)),
    ("shutdown_grace", timedelta(seconds=9), 9.0),
    ("cancel_patience", 0, 0.0),
    ("child_memory_limit", None, None),
    ("child_memory_limit", 2**27, 2**27),
    ("child_max_jobs", 1, 1),
    ("child_max_jobs", None, None),
    ("max_stuck", 0, 0),
    ("store_wait", 0.25, 0.25),
    ("loop_block_warning", timedelta(seconds=2), 2.0),
    ("loop_block_warning", None, None),
    ("max_payload_bytes", 64, 64),
    ("max_queued", 7, {"*": 7}),
    ("synchronous", "NORMAL", "NORMAL"),
    ("journal_mode", "DELETE", "DELETE"),
    ("environment", "production", "production"),
    ("log_successes", True, True),
    ("observers", [print], (print,)),
    ("secrets", ["iban"], ("iban",)),
]
BAD: list[tuple[str, Any]] = [
    ("concurrency", -1),
    ("concurrency", 10_001),
    ("concurrency", 2.5),
    ("concurrency", True),
    ("concurrency", None),
    ("sync_concurrency", "many"),
    ("shutdown_grace", -1),
    ("loop_block_warning", 0),
    ("loop_block_warning", "long"),
    ("cancel_patience", "long"),
    ("child_memory_limit", 2**27 - 1),
    ("child_memory_limit", True),
    ("child_max_jobs", 0),
    ("child_max_jobs", 1.5),
    ("max_stuck", -1),
    ("max_stuck", None),
    ("store_wait", float("nan")),
    ("max_payload_bytes", 63),
    ("max_payload_bytes", 2**29 + 1),
    ("max_payload_bytes", True),
    ("synchronous", "full"),
    ("journal_mode", "MEMORY"),
    ("modules", "shop"),
    ("modules", None),
    ("retention", 3600),
    ("environment", ""),
    ("environment", 7),
    ("environment", "x" * 101),
    ("observers", print),
    ("secrets", 7),
    ("secrets", None),
    ("secrets", "iban"),
    ("observers", ["print"]),
]


@pytest.mark.parametrize(("name", "given", "kept"), GOOD)
def test_an_option_is_checked_and_kept(name: str, given: Any, kept: Any) -> None:
    assert getattr(settings(**{name: given}), name) == kept


@pytest.mark.parametrize(("name", "given"), BAD)
def test_an_option_that_can_never_work_is_refused_by_its_name(name: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}=.*expected"):
        settings(**{name: given})


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no option workers; known are cancel_patience"):
        settings(workers=4)


def test_every_option_has_a_setting_and_is_tested() -> None:
    names = set(RunnerOptions.__annotations__)
    assert set(Settings.__dataclass_fields__) == names | {"path"}
    assert {name for name, *_ in GOOD} == names


def test_a_path_may_be_a_path() -> None:
    assert Settings.of(Path("a") / "tasks.db", {}).path == "a/tasks.db"


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="expected the path of a file"):
        Settings.of(path, {})


@pytest.mark.parametrize(
    ("value", "wanted"), [("1", True), ("yes", True), ("0", False), ("", False)]
)
def test_the_environment_switches_test_mode_and_decoding(
    monkeypatch: pytest.MonkeyPatch, value: str, wanted: bool
) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", value)
    monkeypatch.setenv("EMBEDDED_TASKS_ALWAYS_DECODE", value)
    assert in_test_mode() is always_decodes() is wanted


def test_without_the_environment_nothing_is_switched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDDED_TASKS_TESTING", raising=False)
    monkeypatch.delenv("EMBEDDED_TASKS_ALWAYS_DECODE", raising=False)
    assert not in_test_mode()
    assert not always_decodes()
