"""Is everything well here, in words.

What lives here: one look at a running session. What does not: routes. Called by the runner.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from embedded_tasks.errors import StoreError
from embedded_tasks.overdue import overdue_problems
from embedded_tasks.session import Session
from embedded_tasks.store import Store

__all__ = ["Health", "health_of"]

_STALLED = 1.0


@dataclass(frozen=True, slots=True)
class Health:
    """The state of one process's runner.

    Args:
        ok: Whether nothing needs a person.
        problems: What is wrong, each with what to do.
        process: The id of this run.
        running: How many attempts run here.
        slots: How many may, by kind.
        stuck: How many functions go on although their attempt was given up.
        processes: The ids of living siblings.
        unknown_tasks: Stored names that this code does not have.
        recovered: How many jobs the start put back.
        can_store: Whether jobs can be read and stored now, as far as is known: from the first write
            that fails until one works again, and after a full disk until there is room on it, not.
        ready: Whether requests should come here: jobs can be stored, and the process is not about
            to end. A backlog or a failed job does not make it unready: a restart would not help.
        past: What has failed in the background and is over, with its time.
    """

    ok: bool
    problems: list[str]
    process: str
    running: int
    slots: dict[str, int]
    stuck: int
    processes: list[str]
    unknown_tasks: list[str] = field(default_factory=list)
    recovered: int = 0
    can_store: bool = True
    ready: bool = True
    past: list[str] = field(default_factory=list)


async def health_of(session: Session) -> Health:
    """Look at a session."""
    cannot_read = await _reading(session)
    problems = cannot_read + await session.trouble.problems() + _of_process(session)
    problems += _of_attempts(session)
    problems += [f"{name} failed: {why}" for name, why in session.supervisor.failures.items()]
    problems += await _waiting_in_vain(session)
    room = session.front_door.room
    problems += [refused] if room is not None and (refused := room.problem()) else []
    can_store = not cannot_read and _can_write(session.store)
    return Health(
        ok=not problems,
        problems=problems,
        process=session.process_id,
        running=len(session.running),
        slots=session.worker.sizes(),
        stuck=session.running.lingering,
        processes=sorted(session.peers.ids),
        unknown_tasks=sorted(session.tasks.unknown.values()),
        recovered=session.recovered.recovered,
        can_store=can_store,
        ready=can_store and not session.signals.told.is_set(),
        past=session.supervisor.past,
    )


async def _reading(session: Session) -> list[str]:
    try:
        await session.store.read.ping()
    except StoreError as error:
        return [str(error)]
    return []


def _of_process(session: Session) -> list[str]:
    problems: list[str] = []
    if not session.presence.process_file.in_place():
        problems.append(
            "The process file was removed: siblings take this process for dead. Restart it."
        )
    for process, why in session.recovered.undecided.items():
        problems.append(f"It cannot be known whether process {process} lives: {why}")
    return problems


def _can_write(store: Store) -> bool:
    writer = store.writer
    return (
        writer.last_error is None
        and writer.refusal is None
        and not writer.was_full
        and writer.stalled(_STALLED) is None
        and store.identity.problem() is None
    )


def _of_attempts(session: Session) -> list[str]:
    problems: list[str] = []
    if session.running.lingering:
        problems.append(
            f"{session.running.lingering} functions ignore that they were stopped and still run. "
            "Let them look at JobContext.stopping, or restart the app."
        )
    if session.running.slots_kept:
        problems.append(
            f"{session.running.slots_kept} of them keep their slots, as there are more than "
            "max_stuck allows: fewer jobs run at once, until they end or the app is restarted."
        )
    return problems


async def _waiting_in_vain(session: Session) -> list[str]:
    try:
        return await overdue_problems(
            session.store,
            session.tasks,
            session.worker,
            session.parts.clock.now(),
            failures=session.supervisor.failures,
            is_paused=session.chains.is_paused,
        )
    except StoreError:
        # That the file cannot be read is told already.
        return []
