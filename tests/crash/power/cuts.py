"""Every moment at which the power may fail, and what the disk may have then.

What lives here: the moments, and the choices among what is not certain: all of them where they are
few, the worst ones and random ones where they are many. What does not: the disk (`disk.py`), and
what must hold (`judge.py`). Called by test_power_loss.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

from tests.crash.power.disk import BLOCK, SECTOR, Choice, Disk, Unit
from tests.crash.power.recording import Recording

__all__ = ["Cut", "Effort", "cuts"]

_LOOSENING = ("cancelling", "retrying")
Versions = Mapping[Unit, int]


@dataclass(frozen=True, slots=True)
class Cut:
    """The power failed.

    Args:
        at: After how many entries of the recording.
        how: Which of the choices it is, in words.
        said: Every line that was written before, in order.
        contents: The files that are there.
    """

    at: int
    how: str
    said: Sequence[str]
    contents: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried.

    Args:
        moments: Which share of the moments, 1.0 for all.
        exhaustive: Up to how many contents of a moment are all tried.
        sampled: How many are tried of each sort where there are more; beside "none" and "all".
    """

    moments: float = 1.0
    exhaustive: int = 16
    sampled: int = 1


def cuts(recording: Recording, rng: Random, effort: Effort) -> Iterator[Cut]:
    """Yield what the disk may have after a cut at each moment.

    A moment is worth a look right before a sync has returned, and before a client asks for what
    allows more outcomes: at any earlier one the same contents are possible, and less was promised.
    In between, what a SIGKILL leaves is tried too, at each write to the database: all is there that
    was written so far. These are the insides of the checkpoints.

    Args:
        recording: What was done.
        rng: Chooses.
        effort: How much is tried.
    """
    disk = Disk("tasks.db")
    said: list[str] = []
    for at, entry in enumerate(recording.entries):
        lines = entry.acknowledged()
        if entry.kind == "S" or any(line.startswith(_LOOSENING) for line in lines):
            if rng.random() < effort.moments:
                for how, contents in _contents(disk, rng, effort):
                    yield Cut(at, how, tuple(said), contents)
        elif entry.kind in "WT" and entry.path == "tasks.db" and rng.random() < effort.moments:
            yield Cut(at, "killed", tuple(said), disk.contents(_all))
        disk.take(entry)
        said += lines
    for how, contents in _contents(disk, rng, effort):
        yield Cut(len(recording.entries), how, tuple(said), contents)


def _contents(disk: Disk, rng: Random, effort: Effort) -> Iterator[tuple[str, Mapping[str, bytes]]]:
    units = disk.units()
    if math.prod(last + 1 for last in units.values()) <= effort.exhaustive:
        for versions in product(*(range(last + 1) for last in units.values())):
            chosen = dict(zip(units, versions, strict=True))
            yield f"{versions} of {list(units)}", disk.contents(_picking(chosen, 0))
        return
    for how, choice in _choices(disk, units, rng, effort.sampled):
        yield how, disk.contents(choice)


def _choices(
    disk: Disk, units: Versions, rng: Random, sampled: int
) -> Iterator[tuple[str, Choice]]:
    yield "none", _picking({}, 0)
    yield "all", _all
    names = [unit for unit in units if unit[0] != "block"]
    blocks = [unit for unit in units if unit[0] == "block"]
    some = [*names, *_some(blocks, rng, sampled)]
    for unit in some:
        yield f"all but {unit}", _picking({unit: 0}, None)
    sizes = {unit: units[unit] for unit in names if unit[0] == "size"}
    for unit in some:
        yield f"only {unit}", _picking(sizes | {unit: units[unit]}, 0)
    if blocks:
        yield "the last block", _picking(sizes | {blocks[-1]: units[blocks[-1]]}, 0)
    for role in sorted({disk.role(unit) for unit in units}):
        mine = {unit: last for unit, last in units.items() if disk.role(unit) == role}
        yield f"only tasks.db{role}", _picking(mine, 0)
        yield f"all but tasks.db{role}", _picking(dict.fromkeys(mine, 0), None)
    for number in range(sampled):
        share = (0.1, 0.5, 0.9)[number % 3]
        yield f"about {share} of all", _picking(_at_random(units, rng, share), 0)
        yield f"about {share} of all, torn", _torn(_at_random(units, rng, share), units, rng)


def _all(unit: Unit, last: int) -> int:
    return last


def _some(units: Sequence[Unit], rng: Random, most: int) -> Sequence[Unit]:
    return units if len(units) <= most else rng.sample(units, most)


def _at_random(units: Versions, rng: Random, share: float) -> dict[Unit, int]:
    return {
        unit: last if rng.random() < share else rng.randrange(last) for unit, last in units.items()
    }


def _picking(chosen: Versions, otherwise: int | None) -> Choice:
    """What was chosen, and of all others this version; None for the last one."""
    return lambda unit, last: chosen.get(unit, last if otherwise is None else otherwise)


def _torn(chosen: Versions, units: Versions, rng: Random) -> Choice:
    """As chosen, but every fourth block has sectors of several versions."""
    torn = {
        unit: [rng.randint(0, last) for _ in range(BLOCK // SECTOR)]
        for unit, last in units.items()
        if unit[0] == "block" and rng.random() < 0.25
    }
    return lambda unit, last: torn.get(unit) or chosen.get(unit, 0)
