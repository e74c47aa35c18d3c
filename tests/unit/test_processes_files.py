"""The process file, and looking at it from outside.

What lives here: marks, locks and corpses within one process. What does not: real deaths, which are
in tests/crash. Run by pytest.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from pathlib import Path

import pytest

from embedded_tasks.errors import ConfigurationError, NotStartedError, StoreUnavailableError
from embedded_tasks.processes import (
    INTERRUPTED,
    TIMED_OUT,
    Mailbox,
    Mark,
    ProcessFile,
    WritersLock,
    list_processes,
    posix,
    probe,
    probing,
)
from embedded_tasks.processes.layout import (
    fifo_path,
    list_leftovers,
    lock_path,
    new_path,
    publish,
    writers_lock_path,
)
from embedded_tasks.processes.records import FIRST_SLOTS, RECORD_SIZE, decode_file

ANNA, BERT = "a" * 32, "b" * 32
JOB, OTHER = b"j" * 16, b"o" * 16


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def left_by(folder: Path, process_id: str, *marks: Mark, boot_id: str | None = None) -> Path:
    """Make what a dead process leaves."""
    file = ProcessFile.create(folder, process_id, boot_id=boot_id)
    for job_id, attempt, flags in marks:
        file.annotate(file.mark(job_id, attempt), flags)
    file.close(remove=False)
    return lock_path(folder, process_id)


def test_the_file_of_a_living_process_is_locked_private_and_complete(tmp_path: Path) -> None:
    file = ProcessFile.create(tmp_path, ANNA)
    info = lock_path(tmp_path, ANNA).stat()
    assert stat.S_IMODE(info.st_mode) == 0o600
    assert info.st_size == 4096
    assert info.st_blocks * 512 >= info.st_size
    assert probe(tmp_path, ANNA).alive
    assert probe(tmp_path, ANNA).undecided is None
    assert names_in(tmp_path) == [f"{ANNA}.lock"]
    file.close()


def test_the_lock_is_taken_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def take(descriptor: int) -> bool:
        seen.append(names_in(tmp_path))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True

    monkeypatch.setattr(posix, "try_lock", take)
    ProcessFile.create(tmp_path, ANNA).close()
    assert seen == [[f".{ANNA}.lock"]]


def test_an_id_that_is_in_use_is_refused(tmp_path: Path) -> None:
    file = ProcessFile.create(tmp_path, ANNA)
    with pytest.raises(ConfigurationError, match="fresh id"):
        ProcessFile.create(tmp_path, ANNA)
    assert probe(tmp_path, ANNA).alive
    file.close()


def test_closing_removes_the_file(tmp_path: Path) -> None:
    file = ProcessFile.create(tmp_path, ANNA)
    file.clear(file.mark(JOB, 1))
    file.close()
    file.close()
    assert names_in(tmp_path) == []
    with pytest.raises(NotStartedError, match="closed"):
        file.mark(JOB, 1)


def test_a_file_that_others_need_stays_when_it_is_closed(tmp_path: Path) -> None:
    marked = ProcessFile.create(tmp_path, ANNA)
    marked.mark(JOB, 1)
    marked.close()
    ProcessFile.create(tmp_path, BERT).close(remove=False)
    assert list_processes(tmp_path) == [ANNA, BERT]
    assert not probe(tmp_path, ANNA).alive
    assert not probe(tmp_path, BERT).alive


def test_closing_does_not_remove_another_file_of_that_name(tmp_path: Path) -> None:
    file = ProcessFile.create(tmp_path, ANNA)
    assert file.in_place()
    lock_path(tmp_path, ANNA).unlink()
    assert not file.in_place()
    lock_path(tmp_path, ANNA).touch()
    assert not file.in_place()
    file.close()
    assert lock_path(tmp_path, ANNA).exists()


def test_a_corpse_tells_what_had_started_and_is_removed_whole(tmp_path: Path) -> None:
    marks = (Mark(JOB, 1), Mark(OTHER, 7, INTERRUPTED), Mark(JOB, 2, INTERRUPTED | TIMED_OUT))
    left_by(tmp_path, ANNA, *marks)
    os.mkfifo(fifo_path(tmp_path, ANNA))
    with probe(tmp_path, ANNA) as corpse:
        assert corpse is not None
        assert corpse.readable
        assert corpse.same_boot
        assert not corpse.gone
        assert corpse.pid == os.getpid()
        assert sorted(corpse.marks) == sorted(marks)
        corpse.remove()
        corpse.remove()
    assert names_in(tmp_path) == []


def test_a_corpse_is_held_by_one_finder_and_found_again_if_it_stays(tmp_path: Path) -> None:
    left_by(tmp_path, ANNA)
    with probe(tmp_path, ANNA) as corpse:
        assert corpse is not None
        assert probe(tmp_path, ANNA).alive
    assert not probe(tmp_path, ANNA).alive


def test_whoever_gets_the_lock_too_late_finds_it_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left_by(tmp_path, ANNA, Mark(JOB, 1))
    try_lock = posix.try_lock

    def after_somebody_else(descriptor: int) -> bool:
        path.unlink()
        return try_lock(descriptor)

    monkeypatch.setattr(posix, "try_lock", after_somebody_else)
    with probe(tmp_path, ANNA) as corpse:
        assert corpse is not None
        assert corpse.gone
        assert not corpse.readable
        assert corpse.marks == ()


def test_a_process_without_files_is_gone(tmp_path: Path) -> None:
    with probe(tmp_path, ANNA) as corpse:
        assert corpse is not None
        assert corpse.gone
        assert not corpse.readable
        assert not corpse.same_boot
        corpse.remove()


@pytest.mark.parametrize("text", ["", "../outside", "A" * 32, "a" * 31, "a" * 32 + "\n"])
def test_what_cannot_be_an_id_is_gone_and_touches_nothing(tmp_path: Path, text: str) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside.lock"
    folder.mkdir()
    outside.touch()
    with probe(folder, text) as corpse:
        assert corpse is not None
        assert corpse.gone
        corpse.remove()
    assert outside.exists()


def test_a_lock_file_removed_by_hand_does_not_make_a_listening_process_dead(
    tmp_path: Path,
) -> None:
    mailbox = Mailbox.create(tmp_path, ANNA)
    file = ProcessFile.create(tmp_path, ANNA)
    lock_path(tmp_path, ANNA).unlink()
    answer = probe(tmp_path, ANNA)
    assert answer.alive
    assert answer.undecided is not None
    assert "removed while in use" in answer.undecided
    mailbox.close()
    assert not probe(tmp_path, ANNA).alive
    file.close()


def test_a_missing_folder_makes_nobody_dead(tmp_path: Path) -> None:
    answer = probe(tmp_path / "missing", ANNA)
    assert answer.alive
    assert answer.undecided is not None


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO, errno.EOPNOTSUPP])
def test_a_lock_that_cannot_be_asked_makes_nobody_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    left_by(tmp_path, ANNA)

    def fail(descriptor: int) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(posix, "try_lock", fail)
    with probe(tmp_path, ANNA) as corpse:
        assert corpse is None
    assert probe(tmp_path, ANNA).undecided == (
        f"{lock_path(tmp_path, ANNA)} cannot be examined: {os.strerror(number)}"
    )


def test_a_file_that_cannot_be_opened_makes_nobody_dead(tmp_path: Path) -> None:
    lock_path(tmp_path, ANNA).symlink_to(tmp_path / "elsewhere")
    assert probe(tmp_path, ANNA).undecided is not None


def test_marks_of_before_a_reboot_are_told_apart(tmp_path: Path) -> None:
    left_by(tmp_path, ANNA, Mark(JOB, 1), boot_id="the boot before")
    with probe(tmp_path, ANNA) as corpse:
        assert corpse is not None
        assert corpse.readable
        assert not corpse.same_boot
    with probe(tmp_path, ANNA, boot_id="the boot before") as corpse:
        assert corpse is not None
        assert corpse.same_boot


@pytest.mark.parametrize("garbage", [b"", b"garbage", bytes(4096), b"\xff" * 9000])
def test_garbage_is_an_unreadable_corpse(tmp_path: Path, garbage: bytes) -> None:
    path = left_by(tmp_path, ANNA, Mark(JOB, 1))
    path.write_bytes(garbage)
    with probe(tmp_path, ANNA) as corpse:
        assert corpse is not None
        assert not corpse.readable
        assert not corpse.gone
        assert corpse.marks == ()
        corpse.remove()
    assert not path.exists()


def test_slots_are_used_again_and_the_file_grows_when_all_are_taken(tmp_path: Path) -> None:
    file = ProcessFile.create(tmp_path, ANNA)
    slots = [file.mark(number.to_bytes(16), number) for number in range(FIRST_SLOTS * 5)]
    assert sorted(slots) == list(range(FIRST_SLOTS * 5))
    for slot in slots[::2]:
        file.clear(slot)
        file.clear(slot)
    size = lock_path(tmp_path, ANNA).stat().st_size
    again = [file.mark(JOB, 1) for _ in slots[::2]]
    assert sorted(again) == slots[::2]
    assert lock_path(tmp_path, ANNA).stat().st_size == size
    expected = sorted(file.marks())
    file.close(remove=False)
    with probe(tmp_path, ANNA) as corpse:
        assert corpse is not None
        assert corpse.readable
        assert sorted(corpse.marks) == expected


def test_a_flag_for_a_cleared_mark_changes_nothing(tmp_path: Path) -> None:
    file = ProcessFile.create(tmp_path, ANNA)
    slot = file.mark(JOB, 1)
    file.clear(slot)
    file.annotate(slot, INTERRUPTED)
    assert file.marks() == []
    assert file.mark(OTHER, 2) == slot
    assert file.marks() == [Mark(OTHER, 2)]
    file.close()


def test_an_attempt_that_cannot_be_marked_is_not_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ProcessFile.create(tmp_path, ANNA)

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreUnavailableError, match="No space left"):
            file.mark(JOB, 1)
    assert file.marks() == []
    first = [file.mark(JOB, number) for number in range(FIRST_SLOTS)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreUnavailableError):
            file.mark(JOB, 1)
    assert sorted([*first, file.mark(JOB, 1)]) == list(range(FIRST_SLOTS + 1))
    file.close()


def test_attempts_that_start_together_are_marked_by_one_write_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ProcessFile.create(tmp_path, ANNA)
    kept = file.mark(OTHER, 7)
    plain, written = os.pwrite, list[int]()

    def counted(descriptor: int, data: bytes, offset: int) -> int:
        written.append(len(data))
        return plain(descriptor, data, offset)

    def full(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    starts = [(JOB, number) for number in range(1, 11)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StoreUnavailableError):
            file.mark_all(starts)
    assert file.marks() == [Mark(OTHER, 7)]
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", counted)
        slots = file.mark_all(starts)
        # Taken again after they were cleared, they are neighbours as before.
        file.clear(*slots)
        file.mark_all(starts)
    assert len(written) == 3
    assert max(written) <= 10 * RECORD_SIZE
    assert len({*slots, kept}) == 11
    found = decode_file(lock_path(tmp_path, ANNA).read_bytes())
    assert found.readable
    assert set(found.marks) == {Mark(OTHER, 7), *(Mark(JOB, number) for _, number in starts)}
    file.close(remove=False)


def test_threads_never_share_a_slot(tmp_path: Path) -> None:
    file = ProcessFile.create(tmp_path, ANNA)
    taken: list[int] = []

    def work(thread: int) -> None:
        for number in range(200):
            slot = file.mark(bytes([thread]) * 16, number)
            if number % 2:
                file.clear(slot)
            else:
                taken.append(slot)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == len(taken) == 400
    assert len(file.marks()) == 400
    file.close()


def test_files_of_processes_that_died_while_starting_are_removed(tmp_path: Path) -> None:
    left_by(tmp_path, ANNA).rename(new_path(lock_path(tmp_path, ANNA)))
    os.mkfifo(new_path(fifo_path(tmp_path, ANNA)))
    starting = ProcessFile.create(tmp_path, BERT)
    lock_path(tmp_path, BERT).rename(new_path(lock_path(tmp_path, BERT)))
    assert len(list_leftovers(tmp_path)) == 3
    assert list_processes(tmp_path) == []
    probing.remove_leftovers(tmp_path)
    assert list_leftovers(tmp_path) == [new_path(lock_path(tmp_path, BERT))]
    starting.close()


def test_a_file_taken_for_a_leftover_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "name"
    tries: list[Path] = []

    def make(temporary: Path) -> str | None:
        tries.append(temporary)
        if len(tries) > 2:
            temporary.touch()
        return None if len(tries) == 1 else "made"

    assert publish(path, make) == "made"
    assert path.exists()
    assert tries == [tmp_path / ".name"] * 3
    with pytest.raises(StoreUnavailableError, match="removed 5 times"):
        publish(tmp_path / "other", lambda temporary: None)


def test_writers_take_turns_also_within_one_process(tmp_path: Path) -> None:
    first, second = WritersLock(tmp_path), WritersLock(tmp_path)
    with first:
        assert not second.try_acquire()
        assert not first.try_acquire()  # another thread with the same lock
    assert second.try_acquire()
    assert not first.try_acquire()
    second.release()
    second.close()
    assert first.try_acquire()
    first.release()
    first.close()
    assert writers_lock_path(tmp_path).exists()
    with pytest.raises(NotStartedError, match="closed"):
        first.acquire()


def test_a_writer_waits_until_the_other_has_done(tmp_path: Path) -> None:
    first, second = WritersLock(tmp_path), WritersLock(tmp_path)
    order: list[str] = []

    def wait() -> None:
        with second:
            order.append("second")

    thread = threading.Thread(target=wait)
    with first:
        thread.start()
        thread.join(0.02)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    first.close()
    second.close()


def test_a_system_without_flock_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(ConfigurationError, match="POSIX only for now"):
        posix.require_posix()
