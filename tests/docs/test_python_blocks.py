"""Every Python block of the README and the documentation runs.

What lives here: running them, and the proof that a block that does not run is noticed. What does
not: shell blocks. Run by pytest.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import Block, blocks_of, page_id, pages, sessions_of
from tests.docs.running import run_session, statements_of

SESSIONS = [
    pytest.param(path, session, id=f"{page_id(path)}:{session[0].line}")
    for path in pages()
    for session in sessions_of(path.read_text())
]


@pytest.fixture(autouse=True)
def _as_in_a_users_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("page", "session"), SESSIONS)
def test_the_block_runs(page: Path, session: list[Block], tmp_path: Path) -> None:
    run_session(page, session, tmp_path)


@pytest.mark.parametrize("page", pages(), ids=page_id)
def test_what_is_only_shown_compiles(page: Path) -> None:
    for block in blocks_of(page.read_text()):
        if block.language == "python":
            assert list(statements_of(block, str(page)))
