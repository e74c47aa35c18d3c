"""What can be known of a death: the end, the stack, the memory; and what may not be said.

What lives here: `deaths`, `last_words`, `memory` and `system_processes` of `processes`, with files
as a system would have them. What does not: real deaths (`tests/crash/test_blame.py`).
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded_tasks.processes import Death, LastWords, ProcessFile, examine, list_processes, probe
from embedded_tasks.processes.layout import trace_path
from embedded_tasks.processes.memory import OutOfMemory, count_out_of_memory
from embedded_tasks.processes.system_processes import read_stat, started_ticks

ID = "a" * 32
NOW = 1_000_000_000.0
FOUND = "It was found dead at 2001-09-09 01:46:40 UTC."
NONE = OutOfMemory("nowhere", 0)


@pytest.fixture(autouse=True)
def no_faulthandler() -> Iterator[None]:
    """As in an app: pytest's own use of it is off for a moment."""
    if not faulthandler.is_enabled():
        yield
        return
    faulthandler.disable()
    yield
    faulthandler.enable(os.dup(2))


def leave(folder: Path, text: str = "", **facts: Any) -> None:
    """Write what a process would leave."""
    trace_path(folder, ID).write_text(json.dumps(facts) + "\n" + text)


def fork() -> int:
    with warnings.catch_warnings(action="ignore"):  # of threads: pytest's watchdog is one
        return os.fork()


def stat_file(proc: Path, pid: int, *, state: str, started: int, status: int) -> None:
    fields = [state, *["0"] * 18, str(started), *["0"] * 29, str(status)]
    (proc / str(pid)).mkdir(parents=True)
    (proc / str(pid) / "stat").write_text(f"{pid} (a (very) odd name) {' '.join(fields)}\n")


def death(folder: Path, memory: OutOfMemory = NONE) -> Death:
    return examine(folder, ID, NOW, memory=memory, proc=folder / "proc")


# The end.


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (signal.SIGKILL, "killed by SIGKILL"),
        (signal.SIGABRT | 0x80, "killed by SIGABRT"),  # with a core
        (3 << 8, "exit code 3"),
        (0, "exit code 0"),
        (63, "killed by signal 63"),
    ],
)
def test_a_zombie_tells_how_it_ended(tmp_path: Path, status: int, words: str) -> None:
    leave(tmp_path, pid=77, started=5)
    stat_file(tmp_path / "proc", 77, state="Z", started=5, status=status)
    assert death(tmp_path).end == words


def test_a_reused_pid_tells_nothing(tmp_path: Path) -> None:
    leave(tmp_path, pid=77, started=5)
    stat_file(tmp_path / "proc", 77, state="Z", started=6, status=9)
    assert death(tmp_path) == Death(at=FOUND)


def test_who_is_on_its_way_out_and_has_not_said_how_tells_nothing(tmp_path: Path) -> None:
    leave(tmp_path, pid=77, started=5)
    stat_file(tmp_path / "proc", 77, state="R", started=5, status=0)
    assert death(tmp_path).end == ""


def test_who_is_gone_tells_nothing(tmp_path: Path) -> None:
    assert death(tmp_path) == Death(at=FOUND)
    leave(tmp_path, pid=77, started=5)
    assert death(tmp_path) == Death(at=FOUND)


@pytest.mark.parametrize("text", ["", "no json\n", "[]\n", '{"pid": "x", "started": {}}\n', "\0"])
def test_whatever_is_in_the_file_is_no_error(tmp_path: Path, text: str) -> None:
    trace_path(tmp_path, ID).write_text(text)
    assert death(tmp_path, OutOfMemory("here", 9)) == Death(at=FOUND)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}\nFatal Python error: a secret")
    trace_path(tmp_path, ID).symlink_to("secret")
    assert death(tmp_path).stack is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no Linux")
