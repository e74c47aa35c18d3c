"""Pages that many have open: read and drawn once for all who are told of the same change.

What lives here: keeping an answer until the next change is told. What does not: pages. Used by
`site`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Final

from starlette.responses import Response

__all__ = ["Copies"]

_MOST: Final = 64


class Copies:
    """The answers that were given since a change was told; the next one makes them old."""

    def __init__(self) -> None:
        self._mark: str | None = None
        self._made: dict[Hashable, asyncio.Task[Response]] = {}

    async def get(
        self, mark: str, key: Hashable, make: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Return an answer, made once for all who ask for the same.

        Args:
            mark: The change that was told last; what is made now has seen it.
            key: What is asked for, and by whom as far as that makes a difference.
            make: Makes it.
        """
        if mark != self._mark:
            self._mark, self._made = mark, {}
        made, known = self._made, self._made.get(key)
        if known is None:
            if len(made) >= _MOST:
                return await make()
            known = made[key] = asyncio.ensure_future(_awaited(make))
            # Whoever asked may be gone when it fails.
            known.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            # Another one may wait for it too.
            found = await asyncio.shield(known)
        except BaseException:
            if known.done() and made.get(key) is known:
                del made[key]
            raise
        # Each is a response of its own: the app may add headers to it.
        return Response(found.body, found.status_code, dict(found.headers))


async def _awaited(make: Callable[[], Awaitable[Response]]) -> Response:
    return await make()
