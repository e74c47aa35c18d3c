"""The guarantees name tests; each of them is there.

What lives here: every `file::test` of the page, looked for in the file. What does not: whether it
shows what the page says. Called by pytest.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "guarantees.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())))


def functions(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


@pytest.mark.parametrize(("file", "name"), NAMED, ids=str)
def test_a_test_that_the_guarantees_name_is_there(file: str, name: str) -> None:
    assert name in functions(ROOT / file)


def test_no_test_is_named_in_a_way_that_is_not_looked_for() -> None:
    text = PAGE.read_text()
    assert len(re.findall(r"::", text)) == len(re.findall(r"`tests/[\w/]+\.py::\w+`", text))
    assert len(NAMED) > 100
