"""The code blocks of the README and the documentation, and what is to be done with each.

What lives here: finding blocks in Markdown. What does not: running them (`running.py`). Used by the
tests of this folder, and by those in tests/crash that run a shell block.

Each Python block is a module of its own, unless a comment before it says otherwise:
`docs: continue` puts it into the module of the block before, `docs: compile` says that it is only
shown. A comment that begins with `docs-after` is code that is run there and not shown; one that
begins with `docs-before` also begins the module of the block that follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent

__all__ = ["ROOT", "Block", "blocks_of", "page_id", "pages", "sessions_of"]

ROOT = Path(__file__).resolve().parents[2]

_PART = re.compile(
    r"^(?P<indent>[ ]*)```(?P<head>[^\n]*)\n(?P<shown>.*?)^(?P=indent)```[ ]*$"
    r"|^[ ]*<!-- docs: (?P<mark>.*?) -->[ ]*$"
    r"|^[ ]*<!-- docs-(?P<place>\w+)\n(?P<hidden>.*?)^[ ]*-->[ ]*$",
    re.MULTILINE | re.DOTALL,
)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    """One block of code, shown or hidden.

    Args:
        line: Where it begins in its page.
        language: What it is written in.
        text: The code.
        title: The file that it is to be, if it says so.
        continues: Whether it belongs to the session of the block before.
        runs: Whether it is run, or only shown.
    """

    line: int
    language: str
    text: str
    title: str | None = None
    continues: bool = False
    runs: bool = True


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def page_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks_of(page: str) -> list[Block]:
    """Return all blocks of a page, in their order.

    Raises:
        ValueError: A mark is unknown, or a block has no language.
    """
    found: list[Block] = []
    mark, joins = "", False
    for part in _PART.finditer(page):
        line = page.count("\n", 0, part.start()) + 1
        if part["mark"] is not None:
            mark = part["mark"]
        elif part["hidden"] is not None:
            joins = {"before": True, "after": False}[part["place"]]
            text = dedent(part["hidden"])
            found.append(Block(line, "python", text, continues=not joins))
        else:
            block = _shown(line, part["head"], dedent(part["shown"]))
            found.append(_marked(block, mark, joins))
            mark, joins = "", False
    return found


def _shown(line: int, head: str, text: str) -> Block:
    language = head.partition(" ")[0]
    if not language:
        raise ValueError(f"line {line}: a block has no language")
    title = _TITLE.search(head)
    return Block(line, language, text, title[1] if title else None)


def _marked(block: Block, mark: str, joins: bool) -> Block:
    if mark not in ("", "continue", "compile"):
        raise ValueError(f"line {block.line}: there is no mark {mark!r}")
    return replace(block, continues=joins or mark == "continue", runs=mark != "compile")


def sessions_of(page: str) -> list[list[Block]]:
    """Return the Python blocks of a page that are run, those together that share a module."""
    sessions: list[list[Block]] = []
    for block in blocks_of(page):
        if block.language == "python" and block.runs:
            if block.continues and sessions:
                sessions[-1].append(block)
            else:
                sessions.append([block])
    return sessions
