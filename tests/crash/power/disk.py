"""A disk that is known by what was done to it: what is certain, and what a power cut may take.

What lives here: files as blocks with versions, names as versions, and the contents that a choice
among them leaves. What does not: recording (`recording.py`), choosing (`cuts.py`), judging.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.crash.power.recording import Entry

__all__ = ["BLOCK", "SECTOR", "Choice", "Disk", "Unit"]

BLOCK, SECTOR = 4096, 512

Unit = tuple[str, int | str, int]
"""What reaches the disk on its own: ("block", inode, its number), ("size", inode, 0) or
("name", path, 0)."""

Choice = Callable[[Unit, int], int | list[int]]
"""Given a unit and how many versions came after the certain one, the version that is there: 0 is
the certain one. A list is one version for each sector of a block that was torn."""


@dataclass(slots=True)
class _Change:
    """A write, or with no data a change of the size to `offset`."""

    offset: int
    data: bytes | None

    @property
    def end(self) -> int:
        return self.offset + len(self.data or b"")


@dataclass(slots=True)
class _File:
    """One inode: what is certain of it, and what was done since."""

    certain: bytearray = field(default_factory=bytearray)
    changes: list[_Change] = field(default_factory=list)

    def sizes(self) -> list[tuple[int, int]]:
        """The sizes that it had, the certain one first, and after how many changes."""
        sizes = [(len(self.certain), 0)]
        for count, change in enumerate(self.changes, 1):
            size = change.end if change.data is None else max(sizes[-1][0], change.end)
            if size != sizes[-1][0]:
                sizes.append((size, count))
        return sizes

    def blocks(self) -> dict[int, list[int]]:
        """The writes that touch each block, as places in the list of changes, in their order."""
        touched: dict[int, list[int]] = defaultdict(list)
        for place, change in enumerate(self.changes):
            if change.data is not None:
                for number in range(change.offset // BLOCK, -(-change.end // BLOCK)):
                    touched[number].append(place)
        return touched

    def settle(self, count: int) -> None:
        """The first so many changes are certain now."""
        for change in self.changes[:count]:
            if change.data is None:
                del self.certain[change.offset :]
                self.certain.extend(bytes(change.offset - len(self.certain)))
            else:
                self.certain.extend(bytes(max(0, change.offset - len(self.certain))))
                self.certain[change.offset : change.end] = change.data
        del self.changes[:count]

    def content(self, inode: int, choice: Choice) -> bytes:
        """The content after a power cut.

        A file is cut at once or not at all, as file systems do that: the size says which cuts
        there were. What is written behind a cut afterwards goes to new places of the disk, which
        belong to the file only if the cut has been.
        """
        sizes = self.sizes()
        size, after = sizes[_one(choice(("size", inode, 0), len(sizes) - 1))]
        content = self.certain + bytes(max(0, max(sizes)[0] - len(self.certain)))
        cuts = [at for at, change in enumerate(self.changes) if change.data is None]
        for cut in cuts:
            if cut < after:
                start = self.changes[cut].offset
                content[start:] = bytes(max(0, len(content) - start))
        for number, places in self.blocks().items():
            mine = [at for at in cuts if self.changes[at].offset <= number * BLOCK]
            begin = max((at for at in mine if at < after), default=-1)
            end = min((at for at in mine if at >= after), default=len(self.changes))
            chosen = choice(("block", inode, number), len(places))
            versions = chosen if isinstance(chosen, list) else [chosen] * (BLOCK // SECTOR)
            for sector, version in enumerate(versions):
                kept = [self.changes[at] for at in places[:version] if begin < at < end]
                _apply(content, kept, number * BLOCK + sector * SECTOR)
        return bytes(content[:size])


def _one(chosen: int | list[int]) -> int:
    assert isinstance(chosen, int), "only blocks can be torn"
    return chosen


def _apply(content: bytearray, writes: list[_Change], start: int) -> None:
    """Apply the part of some writes that falls into a sector."""
    for write in writes:
        assert write.data is not None
        begin, end = max(start, write.offset), min(start + SECTOR, write.end)
        if begin < end:
            content[begin:end] = write.data[begin - write.offset : end - write.offset]


class Disk:
    """The files of one folder, whose names begin with that of the database; the -shm is memory.

    Args:
        name: The database's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._files: dict[int, _File] = {}
        self._names: dict[str, list[int | None]] = {}
        self._syncs: dict[tuple[int, int], tuple[int, dict[str, int]]] = {}

    def take(self, entry: Entry) -> None:
        """Do what the process did."""
        if entry.kind in "BS" and entry.path == ".":
            self._sync_names(entry)
        elif self._is_ours(entry.path):
            self._take(entry)

    def _is_ours(self, path: str) -> bool:
        return path.startswith(self._name) and not path.endswith("-shm") and "/" not in path

    def _take(self, entry: Entry) -> None:
        match entry.kind:
            case "C":
                self._files[entry.inode] = _File()
                self._names.setdefault(entry.path, [None]).append(entry.inode)
            case "W":
                self._files[entry.inode].changes.append(_Change(entry.offset, entry.data))
            case "T":
                self._files[entry.inode].changes.append(_Change(entry.offset, None))
            case "U":
                self._names.setdefault(entry.path, [None]).append(None)
            case "R":
                # Less than file systems promise: either name may be as it was.
                target = entry.data.decode()
                inode = self._names[entry.path][-1]
                self._names[entry.path].append(None)
                self._names.setdefault(target, [None]).append(inode)
            case "B":
                pending = len(self._files[entry.inode].changes)
                self._syncs[entry.thread, entry.inode] = (pending, {})
            case "S":
                count, _ = self._syncs.pop((entry.thread, entry.inode))
                self._files[entry.inode].settle(count)
            case _:
                raise AssertionError(entry)

    def _sync_names(self, entry: Entry) -> None:
        key = (entry.thread, entry.inode)
        if entry.kind == "B":
            lengths = {path: len(versions) for path, versions in self._names.items()}
            self._syncs[key] = (0, lengths)
            return
        for path, length in self._syncs.pop(key)[1].items():
            del self._names[path][: length - 1]

    def units(self) -> dict[Unit, int]:
        """What is not certain: each unit, and how many versions came after the certain one."""
        found: dict[Unit, int] = {}
        for path, versions in self._names.items():
            if len(versions) > 1:
                found["name", path, 0] = len(versions) - 1
        for inode in self._reachable():
            file = self._files[inode]
            if len(sizes := file.sizes()) > 1:
                found["size", inode, 0] = len(sizes) - 1
            for number, changes in file.blocks().items():
                found["block", inode, number] = len(changes)
        return found

    def role(self, unit: Unit) -> str:
        """The end of the name of the file that a unit belongs to: "", "-wal" or "-journal"."""
        kind, which, _ = unit
        for path, versions in self._names.items():
            if (path == which) if kind == "name" else (which in versions):
                return path.removeprefix(self._name)
        raise AssertionError(f"no name for {unit}")

    def _reachable(self) -> Iterator[int]:
        seen = {inode for versions in self._names.values() for inode in versions if inode}
        yield from (inode for inode in self._files if inode in seen)

    def contents(self, choice: Choice) -> Mapping[str, bytes]:
        """The files that are there after a power cut that left these versions."""
        found: dict[str, bytes] = {}
        for path, versions in self._names.items():
            inode = versions[_one(choice(("name", path, 0), len(versions) - 1))]
            if inode is not None:
                found[path] = self._files[inode].content(inode, choice)
        return found
