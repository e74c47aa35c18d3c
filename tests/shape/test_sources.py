"""Where the package takes time, chance, SQL and SQLite from.

What lives here: the clock, the database library and SQL each have one place. What does not: what
these places do. Run by pytest; every rule is shown to bite.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shape.tree import located, package_files

TAKEN = re.compile(
    r"time\.(time|monotonic|perf_counter)(_ns)?"
    r"|datetime\.datetime\.(now|utcnow|today)|datetime\.date\.today"
    r"|uuid\.uuid[1-8]|secrets\.\w+|os\.urandom"
    r"|random\.(?!Random\b|SystemRandom\b)\w+"
)
CLOCK = "embedded_tasks/clock.py"

# Statements that read or change rows and tables; the first form catches halves of statements too.
STATEMENT = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|CREATE|ALTER|DROP)\s"
    r"|(?is:.*\b(select\s.+\sfrom\s+\w|insert\s+(or\s+\w+\s+)?into\s+\w|replace\s+into\s+\w"
    r"|update\s+(or\s+\w+\s+)?\w+\s+set\s+\w+\s*=|delete\s+from\s+\w"
    r"|(create|alter|drop)\s+(unique\s+|temp\s+)?(table|index|view|trigger)\s+\w))"
)
# What surrounds statements; the store's own Python may say it.
CONTROL = re.compile(
    r"\s*(PRAGMA\s|BEGIN(\s+(IMMEDIATE|EXCLUSIVE|DEFERRED))?\s*;?\s*$|COMMIT\s*;?\s*$"
    r"|ROLLBACK\b|SAVEPOINT\s|RELEASE\s|ATTACH\s|VACUUM\b)"
)
STORE = "embedded_tasks/store/"

FILES = pytest.mark.parametrize("path", package_files(), ids=located)


def takes_time_or_chance(source: str) -> list[str]:
    """Uses of the machine's clocks and random numbers, except where one is handed on as a value."""
    module = ast.parse(source)
    origins, injected = _origins(module), _injected(module)
    return [
        f"{node.lineno}: {name}"
        for node in ast.walk(module)
        if isinstance(node, ast.Name | ast.Attribute) and node not in injected
        if (name := _dotted(node, origins)) and TAKEN.fullmatch(name)
    ]


def holds_sql(where: str, source: str) -> list[str]:
    patterns = [STATEMENT] if where.startswith(STORE) else [STATEMENT, CONTROL]
    return [
        f"{line}: {text.strip()[:60]!r}"
        for line, text in _strings(ast.parse(source))
        if any(pattern.match(text) for pattern in patterns)
    ]


def imports(source: str, library: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        if any(name.split(".")[0] == library for name in names):
            return True
    return False


def _origins(module: ast.Module) -> dict[str, str]:
    """Which imported thing each name of the module means, such as {"now": "time.time"}."""
    origins: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                origins[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            origins |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return origins


def _injected(module: ast.Module) -> set[ast.AST]:
    """Expressions that hand a function on uncalled: defaults of parameters, arguments of calls."""
    found: set[ast.AST] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.arguments):
            found.update(node.defaults, (default for default in node.kw_defaults if default))
        elif isinstance(node, ast.Call):
            found.update(node.args, (keyword.value for keyword in node.keywords))
    return found


def _dotted(node: ast.expr, origins: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return origins.get(node.id)
    if isinstance(node, ast.Attribute) and (parent := _dotted(node.value, origins)):
        return f"{parent}.{node.attr}"
    return None


def _strings(module: ast.Module) -> Iterator[tuple[int, str]]:
    """Every text of the module with its line, docstrings left out."""
    known = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.JoinedStr):
            known.update(id(part) for part in node.values)
            parts = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield node.lineno, "".join(str(part) for part in parts)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in known
        ):
            yield node.lineno, node.value


@FILES
def test_time_and_chance_are_asked_for_and_never_taken(path: Path) -> None:
    if located(path) != CLOCK:
        assert takes_time_or_chance(path.read_text()) == []


