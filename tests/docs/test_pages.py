"""What the pages say beside their code is true, too.

What lives here: tables that repeat the code, names of tests, links out of the README, shell blocks.
What does not: Python blocks (test_python_blocks.py); links between pages, which mkdocs checks. Run
by pytest.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from itertools import product
from pathlib import Path

import pytest

from embedded_tasks import errors, logs
from embedded_tasks.events import EventName
from embedded_tasks.job import TRANSITIONS, JobState
from tests.docs.pages import ROOT, blocks_of, page_id, pages

PAGES = pytest.mark.parametrize("page", pages(), ids=page_id)
STATES = ROOT / "docs/reference/states.md"
CITED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
SHELL = ("console", "sh")


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, its head left out."""
    lines = page.partition(f"\n{heading}\n")[2].splitlines()
    table = [line for line in lines if line.startswith(("|", "#"))]
    rows: list[list[str]] = []
    for line in table:
        if line.startswith("#"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows[2:]


def states_in(cell: str) -> list[JobState | None]:
    names = [name.strip(" `") for name in cell.split(",")]
    return [None if name == "none" else JobState(name) for name in names]


def test_the_page_has_every_transition_of_the_code_and_no_other() -> None:
    shown = {
        name.strip("`"): (states_in(before), states_in(after))
        for name, before, after, _ in rows_of(STATES.read_text(), "## Transitions")
    }
    assert set(shown) == set(TRANSITIONS)
    for name, (before, after) in shown.items():
        pairs = TRANSITIONS[name]
        assert {pair[0] for pair in pairs} == set(before), name
        assert {pair[1] for pair in pairs} == set(after), name
        # Where the table has one row for several pairs, all of them must be there.
        assert pairs == set(product(before, after)), name


def test_the_page_has_every_state() -> None:
    shown = [row[0].strip("`") for row in rows_of("\n" + STATES.read_text(), "# States of a job")]
    assert shown == [state.value for state in JobState]


def test_the_logging_page_has_every_event_and_its_level() -> None:
    page = (ROOT / "docs/how-to/logging.md").read_text()
    shown = {
        name: level
        for names, level, _ in rows_of("\n" + page, "# Log with structlog")
        for name in re.findall(r"`([\w.]+)`", names)
    }
    silent = {EventName.STARTED}
    for event in set(EventName) - silent:
        assert shown[event.value] == logs._LEVELS.get(event, "info"), event


def test_the_errors_page_names_errors_that_exist() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text()
    names = re.findall(r"`(\w+(?:Error|Warning))`", page)
    assert names
    assert set(names) <= set(errors.__all__)


@PAGES
def test_the_tests_that_a_page_names_are_there(page: Path) -> None:
    for path, name in CITED.findall(page.read_text()):
        tree = ast.parse((ROOT / path).read_text())
        functions = {getattr(node, "name", None) for node in ast.walk(tree)}
        assert name in functions, f"{path}::{name}"


def test_the_guarantees_name_tests() -> None:
    assert CITED.findall((ROOT / "docs/explanation/guarantees.md").read_text())


@PAGES
def test_shell_blocks_can_be_parsed_and_their_scripts_are_there(page: Path) -> None:
    for block in blocks_of(page.read_text()):
        if block.language not in SHELL:
            continue
        parsed = subprocess.run(
            ["bash", "-n"], input=block.text, capture_output=True, text=True, check=False
        )
        assert (parsed.returncode, parsed.stderr) == (0, ""), f"line {block.line}"
        for script in re.findall(r"\./(scripts/\w+)", block.text):
            assert os.access(ROOT / script, os.X_OK), f"line {block.line}: {script}"


def test_the_links_of_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_first_screen_of_the_readme_says_what_a_crash_does() -> None:
    screen = " ".join("\n".join((ROOT / "README.md").read_text().splitlines()[:12]).split())
    assert "After a crash, a job that had not finished runs again" in screen.replace("> ", "")
    assert "on_crash" in screen


@pytest.mark.parametrize("text", ["```\nx\n```", "<!-- docs: contineu -->\n```python\nx\n```"])
def test_a_block_that_nobody_would_run_is_noticed(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        blocks_of(text)
