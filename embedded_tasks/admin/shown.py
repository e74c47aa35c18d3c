"""Records of jobs as the routes tell them, secrets masked.

What lives here: `Shown`. What does not: the form of the answers (`models`) and of stored values
(`display`). Called by the endpoints and the dashboard.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from embedded_tasks.admin.models import (
    JobArgument,
    JobAttempt,
    JobAttemptError,
    JobDetails,
    JobLine,
    JobLog,
    JobLogLine,
    JobProgress,
    JobResult,
    JobStep,
)
from embedded_tasks.admin.moments import known_moment, moment
from embedded_tasks.display import Display, UnreadableError
from embedded_tasks.job import AttemptRecord, JobRecord, JobState, Progress
from embedded_tasks.masking import Masking
from embedded_tasks.reported import LogPage, TimelineEntry

__all__ = ["Shown", "lines_of", "progress_of"]

_UNNAMED = "Arguments without a known parameter name are masked: a name tells what is a secret."


class Shown:
    """Makes what the routes answer with, secrets masked.

    Args:
        masking: Which names hold secrets.
        parameters_of: Returns the names of a task's positional parameters, None where not known.
    """

    def __init__(
        self, masking: Masking, parameters_of: Callable[[str], Sequence[str] | None]
    ) -> None:
        self.masking: Masking = masking
        self._parameters_of = parameters_of

    def line(self, record: JobRecord, masking: Masking) -> JobLine:
        """Return a job for a list."""
        return JobLine(**self._line(record, masking))

    def details(self, record: JobRecord) -> JobDetails:
        """Return all of a job."""
        display = Display(self.masking)
        arguments, arguments_note = self._arguments(display, record)
        # From here on it also hides the secrets that are among the arguments.
        display = Display(masking := display.masking)
        result, result_note = _result(display, record)
        return JobDetails(
            **self._line(record, masking),
            failures=record.failures,
            crashes=record.crashes,
            snoozes=record.snoozes,
            on_crash=record.on_crash,
            start_by=moment(record.start_by),
            finish_by=moment(record.finish_by),
            options=_options(record.options),
            arguments=arguments,
            arguments_note=arguments_note,
            result=result,
            result_note=result_note,
            attempts=[_attempt(each, masking) for each in record.attempts],
            process=record.owner,
            traceparent=record.traceparent,
        )

    def masking_for(self, record: JobRecord) -> Masking:
        """Return what hides the secrets among a job's arguments too, wherever they are said."""
        return self.masking_of(record.task, record.args)

    def masking_of(self, task: str, args: str | None) -> Masking:
        """Return what hides the secrets among stored arguments too."""
        display = Display(self.masking)
        with suppress(UnreadableError):
            display.arguments(args or "", self._parameters_of(task))
        return display.masking

    def arguments_text(self, record: JobRecord) -> str:
        """Return the arguments as they are shown, as one text to search in."""
        arguments, _ = self._arguments(Display(self.masking), record)
        shown = [{each.name or "": each.value} for each in arguments or ()]
        return json.dumps(shown, ensure_ascii=False)

    def errors_text(self, record: JobRecord) -> str:
        """Return the reason and the errors as they are shown, as one text to search in."""
        masking = self.masking_for(record)
        errors = [attempt.error for attempt in record.attempts if attempt.error is not None]
        said = [record.reason or "", *(f"{error.type}: {error.message}" for error in errors)]
        return "\n".join(map(masking.text, said))

    def attempts(self, record: JobRecord) -> list[JobAttempt]:
        """Return the attempts of a job, the first one first."""
        masking = self.masking_for(record)
        return [_attempt(attempt, masking) for attempt in record.attempts]

    def result(self, record: JobRecord) -> JobResult:
        """Return what a job's function returned."""
        result, note = _result(Display(self.masking_for(record)), record)
        return JobResult(id=record.id, result=result, note=note)

    def timeline(self, record: JobRecord, steps: Sequence[TimelineEntry]) -> list[JobStep]:
        """Return the steps of a job's life."""
        masking = self.masking_for(record)
        return [
            JobStep(
                at=moment(step.at),
                what=step.what,
                attempt=step.attempt,
                outcome=step.outcome,
                text=step.text and masking.text(step.text),
                error_type=step.error_type,
                by=step.by,
            )
            for step in steps
        ]

    def log(self, record: JobRecord, page: LogPage) -> JobLog:
        """Return lines of a job's log."""
        masking = self.masking_for(record)
        lines = lines_of(page, masking)
        return JobLog(lines=lines, dropped=page.dropped, more=page.more)

    def _arguments(
        self, display: Display, record: JobRecord
    ) -> tuple[list[JobArgument] | None, str | None]:
        try:
            found = display.arguments(record.args or "", self._parameters_of(record.task))
        except UnreadableError as error:
            return None, str(error)
        arguments = [JobArgument(name=name, value=value) for name, value in found]
        return arguments, _UNNAMED if any(name is None for name, _ in found) else None

    @staticmethod
    def _line(record: JobRecord, masking: Masking) -> dict[str, Any]:
        return {
            "id": record.id,
            "task": record.task,
            "state": record.shown,
            "queue": record.queue,
            "tags": list(record.tags),
            "priority": record.priority,
            "attempt": record.attempt,
            "created_at": moment(record.created_at),
            "due_at": moment(record.due_at),
            "started_at": moment(record.started_at),
            "finished_at": moment(record.finished_at),
            "reason": record.reason and masking.text(record.reason),
            "held_for": record.held_for,
            "cancel_requested": record.cancel_requested,
            "request_id": record.request_id,
            "owner": record.belongs_to,
            "group": record.group,
            "progress": record.progress and progress_of(record.progress, masking),
        }


def lines_of(page: LogPage, masking: Masking) -> list[JobLogLine]:
    """Return the lines of a page."""
    return [
        JobLogLine(
            id=line.id,
            at=known_moment(line.at),
            attempt=line.attempt,
            level=line.level,
            text=masking.text(line.text),
            fields=masking.fields(line.fields),
        )
        for line in page.lines
    ]


def progress_of(progress: Progress, masking: Masking) -> JobProgress:
    """Return how far a job has come."""
    return JobProgress(
        done=progress.done,
        total=progress.total,
        share=progress.share,
        message=progress.message and masking.text(progress.message),
        at=known_moment(progress.at),
    )


def _attempt(attempt: AttemptRecord, masking: Masking) -> JobAttempt:
    error = attempt.error
    took = None
    if attempt.started_at is not None and attempt.ended_at is not None:
        took = max(attempt.ended_at - attempt.started_at, 0.0)
    return JobAttempt(
        number=attempt.number,
        outcome=attempt.outcome,
        started_at=moment(attempt.started_at),
        ended_at=moment(attempt.ended_at),
        seconds=took,
        error=None
        if error is None
        else JobAttemptError(
            type=error.type,
            message=masking.text(error.message),
            traceback=error.traceback and masking.text(error.traceback),
        ),
    )


def _result(display: Display, record: JobRecord) -> tuple[Any, str | None]:
    if record.result is None:
        kept = record.state is not JobState.SUCCEEDED
        return None, None if kept else record.reason or "Its value was not kept."
    try:
        return display.result(record.result), None
    except UnreadableError as error:
        return None, str(error)


def _options(text: str | None) -> dict[str, Any]:
    """Return the options that were given with the job; those that are columns are shown as such."""
    try:
        options = json.loads(text or "{}")
    except ValueError:  # the file may hold anything
        return {}
    return options if isinstance(options, dict) else {}
