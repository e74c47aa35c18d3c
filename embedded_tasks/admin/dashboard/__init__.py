"""The HTML dashboard: what the JSON routes tell, as pages for people.

What lives here: pages, their templates and static files. What does not: anything the routes beside
it cannot tell. Built by `admin.routes`.
"""

from __future__ import annotations

from embedded_tasks.admin.dashboard.pages import add_pages

__all__ = ["add_pages"]
