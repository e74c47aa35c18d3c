"""The dashboard's points name tests; each of them is there.

What lives here: every `file::test` of the page, looked for in the file. What does not: whether it
shows what the page says. Called by pytest.
"""

from __future__ import annotations

import re

import pytest

from tests.docs.test_guarantees import ROOT, functions

TEXT = (ROOT / "docs" / "development" / "dashboard.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))
WITHOUT = {20, 31}
"""Points that this dashboard does not claim."""


@pytest.mark.parametrize(("file", "name"), NAMED, ids=str)
def test_a_test_that_a_point_names_is_there(file: str, name: str) -> None:
    assert name in functions(ROOT / file)


def test_every_point_names_a_test() -> None:
    rows = dict(re.findall(r"^\| (\d+) \|(.+)$", TEXT, re.MULTILINE))
    assert sorted(map(int, rows)) == list(range(1, 33))
    assert {int(number) for number, row in rows.items() if "::test_" not in row} == WITHOUT
