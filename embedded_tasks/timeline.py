"""What happened to a job, in order.

What lives here: making one list of its record, its attempts and what operators did. What does not:
reading them. Called by `reports`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from embedded_tasks.job import FINISHED, AttemptRecord, JobRecord, JobState
from embedded_tasks.reported import AuditEntry, TimelineEntry

__all__ = ["timeline_of"]

_BY_HAND = {
    "retry": "An operator queued it again.",
    "run_now": "An operator made it due.",
    "cancel": "An operator cancelled it.",
}
_RANKS = {"enqueued": 0, "by hand": 1}
"""What comes first of what happened at the same time: an act, and then what it led to."""


def timeline_of(record: JobRecord, acts: Sequence[AuditEntry]) -> list[TimelineEntry]:
    """Return the steps of a job's life.

    Args:
        record: The job, with its attempts and its progress.
        acts: What operators did to it.
    """
    steps = [TimelineEntry(record.created_at, "enqueued", text="It was stored.")]
    for attempt in record.attempts:
        steps += _attempted(attempt, record)
    steps += [
        TimelineEntry(
            act.at, "by hand", outcome=act.action, text=_BY_HAND.get(act.action), by=act.by
        )
        for act in acts
    ]
    steps += _now(record)
    # What has no time of its own stays behind what it was found behind.
    last = record.created_at
    keyed = []
    for step in steps:
        last = last if step.at is None else step.at
        keyed.append((last, _RANKS.get(step.what, len(_RANKS)), step))
    return [step for *_, step in sorted(keyed, key=lambda item: item[:2])]


def _attempted(attempt: AttemptRecord, record: JobRecord) -> Iterator[TimelineEntry]:
    number, error = attempt.number, attempt.error
    if attempt.started_at is not None:
        yield TimelineEntry(attempt.started_at, "started", number)
    kind = error.type if error else None
    said = error.message if error else None
    if attempt.outcome == "crashed":
        yield TimelineEntry(attempt.ended_at, "died", number, attempt.outcome, said, kind)
        if _goes_on(number, record):
            why = "It was put back, to be attempted again."
            yield TimelineEntry(attempt.ended_at, "replayed", number, text=why)
        return
    yield TimelineEntry(attempt.ended_at, "ended", number, attempt.outcome, said, kind)
    if attempt.outcome == "interrupted":
        why = "The process was stopped; the attempt is not charged."
        yield TimelineEntry(attempt.ended_at, "requeued", number, text=why)


def _goes_on(number: int, record: JobRecord) -> bool:
    return record.attempt > number or record.state in (JobState.QUEUED, JobState.RUNNING)


def _now(record: JobRecord) -> Iterator[TimelineEntry]:
    progress = record.progress
    if progress is not None:
        total = "" if progress.total is None else f" of {progress.total:g}"
        said = f"{progress.done:g}{total} {progress.message or ''}".rstrip()
        yield TimelineEntry(progress.at, "progress", progress.attempt, text=said)
    if record.state is JobState.RUNNING:
        yield TimelineEntry(record.started_at, "started", record.attempt)
    elif record.state is JobState.QUEUED:
        yield TimelineEntry(record.due_at, "due", text=record.reason)
    elif record.state is JobState.HELD:
        yield TimelineEntry(_last_end(record), "held", text=record.reason)
    elif record.state in FINISHED:
        yield TimelineEntry(
            record.finished_at, "finished", outcome=record.state.value, text=record.reason
        )


def _last_end(record: JobRecord) -> float | None:
    ends = [attempt.ended_at for attempt in record.attempts if attempt.ended_at is not None]
    return max(ends, default=None)
