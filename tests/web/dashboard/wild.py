"""A task that carries markup wherever text can be.

What lives here: the markup and the task. What does not: looking for it. Used by `test_quality.py`.
"""

from __future__ import annotations

from embedded_tasks import JobContext, task

__all__ = ["MARKUP", "wild"]

MARKUP = """<img src=x onerror=window.pwned=1>"'><script>window.pwned=2</script>{{7*7}}"""


class WildError(Exception):
    """Its message is markup."""


@task(name="wild")
def wild(ctx: JobContext, given: dict[str, str], fails: bool) -> dict[str, str]:
    """Do <script>window.pwned=3</script>."""
    ctx.progress(1, 2, MARKUP)
    ctx.log(MARKUP, level="<b>", field=MARKUP)
    if fails:
        raise WildError(MARKUP)
    return {MARKUP: MARKUP}
