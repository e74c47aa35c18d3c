"""Before a deploy: which waiting jobs could the new code not run?

What lives here: `check`, and the report it returns. What does not: reading the file, which is the
store's (`store/looking.py`). Called by users; each runner has what it needs as `checking`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from embedded_tasks.codec import Codec
from embedded_tasks.errors import ConfigurationError, PayloadError, UnknownTaskError
from embedded_tasks.failure import storable
from embedded_tasks.store import WaitingJob, look_at_waiting
from embedded_tasks.task import Catalogue
from embedded_tasks.versions import split_name

__all__ = ["CheckFinding", "CheckReport", "Checkable", "Checking", "check"]

_MOST_FINDINGS = 100
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """Waiting jobs that this code could not run, all for one reason.

    Args:
        task: The task's name.
        version: The version of the task that stored them.
        reason: Why this code could not run them.
        jobs: How many there are.
        examples: The ids of the first few.
    """

    task: str
    version: int
    reason: str
    jobs: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check has found; `str(report)` says it in lines.

    Args:
        file: The file that was looked at; None where there is none.
        waiting: How many jobs have not finished.
        findings: What could not be run, the largest group first, at most 100 groups.
        others: How many more jobs could not be run, of groups beyond these.
    """

    file: str | None
    waiting: int
    findings: tuple[CheckFinding, ...]
    others: int = 0

    @property
    def ok(self) -> bool:
        """Whether this code could run every waiting job."""
        return not self.findings

    def __str__(self) -> str:
        lines = [f"{self.file or 'no file'}: {self.waiting} jobs have not finished."]
        for found in self.findings:
            version = f" (version {found.version})" if found.version > 1 else ""
            lines.append(
                f"{found.jobs} of {found.task}{version} could not be run: {found.reason} "
                f"For example {', '.join(found.examples)}."
            )
        if self.others:
            lines.append(f"{self.others} more could not be run, for other reasons.")
        return "\n".join(lines if self.findings else [*lines, "This code can run all of them."])


class Checking:
    """What a runner needs for a check, whether it runs or not.

    Args:
        catalogue: Its tasks.
        codec: Its payload format.
        file: Returns its file, or None where it has none.
    """

    def __init__(self, catalogue: Catalogue, codec: Codec, file: Callable[[], str | None]) -> None:
        self._catalogue = catalogue
        self._codec = codec
        self._file = file
        self.prepare: list[Callable[[], None]] = []
        """Make the packages of an app known, which its start does otherwise."""

    def run(self, file: str | os.PathLike[str] | None) -> CheckReport:
        """Look at a file, or the runner's own."""
        path = self._file() if file is None else os.fspath(file)
        if path is None:
            return CheckReport(None, 0, ())
        for prepare in self.prepare:
            prepare()
        tally = _Tally()

        def see(jobs: Iterator[WaitingJob]) -> None:
            tally.clear()
            for job in jobs:
                tally.add(job, self._problem(job))

        schema = look_at_waiting(path, see)
        return tally.report(path if schema else None)

    def _problem(self, job: WaitingJob) -> str | None:
        """Return why a job could not be run, as its attempt would find it."""
        try:
            task = self._catalogue.find(job.stored_name)
            self._codec.policy(task.policy, job.options)
            task.fitted(split_name(job.stored_name)[1], *self._codec.arguments(job.args))
        except UnknownTaskError as error:
            return f"{error.reason}."
        except (ConfigurationError, PayloadError) as error:
            return str(error) if str(error).endswith(".") else f"{error}."
        return None


class _Tally:
    """Findings as they come; their number is bounded, whatever the file holds."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._waiting = self._others = 0
        self._groups: dict[tuple[str, str], tuple[int, tuple[str, ...]]] = {}

    def add(self, job: WaitingJob, problem: str | None) -> None:
        self._waiting += 1
        if problem is None:
            return
        key = job.stored_name, storable(problem)
        if key not in self._groups and len(self._groups) >= _MOST_FINDINGS:
            self._others += 1
            return
        count, examples = self._groups.get(key, (0, ()))
        self._groups[key] = count + 1, (*examples, job.id)[:_EXAMPLES]

    def report(self, file: str | None) -> CheckReport:
        found = [
            CheckFinding(*split_name(stored), reason, jobs, examples)
            for (stored, reason), (jobs, examples) in self._groups.items()
        ]
        found.sort(key=lambda finding: -finding.jobs)
        return CheckReport(file, self._waiting, tuple(found), self._others)


class Checkable(Protocol):
    """A runner."""

    @property
    def checking(self) -> Checking:
        """What it needs for a check."""
        ...


def check(runner: Checkable, file: str | os.PathLike[str] | None = None) -> CheckReport:
    """Tell before a deploy which waiting jobs this code could not run; nothing is changed.

    Run it with the new code while the old processes run. The file is read and neither written nor
    migrated. It takes a while for many jobs; on an event loop, call it in a thread.

    Args:
        runner: The app's runner; it need not run.
        file: Another file, such as a copy (default: the runner's own).

    Returns:
        What could not be run, and why, in groups.

    Raises:
        StoreFormatError: A foreign or damaged file, or one that this release cannot read.
        StoreUnavailableError: It cannot be read just now.

    Example:
        ```python
        report = check(runner)
        print(report)
        raise SystemExit(0 if report.ok else 1)
        ```
    """
    return runner.checking.run(file)
