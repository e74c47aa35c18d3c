"""Where a page of jobs ends, as text that clients hand back unread.

What lives here: both ways between a key and a cursor. What does not: paging. Called by `routes`.
"""

from __future__ import annotations

import base64
import struct
from typing import Final

__all__ = ["CURSOR", "cursor_of", "key_of"]

CURSOR: Final = "^A[Q-X][A-Za-z0-9_-]{10}$"
"""What a cursor looks like; every text that matches is one."""

# A version byte of 1, then 63 bits of key: nine bytes, twelve characters, the first two narrow.
_FORM: Final = struct.Struct(">BQ")
_VERSION: Final = 1


def cursor_of(key: int) -> str:
    """Return the cursor of a key.

    Args:
        key: From 0 to 2**63 - 1.
    """
    return base64.urlsafe_b64encode(_FORM.pack(_VERSION, key)).decode("ascii")


def key_of(cursor: str) -> int:
    """Return the key of a text that matches `CURSOR`."""
    _, key = _FORM.unpack(base64.urlsafe_b64decode(cursor))
    return int(key)
