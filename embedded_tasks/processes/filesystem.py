"""Whether a database file is in a place where locks can be trusted.

What lives here: the checks before anything is opened, and making the folder of the processes. What
does not: the database file itself, which only SQLite opens. Called by the runner at its start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedded_tasks.errors import ConfigurationError, StoreUnavailableError
from embedded_tasks.processes import posix
from embedded_tasks.processes.descriptors import Descriptor
from embedded_tasks.processes.layout import processes_folder
from embedded_tasks.processes.probing import remove_leftovers

__all__ = ["FolderCheck", "check_folder", "filesystem_type"]

_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\w*|afs|afpfs|beegfs|ceph|coda|gfs2|gpfs|lustre|ncpfs|ocfs2|webdav|davfs"
    r"|fuse\.(sshfs|s3fs|gcsfuse|mount-s3|goofys|rclone|juicefs|blobfuse2?|ceph-fuse|davfs)"
    r"|(fuse\.)?glusterfs"
)
_FLEETING: Final = {
    "overlay": "a container's own layer, which is gone at the next deploy",
    "aufs": "a container's own layer, which is gone at the next deploy",
    "tmpfs": "memory, which is gone at the next reboot or deploy",
    "ramfs": "memory, which is gone at the next reboot or deploy",
}
_SHARED: Final = re.compile(
    r"9p|drvfs|fakeowner|prl_fs|vboxsf|virtiofs|vmhgfs|fuse\.(grpcfuse|osxfs|vmhgfs-fuse)"
)
_MOUNTS: Final = Path("/proc/self/mountinfo")
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class FolderCheck:
    """What `check_folder` found.

    Attributes:
        folder: The folder of the processes; it exists and is ours.
        filesystem: The type of its file system, where the system tells it.
        warning: What a person should know about the place, in words.
    """

    folder: Path
    filesystem: str | None = None
    warning: str | None = None


def check_folder(database: str | os.PathLike[str], *, mounts: str | None = None) -> FolderCheck:
    """Make the folder of the processes beside a database file, and test that it can do its work.

    The database's own folder is made too if only that one is missing.

    Args:
        database: The path of the database file, which need not exist.
        mounts: The text of /proc/self/mountinfo; by default it is read where there is one.

    Raises:
        ConfigurationError: Windows, a network file system, a folder that cannot be written, files
            of another user, or locks or named pipes that do not work.
        StoreUnavailableError: It could not be tested now, for example on a full disk.
    """
    posix.require_posix()
    path = Path(os.path.realpath(database))
    folder = processes_folder(database)
    kind = filesystem_type(path, _read_mounts() if mounts is None else mounts)
    if kind is not None and _NETWORK.fullmatch(kind):
        raise ConfigurationError(
            f"{path} is on a network file system ({kind}), where locks cannot be trusted and "
            "SQLite's WAL does not work. Put the file on a local disk of this machine."
        )
    try:
        # First, so that whoever is refused leaves nothing of theirs behind.
        _check_owners(path, folder)
        _make_folders(path, folder)
        folder.chmod(0o700)
        _check_locks(folder)
        _check_pipes(folder)
        remove_leftovers(folder)
    except OSError as error:
        raise _translated(path, error) from error
    return FolderCheck(folder, kind, _warning(path, kind))


def filesystem_type(path: Path, mounts: str) -> str | None:
    """Return the type of the file system that a path is on, such as "ext4".

    Args:
        path: An absolute path without links; it need not exist.
        mounts: The text of /proc/self/mountinfo; with "" the answer is None.
    """
    best: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= best[0]:  # the last one covers
            best = (len(point.parts), kinds[0])
    return best[1]


def _read_mounts() -> str:
    try:
        return _MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def _warning(path: Path, kind: str | None) -> str | None:
    if kind in _FLEETING:
        return (
            f"{path} is on {kind}, {_FLEETING[kind]}. Put it on a disk or volume that stays, "
            "or its jobs go with it."
        )
    if kind is not None and _SHARED.fullmatch(kind):
        return (
            f"{path} is on {kind}, shared with another system: processes over there cannot be "
            "seen from here. Let only one side open it."
        )
    return None


def _make_folders(path: Path, folder: Path) -> None:
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder. Pass the path of a file in it.")
    try:
        path.parent.mkdir(exist_ok=True)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"The folder {path.parent} does not exist and neither does the one above it. "
            "Create it, or correct the path."
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"{path.parent} is not a folder. Pass the path of a file in a folder."
        ) from error
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise ConfigurationError(
            f"{folder} is not a folder. It is needed for locks: move that file away."
        )


def _check_owners(path: Path, folder: Path) -> None:
    """Refuse files of another user: what we then created would lock that user's app out."""
    beside = (path, Path(f"{path}-wal"), Path(f"{path}-shm"), folder)
    for found, owner in _owners((*beside, *_entries(folder))):
        if owner != os.geteuid():
            raise ConfigurationError(
                f"{found} belongs to user {owner}, and this process runs as user {os.geteuid()}. "
                "Run it as that user (sudo -u, su, or USER in a Dockerfile), or stop all its "
                f"processes and give the files to this one: chown -R {os.geteuid()} {path}*"
            )
    if path.is_file() and not os.access(path, os.R_OK | os.W_OK):
        is_read_only = os.statvfs(path).f_flag & os.ST_RDONLY
        number = errno.EROFS if is_read_only else errno.EACCES
        raise OSError(number, "it cannot be read and written", str(path))


def _entries(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            yield Path(entry.path)


def _owners(paths: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    for path in paths:
        # It is not there yet, or a sibling has just closed.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            yield path, path.lstat().st_uid


def _check_locks(folder: Path) -> None:
    """Try two open files of one path: their locks must exclude each other."""
    number, name = tempfile.mkstemp(prefix=".check-", dir=folder)
    first = Descriptor(number)
    try:
        second = Descriptor.open(name, os.O_RDWR)
        try:
            works = _exclude(first.number, second.number)
        finally:
            second.close()
    finally:
        first.close()
        os.unlink(name)
    if not works:
        raise ConfigurationError(
            f"{folder}: locks (flock) do not work on this file system, so a dead process could "
            "not be told from a living one. Put the database on a local disk of this machine."
        )


def _exclude(first: int, second: int) -> bool:
    try:
        if not posix.try_lock(first) or posix.try_lock(second):
            return False
        posix.unlock(first)
        return posix.try_lock(second)
    except OSError:
        return False


def _check_pipes(folder: Path) -> None:
    number, name = tempfile.mkstemp(prefix=".check-", suffix=".pipe", dir=folder)
    os.close(number)
    os.unlink(name)
    try:
        os.mkfifo(name, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{folder}: this file system has no named pipes ({error.strerror}), by which "
            "processes wake each other. Put the database on a local disk of this machine."
        ) from error
    os.unlink(name)


def _translated(path: Path, error: OSError) -> ConfigurationError | StoreUnavailableError:
    if error.errno == errno.EROFS:
        return ConfigurationError(
            f"{path} is on a read-only file system. Put it where this process can write."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigurationError(
            f"{error.filename or path} cannot be written by user {os.geteuid()} "
            f"({error.strerror}). SQLite needs to write to the file and to its folder: "
            "correct the permissions, or choose another path."
        )
    return StoreUnavailableError(f"{path} cannot be used now: {error}.")
