"""Requests that another site's page sends with an operator's cookies are told apart here.

What lives here: reading the headers that a browser sets. What does not: refusing (`route`). Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers

from embedded_tasks.errors import ConfigurationError

__all__ = ["origins_of", "refusal_of"]

_PORTS: Final = {"http": 80, "https": 443}


def origins_of(given: Iterable[str]) -> frozenset[str]:
    """Return origins as browsers write them.

    Args:
        given: Such as "https://ops.example.com".

    Raises:
        ConfigurationError: One of them is no origin.
    """
    items: Any = given
    origins = [] if isinstance(items, str) else [_checked(item) for item in items]
    if isinstance(items, str):
        raise ConfigurationError(f"allowed_origins={given!r}: expected a list of origins.")
    return frozenset(origins)


def refusal_of(headers: Headers, allowed: Collection[str] = ()) -> str | None:
    """Return why a request that changes something is refused, or None.

    A browser says itself where a request comes from; a client that is none says nothing, and has
    no cookies that another site could use.

    Args:
        headers: The headers of the request.
        allowed: Origins of other front ends whose pages may send it.
    """
    sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    if len(origins) == 1 and origins[0] in allowed:
        return None
    if sites:
        if all(site in ("same-origin", "none") for site in sites):
            return None
        return "A page of another origin sent this request (Sec-Fetch-Site)."
    hosts = headers.getlist("host")
    if not origins or (len(origins) == len(hosts) == 1 and _is_same(origins[0], hosts[0])):
        return None
    return (
        "A page of another origin sent this request: Origin and Host differ. "
        "A proxy in front of the app must pass the Host header on."
    )


def _checked(origin: Any) -> str:
    try:
        parts = urlsplit(origin)
        fine = (
            origin == f"{parts.scheme}://{parts.netloc}".lower()
            and parts.scheme in _PORTS
            and parts.hostname
            and "@" not in parts.netloc
            and parts.port != _PORTS[parts.scheme]
        )
    except (AttributeError, TypeError, ValueError):
        fine = False
    if not fine:
        raise ConfigurationError(
            f"allowed_origins: {origin!r} is no origin. Write scheme and host in lower case, and "
            "the port where it is not the usual one, such as 'https://ops.example.com'."
        )
    return str(origin)


def _is_same(origin: str, host: str) -> bool:
    try:
        page, here = urlsplit(origin), urlsplit(f"//{host}")
        port = _PORTS.get(page.scheme)
        return (
            port is not None
            and page.hostname is not None
            and (page.hostname, page.port or port) == (here.hostname, here.port or port)
            and _is_bare(page)
            and _is_bare(here)
        )
    except ValueError:  # no host, or a port that is no number
        return False


def _is_bare(parts: SplitResult) -> bool:
    return "@" not in parts.netloc and not (parts.path or parts.query or parts.fragment)
