"""Who may do what: the app's own dependencies, by role.

What lives here: the three roles, and checking what the user gave for them. What does not: asking
the dependencies, which FastAPI does. Used by `desk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fastapi import params

from embedded_tasks.errors import ConfigurationError

__all__ = ["Access", "Guards", "Role", "access_of"]

Guards = Sequence[params.Depends]
"""Dependencies that let some people through and nobody else."""

_EXAMPLE = (
    "Write admin.router(runner, dependencies=[Depends(require_admin)]), where require_admin is "
    "your own function that raises HTTPException(401) or (403) unless an operator asks. The "
    "routes show and change all jobs, so they are never open."
)
_ROLES_EXAMPLE = (
    "Write admin.router(runner, read=[Depends(a)], operate=[Depends(b)], admin=[Depends(c)]); "
    "leave out admin=, or both admin= and operate=, for routes that cannot do as much."
)


class Role(StrEnum):
    """What a route needs; who may do the later ones must also pass the earlier ones."""

    READ = "read"
    """See jobs, queues, tasks, figures and the audit trail."""
    OPERATE = "operate"
    """Retry, cancel, run now, pause, resume, and enqueue tasks that are marked for it."""
    ADMIN = "admin"
    """Delete."""


@dataclass(frozen=True, slots=True)
class Access:
    """The dependencies of each role. A role that is left out has no routes at all.

    Args:
        read: What every route asks first.
        operate: What routes ask besides that change jobs or queues; None for a read-only router.
        admin: What routes ask besides that delete; None where nobody may.
    """

    read: tuple[params.Depends, ...]
    operate: tuple[params.Depends, ...] | None
    admin: tuple[params.Depends, ...] | None

    def allows(self, role: Role) -> bool:
        """Return whether there is anybody with this role."""
        return self._of(role) is not None

    def beyond_read(self, role: Role) -> list[params.Depends]:
        """Return what a route of this role asks besides what every route asks."""
        found: list[params.Depends] = []
        if role is not Role.READ:
            found += self.operate or ()
        if role is Role.ADMIN:
            found += self.admin or ()
        return found

    def _of(self, role: Role) -> tuple[params.Depends, ...] | None:
        return {Role.READ: self.read, Role.OPERATE: self.operate, Role.ADMIN: self.admin}[role]


def access_of(
    dependencies: Guards | None,
    read: Guards | None = None,
    operate: Guards | None = None,
    admin: Guards | None = None,
) -> Access:
    """Return who may do what.

    Args:
        dependencies: For all roles at once; None where the roles are given one by one.
        read: For those who may look.
        operate: For those who may steer as well.
        admin: For those who may delete as well.

    Raises:
        ConfigurationError: Nobody is kept out, or a role is given without the one before it.
    """
    if dependencies is not None:
        if not (read is operate is admin is None):
            raise ConfigurationError(
                f"Give dependencies=, or read=, operate= and admin=, but not both. {_ROLES_EXAMPLE}"
            )
        return Access(_checked("dependencies", dependencies), (), ())
    if read is None:
        if operate is None and admin is None:
            raise ConfigurationError(f"The status routes need dependencies=. {_EXAMPLE}")
        raise ConfigurationError(f"operate= and admin= need read= as well. {_ROLES_EXAMPLE}")
    if operate is None and admin is not None:
        raise ConfigurationError(f"admin= needs operate= as well. {_ROLES_EXAMPLE}")
    return Access(
        _checked("read", read),
        None if operate is None else _checked("operate", operate),
        None if admin is None else _checked("admin", admin),
    )


def _checked(name: str, given: Any) -> tuple[params.Depends, ...]:
    if given == []:
        raise ConfigurationError(f"The status routes need {name}=. {_EXAMPLE}")
    items = tuple(given) if isinstance(given, Sequence) else ()
    if not items or not all(isinstance(item, params.Depends) and item.dependency for item in items):
        raise ConfigurationError(f"{name}={given!r}: expected a list of Depends. {_EXAMPLE}")
    return items
