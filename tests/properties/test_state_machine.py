"""The store against a small model of its promises: random orders, random crashes.

Not here: the words and guards of one query (tests/store_contract), the runner around it.
Called by pytest: once over a file, once over a store in memory.
"""

from __future__ import annotations