@FILES
def test_sql_is_kept_in_sql_files(path: Path) -> None:
    assert holds_sql(located(path), path.read_text()) == []


def test_the_database_library_is_imported_in_one_file_of_the_store() -> None:
    files = [located(path) for path in package_files() if imports(path.read_text(), "aiosqlite")]
    assert len(files) <= 1, files
    assert all(where.startswith(STORE) for where in files), files


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.time()",
        "import time as t\nt.monotonic_ns()",
        "from time import perf_counter as tick\ntick()",
        "import time\nclock = time.time",
        "import datetime\ndatetime.datetime.now(tz)",
        "import datetime as dt\ndt.date.today()",
        "from datetime import datetime\nx = f(datetime.utcnow())",
        "import random\nrandom.uniform(0, 1)",
        "from random import random\nf(random())",
        "import uuid\nuuid.uuid4().hex",
        "from uuid import uuid4\nuuid4()",
        "from secrets import token_hex\ntoken_hex()",
        "from os import urandom\nurandom(8)",
        "import os.path\nos.urandom(8)",
        "def f():\n    import time\n    return time.time()",
    ],
)
def test_time_and_chance_that_are_taken_are_noticed(source: str) -> None:
    assert takes_time_or_chance(source)


@pytest.mark.parametrize(
    "source",
    [
        "clock.time()",
        "def f(now: float, rng: Random): return rng.random()",
        "import random\ndef f(rng: random.Random): return rng.uniform(0, 1)",
        "import time\ndef f(now=time.time, *, tick=time.monotonic): ...",
        "from uuid import uuid4\nRunner(new_id=uuid4)",
        "import time\ntime.sleep",
        "from datetime import datetime\ndatetime.fromtimestamp(now, tz)",
        "import uuid\nuuid.UUID(text)",
    ],
)
def test_time_and_chance_that_are_injected_are_fine(source: str) -> None:
    assert takes_time_or_chance(source) == []


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT id ",
        "select id, state\nfrom jobs",
        "\n    INSERT INTO jobs VALUES (1)",
        "insert or ignore into jobs values (1)",
        "UPDATE jobs SET state = 'queued'",
        "update jobs set state = 'queued'",
        "delete from jobs",
        "WITH due AS (",
        "create unique index by_due on jobs (due)",
        "EXPLAIN QUERY PLAN SELECT id FROM jobs",
    ],
)
def test_sql_in_python_is_noticed(text: str) -> None:
    for where in ("embedded_tasks/worker.py", "embedded_tasks/store/writer.py"):
        assert holds_sql(where, f"query = {text!r}")
        assert holds_sql(where, f"run(f{text + ' {limit}'!r})")


@pytest.mark.parametrize(
    "text", ["PRAGMA synchronous", "BEGIN IMMEDIATE", "BEGIN", "COMMIT", "SAVEPOINT one", "VACUUM"]
)
def test_transactions_are_the_stores_own(text: str) -> None:
    assert holds_sql("embedded_tasks/worker.py", f"run({text!r})")
    assert not holds_sql("embedded_tasks/store/writer.py", f"run({text!r})")


@pytest.mark.parametrize(
    "source",
    [
        '"""SELECT a job from the store."""',
        "raise ValueError('select a queue with queue=')",
        "raise ValueError('Update the file from a newer release')",
        "raise ValueError('delete the job, or insert it into another file')",
        "title = 'With a pause'",
        "name = 'select_due'",
        "state = 'Commit failed'",
    ],
)
def test_prose_is_no_sql(source: str) -> None:
    assert holds_sql("embedded_tasks/worker.py", source) == []


def test_imports_of_a_library_are_noticed() -> None:
    assert imports("import aiosqlite", "aiosqlite")
    assert imports("import aiosqlite.core as core", "aiosqlite")
    assert imports("def f():\n    from aiosqlite import connect", "aiosqlite")
    assert not imports("import sqlite3", "aiosqlite")
