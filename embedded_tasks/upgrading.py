"""What becomes of jobs that another version of a task has stored.

What lives here: which versions run, and calling `upgrade=`. What does not: how a version is stored,
which is in `versions.py`. Used by `task.py` only.
"""

from __future__ import annotations

import inspect
from typing import Any

from embedded_tasks.errors import ConfigurationError, PayloadError, UnknownTaskError
from embedded_tasks.failure import storable
from embedded_tasks.versions import Upgrade, check_version

__all__ = ["Versions"]


class Versions:
    """The version of a task, and how jobs of earlier ones are run.

    Args:
        version: The present one.
        upgrade: `upgrade=` of `@task`.

    Raises:
        ConfigurationError: They can never work.
    """

    def __init__(self, version: int = 1, upgrade: Upgrade | None = None) -> None:
        self.present: int = check_version(version)
        self._upgrade = upgrade
        if upgrade is None:
            return
        given: object = upgrade
        if not callable(given) or inspect.iscoroutinefunction(given):
            raise ConfigurationError(f"upgrade={upgrade!r}: expected a plain function, not async.")
        if version == 1:
            raise ConfigurationError("upgrade= is for jobs of an earlier version: write version=2.")

    def check_runs(self, task: str, version: int) -> None:
        """Refuse jobs of a version that this code cannot run.

        Raises:
            UnknownTaskError: It is a later one, or an earlier one and there is no `upgrade=`.
        """
        if version == self.present:
            return
        stored = f"the job was stored by version {version} of the task; this code has version"
        if version > self.present:
            raise UnknownTaskError(task, f"{stored} {self.present}")
        if self._upgrade is None:
            raise UnknownTaskError(task, f"{stored} {self.present} and no upgrade=")

    def upgraded(
        self, task: str, version: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of an earlier version as the present one takes them.

        Raises:
            UnknownTaskError: This code cannot run that version.
            PayloadError: `upgrade=` has failed.
        """
        self.check_runs(task, version)
        failed = f"upgrade= of {task}, called for a job of version {version},"
        try:
            made: Any = self._upgrade and self._upgrade(version, args, kwargs)
        except Exception as error:
            name = type(error).__name__
            raise PayloadError(storable(f"{failed} raised {name}: {error}")) from error
        match made:
            case (list() | tuple() as new_args, dict() as named) if all(map(_is_name, named)):
                return tuple(new_args), named
            case _:
                raise PayloadError(
                    storable(f"{failed} returned {made!r:.200}; expected (args, kwargs)")
                )


def _is_name(key: object) -> bool:
    return isinstance(key, str)
