"""The static files: style, scripts, and what is vendored with its licences.

What lives here: their names with a hash of their content, their bytes, and the answer that carries
them. What does not: pages. Called by `site`.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

__all__ = ["Assets"]

_FOLDER: Final = Path(__file__).with_name("static")
_FILES: Final = {
    "app.css": "text/css; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "complete.js": "text/javascript; charset=utf-8",
    "vendor/htmx-4.0.1.min.js": "text/javascript; charset=utf-8",
    "vendor/hx-sse-4.0.1.min.js": "text/javascript; charset=utf-8",
}
_FOR_EVER: Final = "private, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _Asset:
    kind: str
    plain: bytes
    packed: bytes


class Assets:
    """The static files, read once; each one's name holds a hash of its content."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._assets: dict[str, _Asset] = {}
        for file, kind in _FILES.items():
            plain = _FOLDER.joinpath(file).read_bytes()
            name = f"{sha256(plain).hexdigest()[:16]}-{file.rpartition('/')[2]}"
            self._names[file] = name
            self._assets[name] = _Asset(kind, plain, gzip.compress(plain, mtime=0))

    def name(self, file: str) -> str:
        """Return the name in the URL of a file of this package."""
        return self._names[file]

    def answer(self, request: Request, name: str) -> Response | None:
        """Return a file, packed for who can unpack; None when there is none of this name."""
        asset = self._assets.get(name)
        if asset is None:
            return None
        headers = {
            # Another content is another name.
            "Cache-Control": _FOR_EVER,
            "Content-Type": asset.kind,
            "Vary": "Accept-Encoding",
        }
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(asset.plain, headers=headers)
        return Response(asset.packed, headers={**headers, "Content-Encoding": "gzip"})