def test_the_system_tells_of_a_real_process() -> None:
    pid = fork()
    if pid == 0:
        signal.pause()
        os._exit(1)
    started = started_ticks(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked
    assert read_stat(pid) == ("Z", started, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert read_stat(pid) is None
    assert started_ticks(os.getpid()) is not None


# The stack.

CRASH = """Fatal Python error: Segmentation fault

Thread 0x01 (most recent call first):
  File "threading.py", line 1 in wait

Current thread 0x02 (most recent call first):
  File "shop.py", line 7 in resize
"""


def test_the_thread_that_crashed_comes_first_and_the_time_is_that_of_the_crash(
    tmp_path: Path,
) -> None:
    leave(tmp_path, CRASH)
    os.utime(trace_path(tmp_path, ID), (NOW - 60, NOW - 60))
    found = death(tmp_path)
    assert found.end == "Segmentation fault"
    assert found.at == "It died at 2001-09-09 01:45:40 UTC."
    head, current, other = (found.stack or "").split("\n\n")
    assert head == "Fatal Python error: Segmentation fault"
    assert "line 7 in resize" in current
    assert "threading.py" in other


def test_of_two_fatal_signals_the_last_one_counts(tmp_path: Path) -> None:
    leave(tmp_path, "Fatal Python error: Aborted\n\nThread 1\n" + CRASH)
    assert death(tmp_path).end == "Segmentation fault"


def test_a_stack_of_any_length_is_kept_short(tmp_path: Path) -> None:
    leave(tmp_path, CRASH.replace("Thread 0x01", "x" * 300_000, 1))
    stack = death(tmp_path).stack or ""
    assert len(stack) < 17_000
    assert stack.endswith("... cut ...")


# Memory.


@pytest.mark.parametrize(
    ("kills", "words"),
    [
        (4, ""),
        (3, ""),  # counted anew
        (5, "Perhaps memory ran out: since it began, the kernel has killed 1 process in its"),
        (7, "Perhaps memory ran out: since it began, the kernel has killed 3 processes in its"),
    ],
)
def test_more_kills_than_at_the_start_are_a_hint_and_no_more(
    tmp_path: Path, kills: int, words: str
) -> None:
    leave(tmp_path, oom=["/sys/fs/cgroup/app#1", 4])
    found = death(tmp_path, OutOfMemory("/sys/fs/cgroup/app#1", kills))
    assert found.memory.startswith(words)
    assert bool(found.memory) == bool(words)


def test_the_counter_of_another_group_says_nothing(tmp_path: Path) -> None:
    leave(tmp_path, oom=["/sys/fs/cgroup/app#1", 4])
    assert death(tmp_path, OutOfMemory("/sys/fs/cgroup/app#2", 9)).memory == ""


def test_a_kill_somewhere_on_the_machine_is_called_so(tmp_path: Path) -> None:
    leave(tmp_path, oom=["/proc/vmstat#1", 4])
    assert "1 process on this machine" in death(tmp_path, OutOfMemory("/proc/vmstat#1", 5)).memory


def system(root: Path, cgroup: str, **files: str) -> Path:
    """Make the folders of a system; the names of the files have dashes for slashes."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/vmstat").write_text("pgfault 1\noom_kill 40\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V2 = "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"


@pytest.mark.parametrize(
    ("cgroup", "files", "source", "kills"),
    [
        ("0::/app\n", {"app__memory_DOT_events": V2}, "sys/fs/cgroup/app/memory.events", 2),
        ("0::/\n", {"memory_DOT_events": V2}, "sys/fs/cgroup/memory.events", 2),
        # The path is the host's, and what is seen is the group itself.
        ("0::/../app\n", {"memory_DOT_events": V2}, "sys/fs/cgroup/memory.events", 2),
        (
            "4:cpu,cpuacct:/x\n3:memory:/app\n0::/x\n",
            {"memory__app__memory_DOT_oom_control": V1},
            "sys/fs/cgroup/memory/app/memory.oom_control",
            3,
        ),
        ("0::/\n", {}, "proc/vmstat", 40),
        ("nonsense", {}, "proc/vmstat", 40),
    ],
)
def test_the_nearest_counter_is_read_whatever_the_version(
    tmp_path: Path, cgroup: str, files: dict[str, str], source: str, kills: int
) -> None:
    counted = count_out_of_memory(system(tmp_path, cgroup, **files))
    assert counted is not None
    assert (counted.source.partition("#")[0], counted.kills) == (f"/{source}", kills)
    assert counted.of_machine == (source == "proc/vmstat")


def test_a_system_without_counters_has_none(tmp_path: Path) -> None:
    assert count_out_of_memory(tmp_path) is None


# The words.


def test_a_death_in_words() -> None:
    full = Death("It died at noon.", "killed by SIGKILL", "Perhaps memory ran out.")
    assert full.sentence(7, 2) == (
        "Its process (pid 7) died while it ran, with 2 others: killed by SIGKILL. "
        "It died at noon. Perhaps memory ran out."
    )
    assert Death().sentence(7, 1) == "Its process (pid 7) died while it ran, with 1 other."
    assert Death().sentence(7, 0) == "Its process (pid 7) died while it ran."


# What a process leaves.


def test_a_process_leaves_who_it_is_and_removes_it_when_it_ends_in_good_order(
    tmp_path: Path,
) -> None:
    words = LastWords(tmp_path, ID)
    words.begin()
    facts = json.loads(trace_path(tmp_path, ID).read_text())
    assert (facts["pid"], facts["started"]) == (os.getpid(), started_ticks(os.getpid()))
    assert trace_path(tmp_path, ID).stat().st_mode & 0o777 == 0o600
    assert faulthandler.is_enabled()
    words.close()
    assert not faulthandler.is_enabled()
    assert not trace_path(tmp_path, ID).exists()
    words.close()


def test_an_app_s_own_faulthandler_is_left_alone(tmp_path: Path) -> None:
    with (tmp_path / "own").open("w") as own:
        faulthandler.enable(own)
        words = LastWords(tmp_path, ID)
        words.begin()
        words.close()
        assert faulthandler.is_enabled()
        faulthandler.disable()


def test_an_app_that_takes_over_later_keeps_it(tmp_path: Path) -> None:
    words = LastWords(tmp_path, ID)
    words.begin()
    with (tmp_path / "own").open("w") as own:
        faulthandler.enable(own)
        words.close()
        assert faulthandler.is_enabled()
        faulthandler.disable()


def test_a_second_runner_of_a_process_takes_nothing_from_the_first(tmp_path: Path) -> None:
    one, two = LastWords(tmp_path, ID), LastWords(tmp_path, "b" * 32)
    one.begin()
    two.begin()
    two.close()
    assert faulthandler.is_enabled()
    one.close()
    assert not faulthandler.is_enabled()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    words = LastWords(tmp_path / "missing", ID)
    words.begin()
    words.close()
    assert not faulthandler.is_enabled()


def test_a_forked_child_neither_writes_there_nor_removes_it(tmp_path: Path) -> None:
    words = LastWords(tmp_path, ID)
    words.begin()
    pid = fork()
    if pid == 0:
        fine = not faulthandler.is_enabled()
        words.close()
        os._exit(0 if fine else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert faulthandler.is_enabled()
    assert trace_path(tmp_path, ID).exists()
    words.close()


def test_a_corpse_is_removed_with_its_words(tmp_path: Path) -> None:
    file, words = ProcessFile.create(tmp_path, ID), LastWords(tmp_path, ID)
    words.begin()
    words.stop()
    file.close(remove=False)
    with probe(tmp_path, ID) as corpse:
        assert corpse is not None
        corpse.remove()
    assert list(tmp_path.iterdir()) == []


def test_words_that_were_left_alone_are_found_and_removed(tmp_path: Path) -> None:
    leave(tmp_path)  # by a release that did not know them
    assert list_processes(tmp_path) == [ID]
    with probe(tmp_path, ID) as corpse:
        assert corpse is not None
        assert corpse.gone
        corpse.remove()
    assert list_processes(tmp_path) == []
