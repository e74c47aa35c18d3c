"""What FastAPI's and Starlette's own tests run with, so that they meet our runner.

What lives here: the parts that take theirs' place, and the count of durable jobs. What does not:
their tests, which `scripts/upstream` fetches. Loaded by pytest with `-p`.
"""

from __future__ import annotations
