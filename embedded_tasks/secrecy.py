"""What is told of a failure, without the secrets that its job was given.

What lives here: finding the secrets among a job's arguments, and masking what an event says. What
does not: which names are those of secrets (`masking`). Called before observers are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from embedded_tasks.display import Display, UnreadableError
from embedded_tasks.events import JobEvent
from embedded_tasks.masking import Masking

__all__ = ["Secrecy"]

_SAID: Final = ("reason", "traceback")


class Secrecy:
    """Masks what events say.

    Args:
        names: Further names of secrets, such as "iban".
        parameters_of: Returns the names of a task's positional parameters, None where not known.
    """

    def __init__(
        self, names: Iterable[str], parameters_of: Callable[[str], Sequence[str] | None]
    ) -> None:
        self._masking = Masking(names)
        self._parameters_of = parameters_of

    def masked(self, event: JobEvent, args: str) -> JobEvent:
        """Return an event without the secrets that its texts may repeat.

        Args:
            event: What happened.
            args: The job's arguments, as they are stored.
        """
        said = {name: event.details[name] for name in _SAID if event.details.get(name)}
        if not said:
            return event
        masking = self._knowing(event.task, args)
        hidden = {name: masking.text(str(text)) for name, text in said.items()}
        return replace(event, details={**event.details, **hidden})

    def _knowing(self, task: str, args: str) -> Masking:
        display = Display(self._masking)
        try:
            display.arguments(args, self._parameters_of(task))
        except UnreadableError:
            return self._masking
        return display.masking
