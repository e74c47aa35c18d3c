"""The folder of the processes: where it is, and which places are refused.

What lives here: the checks at the start. What does not: what is in the folder. Run by pytest.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from embedded_tasks.errors import ConfigurationError, StoreUnavailableError
from embedded_tasks.processes import check_folder, posix, processes_folder
from embedded_tasks.processes.filesystem import filesystem_type
from embedded_tasks.processes.layout import new_path

MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
30 22 0:50 / /srv rw - nfs4 host:/export rw
31 30 0:51 / /srv/local rw - xfs /dev/vdb rw
32 22 0:52 / /with\040space rw master:1 propagate_from:2 - tmpfs tmpfs rw
33 22 0:53 / /twice rw - ext4 /dev/vdc rw
34 33 0:54 / /twice rw - cifs //host/share rw
a line that is none
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mounted(kind: str) -> str:
    return f"22 1 254:0 / / rw,relatime shared:1 - {kind} /dev/vda rw"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/tasks.db", "ext4"),
        ("/srvother/tasks.db", "ext4"),
        ("/srv/tasks.db", "nfs4"),
        ("/srv/local/tasks.db", "xfs"),
        ("/with space/tasks.db", "tmpfs"),
        ("/twice/tasks.db", "cifs"),
    ],
)
def test_the_file_system_is_that_of_the_innermost_mount(path: str, kind: str) -> None:
    assert filesystem_type(Path(path), MOUNTS) == kind


def test_without_a_list_of_mounts_the_file_system_is_unknown(tmp_path: Path) -> None:
    assert filesystem_type(tmp_path, "") is None
    assert check_folder(tmp_path / "tasks.db", mounts="").filesystem is None


def test_the_folder_is_beside_the_file_and_private(tmp_path: Path) -> None:
    checked = check_folder(tmp_path / "data" / "tasks.db", mounts=mounted("ext4"))
    assert checked.folder == tmp_path / "data" / "tasks.db.processes"
    assert checked.filesystem == "ext4"
    assert checked.warning is None
    assert stat.S_IMODE(checked.folder.stat().st_mode) == 0o700
    assert names_in(checked.folder) == []
    assert names_in(tmp_path / "data") == ["tasks.db.processes"]


def test_a_folder_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    folder = processes_folder(tmp_path / "tasks.db")
    folder.mkdir(mode=0o755)
    check_folder(tmp_path / "tasks.db")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_all_ways_to_one_file_lead_to_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "other.db").symlink_to("real/tasks.db")
    monkeypatch.chdir(tmp_path / "real")
    ways = ["tasks.db", "../link/tasks.db", str(tmp_path / "other.db"), "./tasks.db"]
    assert {processes_folder(way) for way in ways} == {tmp_path / "real" / "tasks.db.processes"}


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuse.glusterfs"])
def test_a_network_file_system_is_refused_and_untouched(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"network file system \({kind}\).*local disk"):
        check_folder(tmp_path / "tasks.db", mounts=mounted(kind))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("kind", ["overlay", "tmpfs"])
def test_a_place_that_does_not_stay_is_warned_of(tmp_path: Path, kind: str) -> None:
    warning = check_folder(tmp_path / "tasks.db", mounts=mounted(kind)).warning
    assert warning is not None
    assert "gone at the next" in warning


@pytest.mark.parametrize("kind", ["9p", "virtiofs", "fakeowner"])
def test_a_place_shared_with_a_host_is_warned_of(tmp_path: Path, kind: str) -> None:
    warning = check_folder(tmp_path / "tasks.db", mounts=mounted(kind)).warning
    assert warning is not None
    assert "Let only one side open it" in warning


def test_locks_that_do_not_exclude_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posix, "try_lock", lambda descriptor: True)
    with pytest.raises(ConfigurationError, match=r"locks .* do not work"):
        check_folder(tmp_path / "tasks.db")
    assert names_in(processes_folder(tmp_path / "tasks.db")) == []


def test_a_file_system_without_pipes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "mkfifo", refuse)
    with pytest.raises(ConfigurationError, match="no named pipes"):
        check_folder(tmp_path / "tasks.db")


@pytest.mark.parametrize(
    ("number", "error", "words"),
    [
        (errno.EROFS, ConfigurationError, "read-only"),
        (errno.EACCES, ConfigurationError, "cannot be written by user"),
        (errno.ENOSPC, StoreUnavailableError, "No space left"),
    ],
)
def test_a_place_that_cannot_be_written_says_why(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    error: type[Exception],
    words: str,
) -> None:
    def refuse(self: Path, mode: int = 0o777) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(error, match=words):
        check_folder(tmp_path / "tasks.db")


def test_files_of_another_user_are_refused_and_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "tasks.db"
    database.touch()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigurationError, match=f"tasks.db belongs to user {owner}.*chown"):
        check_folder(database)
    database.unlink()
    for name in ("tasks.db-wal", "tasks.db.processes/writers.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        with pytest.raises(ConfigurationError, match=f"{name.split('/')[0]}.* belongs to user"):
            check_folder(database)
        (tmp_path / name).unlink()


def test_paths_that_cannot_be_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "taken.db.processes").touch()
    with pytest.raises(ConfigurationError, match="is a folder"):
        check_folder(tmp_path)
    with pytest.raises(ConfigurationError, match="does not exist"):
        check_folder(tmp_path / "no" / "such" / "tasks.db")
    with pytest.raises(ConfigurationError, match="is not a folder"):
        check_folder(tmp_path / "file" / "tasks.db")
    with pytest.raises(ConfigurationError, match="move that file away"):
        check_folder(tmp_path / "taken.db")


def test_leftovers_of_a_start_that_failed_are_removed(tmp_path: Path) -> None:
    folder = check_folder(tmp_path / "tasks.db").folder
    new_path(folder / ("a" * 32 + ".lock")).touch()
    check_folder(tmp_path / "tasks.db")
    assert names_in(folder) == []


def test_long_paths_work(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 150) / ("y" * 150)
    deep.mkdir(parents=True)
    assert len(str(check_folder(deep / "tasks.db").folder)) > 300


def test_who_is_refused_for_a_file_of_another_user_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tasks.db").touch()
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(ConfigurationError, match="belongs to user"):
        check_folder(tmp_path / "tasks.db")
    assert names_in(tmp_path) == ["tasks.db"]
