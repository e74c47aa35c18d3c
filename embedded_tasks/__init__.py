"""Durable background jobs inside a FastAPI process.

What lives here: the public names, imported from their rooms. What does not: any code.
Users import from here; nothing inside the package does.
"""

from __future__ import annotations

__all__: list[str] = []
