"""What operators do: pause and resume queues, retry, cancel, run now, delete, one or many.

What lives here: `Control`, which writes down who did what. What does not: who may; that is the
door's. Reached as `runner.control`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Protocol

from embedded_tasks.clock import Clock
from embedded_tasks.config import check_label
from embedded_tasks.errors import (
    ConfigurationError,
    EmbeddedTasksError,
    JobNotFoundError,
    JobStateError,
)
from embedded_tasks.failure import storable
from embedded_tasks.handle import CancelAnswer
from embedded_tasks.job import ShownState
from embedded_tasks.processes import Kind
from embedded_tasks.reported import AuditPage
from embedded_tasks.session import Session
from embedded_tasks.store import Act, JobFilter

__all__ = ["BULK_CAP", "Action", "BulkReport", "Canceller", "Control", "states_for"]

BULK_CAP: Final = 1_000
"""How many jobs one bulk action changes at most, unless told otherwise."""


_BATCH: Final = 100
_PAGE: Final = 1_000
_LARGEST_CAP: Final = 100_000
_LONGEST_WHO: Final = 200


class Canceller(Protocol):
    """Cancels a job, wherever it is."""

    def __call__(self, job_id: str, *, reason: str) -> Awaitable[CancelAnswer]:
        """Cancel it."""
        ...


class Action(StrEnum):
    """What can be done to a job."""

    RETRY = "retry"
    """Queue a finished or held job again."""
    CANCEL = "cancel"
    """Cancel a waiting, held or running job."""
    RUN_NOW = "run_now"
    """Make a scheduled or retrying job due now."""
    DELETE = "delete"
    """Remove a finished or held job with all that is known of it."""


_ENDED: Final = (
    ShownState.SUCCEEDED,
    ShownState.FAILED,
    ShownState.CANCELLED,
    ShownState.EXPIRED,
    ShownState.HELD,
)
_ALLOWED: Final[Mapping[Action, tuple[ShownState, ...]]] = {
    Action.RETRY: _ENDED,
    Action.CANCEL: (
        ShownState.SCHEDULED,
        ShownState.RETRYING,
        ShownState.QUEUED,
        ShownState.RUNNING,
        ShownState.HELD,
    ),
    Action.RUN_NOW: (ShownState.SCHEDULED, ShownState.RETRYING),
    Action.DELETE: _ENDED,
}
# What is done already is done again only on purpose.
_UNNAMED: Final[Mapping[Action, tuple[ShownState, ...]]] = {
    Action.RETRY: tuple(state for state in _ENDED if state is not ShownState.SUCCEEDED)
}


def states_for(action: Action, wanted: Sequence[ShownState] = ()) -> list[ShownState]:
    """Return the states of the jobs that a bulk action is for.

    Args:
        action: What is to be done.
        wanted: The states that a filter names; none where it names none.
    """
    wanted = wanted or _UNNAMED.get(action, tuple(ShownState))
    return [state for state in _ALLOWED[action] if state in wanted]


@dataclass(frozen=True, slots=True)
class BulkReport:
    """What a bulk action did, or would do.

    Args:
        matched: How many jobs the filter or the ids meant whose state allows the action.
        changed: How many were changed; 0 for a dry run.
        capped: Whether there are more than the cap; the rest is as it was.
        dry_run: Whether nothing was changed.
    """

    matched: int
    changed: int
    capped: bool
    dry_run: bool = False


class Control:
    """Acts on jobs and queues, and keeps who did what.

    Args:
        session: Returns the running session; raises `NotStartedError` when there is none.
        clock: Where the time comes from.
        cancel: Cancels a job; the runner's own.
    """

    def __init__(self, session: Callable[[str], Session], clock: Clock, cancel: Canceller) -> None:
        self._session = session
        self._clock = clock
        self._cancel = cancel

    async def pause(self, queue: str, *, by: str | None = None) -> bool:
        """Keep the jobs of a queue from starting, in all processes, until it is resumed.

        Jobs that run go on. New ones are stored as always, and wait.

        Args:
            queue: Its name; it need not have jobs yet.
            by: Who does it, for the audit.

        Returns:
            Whether it was not paused before.

        Raises:
            ConfigurationError: No queue can have this name.

        Example:
            `await runner.control.pause("mail", by="ada")`
        """
        return await self._switch(True, check_label("queue", queue), by)

    async def resume(self, queue: str, *, by: str | None = None) -> bool:
        """Let the jobs of a queue start again; return whether it was paused."""
        return await self._switch(False, queue, by)

    async def retry(self, job_id: str, *, by: str | None = None) -> None:
        """Queue a finished or held job again.

        Raises:
            JobNotFoundError: No job has this id.
            JobStateError: It is queued or running.
        """
        session = self._session("retry")
        act = self._act(Action.RETRY, job_id, by)
        if not await session.store.steering.retry([job_id], act, act.now):
            raise await self._refused(session, job_id, "retried")
        session.queued_again(act.now)

    async def cancel(
        self,
        job_id: str,
        *,
        by: str | None = None,
        reason: str = "It was cancelled by an operator.",
    ) -> CancelAnswer:
        """Cancel a job: at once if it waits, as far as that can be done if it runs.

        Raises:
            JobNotFoundError: No job has this id.
        """
        session = self._session("cancel")
        answer = await self._cancel(job_id, reason=reason)
        if answer is not CancelAnswer.FINISHED:
            details = {"answer": answer.value}
            await session.store.steering.write_down(self._act(Action.CANCEL, job_id, by, details))
        return answer

    async def run_now(self, job_id: str, *, by: str | None = None) -> None:
        """Make a scheduled or retrying job due now.

        Raises:
            JobNotFoundError: No job has this id.
            JobStateError: It does not wait for its time.
        """
        session = self._session("run_now")
        act = self._act(Action.RUN_NOW, job_id, by)
        if not await session.store.steering.run_now([job_id], act, act.now):
            raise await self._refused(session, job_id, "run now")
        session.queued_again(act.now)

    async def delete(self, job_id: str, *, by: str | None = None) -> None:
        """Remove a finished or held job, with its attempts, progress and log.

        Raises:
            JobNotFoundError: No job has this id.
            JobStateError: It is queued or running; cancel it first.
        """
        session = self._session("delete")
        act = self._act(Action.DELETE, job_id, by)
        if not await session.store.steering.delete([job_id], act):
            raise await self._refused(session, job_id, "deleted")

    async def bulk(
        self,
        action: Action | str,
        chosen: JobFilter | Sequence[str],
        *,
        dry_run: bool = False,
        cap: int = BULK_CAP,
        by: str | None = None,
    ) -> BulkReport:
        """Do the same to many jobs, in batches that let other writers in between.

        Args:
            action: What to do; jobs whose state does not allow it are left alone.
            chosen: A filter (its `before` and `limit` do not count), or ids. What has succeeded is
                done again only if the filter names that state.
            dry_run: Only count.
            cap: How many jobs at most (1 to 100,000).
            by: Who does it, for the audit: one entry, with the filter and the count.

        Raises:
            ConfigurationError: There is no such action, or the cap is out of range.

        Example:
            `await runner.control.bulk("retry", JobFilter(group=group.id), dry_run=True)`
        """
        what = _action(action)
        if not 1 <= cap <= _LARGEST_CAP:
            raise ConfigurationError(f"cap={cap!r}: expected an int from 1 to {_LARGEST_CAP}.")
        session = self._session("bulk")
        ids, capped = await self._chosen(session, what, chosen, cap)
        if dry_run:
            return BulkReport(len(ids), 0, capped, dry_run=True)
        changed = 0
        for start in range(0, len(ids), _BATCH):
            changed += await self._do(session, what, ids[start : start + _BATCH])
        words = chosen.in_words() if isinstance(chosen, JobFilter) else f"{len(chosen)} ids"
        details = {"matched": len(ids), "changed": changed, "capped": capped}
        await session.store.steering.write_down(self._act(f"bulk {what.value}", words, by, details))
        return BulkReport(len(ids), changed, capped)

    async def audit(self, *, before: int | None = None, limit: int = 50) -> AuditPage:
        """Return what operators did, newest first; the newest 10,000 entries are kept."""
        return await self._session("audit").store.views.audit(before, limit)

    # Below.

    def _act(
        self, action: str, target: str, by: str | None, details: Mapping[str, Any] | None = None
    ) -> Act:
        who = None if by is None else storable(by[:_LONGEST_WHO])
        return Act(self._clock.now(), who, str(action), storable(target), details or {})

    async def _switch(self, pause: bool, queue: str, by: str | None) -> bool:
        session = self._session("pause" if pause else "resume")
        steering = session.store.steering
        act = self._act("pause" if pause else "resume", queue, by)
        done = await (steering.pause(act) if pause else steering.resume(act))
        await session.look_at_queues()
        session.peers.broadcast(Kind.QUEUES)
        return done

    async def _refused(self, session: Session, job_id: str, wanted: str) -> EmbeddedTasksError:
        """Return why a job was not changed."""
        record = await session.store.read.get(job_id, self._clock.now())
        if record is None:
            return JobNotFoundError(job_id)
        return JobStateError(job_id, record.shown, wanted)

    async def _chosen(
        self, session: Session, what: Action, chosen: JobFilter | Sequence[str], cap: int
    ) -> tuple[list[str], bool]:
        """Return the ids of the jobs whose state allows an action, and whether there are more."""
        if not isinstance(chosen, JobFilter):
            allowed: list[str] = []
            for job_id in dict.fromkeys(chosen):
                record = await session.store.read.get(job_id, self._clock.now())
                if record is not None and record.shown in _ALLOWED[what]:
                    allowed.append(job_id)
                if len(allowed) > cap:
                    return allowed[:cap], True
            return allowed, False
        states = states_for(what, chosen.states)
        if not states:
            return [], False
        found: list[str] = []
        rest = replace(chosen, state=states, before=None, limit=min(cap + 1, _PAGE))
        while len(found) <= cap:
            ids, page = await session.store.views.keys(rest, self._clock.now())
            found += ids
            if page.next is None:
                break
            rest = replace(rest, before=page.next)
        return found[:cap], len(found) > cap

    async def _do(self, session: Session, what: Action, ids: list[str]) -> int:
        steering, now = session.store.steering, self._clock.now()
        match what:
            case Action.RETRY:
                changed = len(await steering.retry(ids, None, now))
            case Action.RUN_NOW:
                changed = len(await steering.run_now(ids, None, now))
            case Action.DELETE:
                return len(await steering.delete(ids, None))
            case Action.CANCEL:
                answers = [await self._cancel_known(job_id) for job_id in ids]
                return sum(answers)
        if changed:
            session.queued_again(now)
        return changed

    async def _cancel_known(self, job_id: str) -> bool:
        try:
            answer = await self._cancel(job_id, reason="It was cancelled by an operator.")
        except JobNotFoundError:
            return False
        return answer is not CancelAnswer.FINISHED


def _action(action: Action | str) -> Action:
    try:
        return Action(action)
    except ValueError:
        known = ", ".join(item.value for item in Action)
        raise ConfigurationError(f"action={action!r}: expected one of {known}.") from None
