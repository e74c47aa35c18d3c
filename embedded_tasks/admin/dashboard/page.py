"""One page, as the module that draws it describes it.

What lives here: `Page`, and what forms carry. What does not: any page. Used by the pages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.responses import Response

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.bodies import form_fields

__all__ = ["Fields", "Page", "field_of"]


@dataclass(frozen=True, slots=True)
class Page:
    """One route of the dashboard.

    Args:
        method: "GET", or "POST" for what a form does.
        path: Below the prefix that the user chooses.
        call: Its function; routes are called by its name.
        role: Who may.
    """

    method: str
    path: str
    call: Callable[..., Awaitable[Response]]
    role: Role = Role.READ


Fields = Annotated[list[tuple[str, str]], Depends(form_fields)]
"""The fields of a form, read when the guards have let its sender through."""


def field_of(fields: Sequence[tuple[str, str]], name: str) -> str:
    """Return the last value of a field; empty when there is none."""
    return next((value for key, value in reversed(fields) if key == name), "")
