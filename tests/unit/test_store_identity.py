"""Whether the files are still those that were opened: what is looked at, and what is noticed.

What lives here: `embedded_tasks/store/identity.py` over plain files. What does not: what a server
does then (`tests/crash/test_file_faults.py`). Run by pytest.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.store.identity import FileIdentity

SUFFIXES = ("", "-wal", "-shm")
LATER = 5_000_000_000


class Files:
    """A database's files, a clock, and `os` as the module sees it, which tells what it looks at."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.path = folder / "tasks.db"
        for suffix in SUFFIXES:
            self.file(suffix).write_bytes(b"x" * 100)
        self.after = LATER
        self.looked_at: list[str] = []
        self.identity = FileIdentity(str(self.path), now=self.now)
        self.identity.remember()
        monkeypatch.setattr("embedded_tasks.store.identity.os", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def stat(self, path: str) -> os.stat_result:
        self.looked_at.append(Path(path).name)
        return Path(path).stat()

    def file(self, suffix: str) -> Path:
        return Path(f"{self.path}{suffix}")

    def now(self) -> int:
        """So many nanoseconds after the folder was last changed."""
        return self.folder.stat().st_ctime_ns + self.after

    def check(self) -> list[str]:
        """Check, and return what was looked at."""
        self.looked_at.clear()
        self.identity.check()
        return list(self.looked_at)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    folder = tmp_path / "data"
    folder.mkdir()
    return Files(folder, monkeypatch)


def test_while_no_name_changes_the_log_is_not_looked_at(files: Files) -> None:
    assert "tasks.db-wal" in files.check()
    for _ in range(3):
        assert files.check() == [files.folder.name, "tasks.db"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("how", ["moved away", "replaced"])
def test_a_name_that_changes_is_noticed_at_once(files: Files, suffix: str, how: str) -> None:
    files.check()
    files.check()
    if how == "moved away":
        files.file(suffix).rename(files.folder / "away")
    else:
        other = files.folder / "other"
        other.write_bytes(b"y" * 100)
        other.replace(files.file(suffix))
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=how):
            files.check()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_replaced_is_noticed_although_its_folders_date_was_put_back(
    files: Files, suffix: str
) -> None:
    files.check()
    before = files.folder.stat()
    other = files.folder / "other"
    other.write_bytes(b"y" * 100)
    other.replace(files.file(suffix))
    # As tar and cp do, which unpack a folder with all its dates.
    os.utime(files.folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match="replaced"):
            files.check()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("how", ["moved away", "replaced"])
def test_what_a_link_leads_to_is_looked_at(tmp_path: Path, suffix: str, how: str) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    real = volume / "tasks.db"
    for each in SUFFIXES:
        Path(f"{real}{each}").write_bytes(b"x" * 100)
    link = tmp_path / "tasks.db"
    link.symlink_to(real)
    identity = FileIdentity(str(link), now=lambda: time.time_ns() + LATER)
    identity.remember()
    for _ in range(2):
        identity.check()
    changed = Path(f"{real}{suffix}")
    if how == "moved away":
        changed.rename(volume / "away")
    else:
        (volume / "other").write_bytes(b"y" * 100)
        (volume / "other").replace(changed)
    with pytest.raises(StoreUnavailableError, match=how):
        identity.check()


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"x" * 100)
    link = tmp_path / "tasks.db"
    link.symlink_to(tmp_path / "one")
    identity = FileIdentity(str(link))
    identity.remember()
    identity.check()
    link.unlink()
    link.symlink_to(tmp_path / "two")
    with pytest.raises(StoreUnavailableError, match="replaced"):
        identity.check()


def test_a_folder_that_has_just_changed_is_not_trusted(files: Files) -> None:
    # A coarse clock may date the next change to the same moment.
    files.after = 1_000_000
    for _ in range(3):
        assert "tasks.db-wal" in files.check()
    files.after = -LATER  # the clock was put back
    assert "tasks.db-wal" in files.check()
    files.after = LATER
    assert "tasks.db-wal" in files.check()
    assert "tasks.db-wal" not in files.check()


def test_another_file_in_the_folder_costs_one_look(files: Files) -> None:
    files.check()
    (files.folder / "somebody's.txt").touch()
    assert "tasks.db-wal" in files.check()
    assert "tasks.db-wal" not in files.check()


def test_a_folder_that_is_gone_is_noticed(files: Files) -> None:
    files.check()
    files.check()
    files.folder.rename(files.folder.with_name("elsewhere"))
    with pytest.raises(StoreUnavailableError, match="moved away"):
        files.check()


def test_nothing_is_looked_at_for_a_database_in_memory() -> None:
    identity = FileIdentity(":memory:")
    identity.remember()
    identity.check()
    assert identity.problem() is None
