"""What a runner has for its whole life, and hands to each of its sessions.

What lives here: `Parts`. What does not: anything that is opened or closed. Made by the runner.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from embedded_tasks.clock import Clock
from embedded_tasks.codec import Codec
from embedded_tasks.enqueue import Drafting
from embedded_tasks.settings import Settings
from embedded_tasks.task import Catalogue

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What outlives a session: the runner's own.

    Args:
        settings: The runner's settings.
        catalogue: Its tasks.
        codec: Its payload format.
        drafting: Its checks of what is enqueued.
        clock: Where the time comes from.
        rng: Where jitter comes from.
    """

    settings: Settings
    catalogue: Catalogue
    codec: Codec
    drafting: Drafting
    clock: Clock
    rng: Random
