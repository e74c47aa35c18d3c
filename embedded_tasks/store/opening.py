"""Opening the file: create it, recognise it, or refuse it; then bring its schema up to date.

What lives here: the checks and the numbered migrations. What does not: anything after the file is
open. Called by `Store.open` in the connection's thread, under the writers' lock.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from importlib.resources import files
from pathlib import Path

from embedded_tasks.errors import StoreFormatError, StoreUnavailableError
from embedded_tasks.store.connection import translated
from embedded_tasks.store.copying import copy_before, make_copy, remove_parts, sync_folder
from embedded_tasks.store.queries import QUERIES

__all__ = [
    "APPLICATION_ID",
    "MIGRATIONS",
    "SCHEMA_VERSION",
    "copy_before_migration",
    "create_file",
    "is_old",
    "prepare",
    "recognised_version",
]

APPLICATION_ID = 0x656D6274
"""Marks the file as ours ("embt") in SQLite's header."""


def _load_migrations() -> dict[int, str]:
    folder = files("embedded_tasks.store").joinpath("migrations")
    found = {}
    for entry in folder.iterdir():
        match = re.fullmatch(r"(\d{4})_\w+\.sql", entry.name)
        if match:
            found[int(match[1])] = entry.read_text(encoding="utf-8")
    return dict(sorted(found.items()))


MIGRATIONS = _load_migrations()
"""The text of each migration by its number."""

SCHEMA_VERSION = max(MIGRATIONS)
"""The schema that this release writes."""


def create_file(path: str) -> None:
    """Create the file with mode 0600 where there is none; SQLite's own mode would be wider.

    Raises:
        StoreUnavailableError: The folder is missing or may not be written.
    """
    if path == ":memory:":
        return
    try:
        # O_EXCL: a file that is there is never opened by us. Closing a descriptor of it would drop
        # the locks that SQLite holds on it in this process.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreUnavailableError(
            f"{path} cannot be created: {error.strerror}. Create its folder and let the app's user "
            "write there."
        ) from error
    folder = Path(path).absolute().parent
    sync_folder(folder)
    # The folder may be new too; after a power cut it must not take the file along.
    with contextlib.suppress(PermissionError):
        sync_folder(folder.parent)


def is_old(connection: sqlite3.Connection, path: str) -> bool:
    """Return whether a file has the schema of an earlier release.

    Called under the writers' lock: what is read here belongs together only while nobody makes the
    file or changes its schema.

    Raises:
        StoreFormatError: A newer, foreign or damaged file; it was left as it is.
        StoreUnavailableError: It cannot be read just now.
    """
    try:
        return path != ":memory:" and 0 < recognised_version(connection, path) < SCHEMA_VERSION
    except sqlite3.Error as error:
        raise translated(error, path) from error


def copy_before_migration(connection: sqlite3.Connection, path: str) -> None:
    """Keep a copy of a file whose schema is about to be changed; others may write meanwhile.

    Raises:
        StoreFormatError: A damaged file; it was left as it is.
        StoreUnavailableError: There is no room for a copy, or it cannot be read just now.
    """
    try:
        version = recognised_version(connection, path)
        if version == SCHEMA_VERSION:
            return
        _check_length(connection, path)
        try:
            make_copy(connection, path, version)
        except (sqlite3.Error, OSError):
            # Unless a sibling was faster, and has tidied up.
            if recognised_version(connection, path) < SCHEMA_VERSION:
                raise
    except sqlite3.Error as error:
        raise translated(error, path) from error
    except OSError as error:
        raise StoreUnavailableError(
            f"{path} cannot be copied, as is done before its schema is changed: {error}."
        ) from error


def prepare(connection: sqlite3.Connection, path: str, settings: dict[str, str | int]) -> None:
    """Check that the file is ours, set the PRAGMAs, and run the migrations that it lacks.

    Raises:
        StoreFormatError: A newer, foreign or damaged file; it was left as it is.
        StoreUnavailableError: Locked or unwritable just now.
    """
    try:
        version = recognised_version(connection, path)
        for name, value in settings.items():
            connection.execute(f"PRAGMA {name}={value}").fetchall()
        _check_length(connection, path)
        if version < SCHEMA_VERSION:
            if version > 0 and path != ":memory:" and not copy_before(path, version).exists():
                make_copy(connection, path, version)
            for number, script in MIGRATIONS.items():
                if number > version:
                    _migrate(connection, number, script)
            if version > 0 and path != ":memory:":
                remove_parts(path, version)
    except sqlite3.Error as error:
        raise translated(error, path) from error


def recognised_version(connection: sqlite3.Connection, path: str) -> int:
    """Return the schema of a file that is ours, 0 for an empty one.

    Raises:
        StoreFormatError: It is another program's, or this release may not read it.
    """
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (schema,) = connection.execute("PRAGMA schema_version").fetchone()
    if schema == 0 and application_id in (0, APPLICATION_ID):
        return 0
    if application_id != APPLICATION_ID:
        raise StoreFormatError(
            f"{path} is a database of another program (application id {application_id}). It was "
            "left as it is; give the runner a file of its own."
        )
    if version > SCHEMA_VERSION:
        (oldest,) = connection.execute(QUERIES["oldest_reader"]).fetchone() or ("0",)
        if int(oldest) > SCHEMA_VERSION:
            raise StoreFormatError(
                f"{path} was written by a newer release (schema {version}, readable from "
                f"{oldest} on; this release has {SCHEMA_VERSION}). It was left as it is; install "
                "the newer release, or restore the copy that was kept beside it before the upgrade."
            )
    return int(version)


def _check_length(connection: sqlite3.Connection, path: str) -> None:
    """With an empty WAL the file has every page that it says it has, unless somebody cut it."""
    if path == ":memory:":
        return
    with contextlib.suppress(FileNotFoundError):
        if os.stat(f"{path}-wal").st_size > 0:
            return
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    size = os.stat(path).st_size
    if size < pages * page_size:
        raise StoreFormatError(
            f"{path} is damaged: it was cut to {size:,} of {pages * page_size:,} bytes. It was "
            "left as it is: restore a backup or use `.recover`."
        )


def _migrate(connection: sqlite3.Connection, number: int, script: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in _statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={number}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> list[str]:
    found, current = [], ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            found.append(current)
            current = ""
    return found
