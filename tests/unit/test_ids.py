"""Job ids: UUIDs of version 7 that order by time.

What lives here: `embedded_tasks/ids.py`. What does not: who needs one. Called by pytest.
"""

from __future__ import annotations

from uuid import RFC_4122, UUID

from embedded_tasks.ids import uuid7_maker
from tests.support.clock import FakeClock


def zeros(count: int) -> bytes:
    return bytes(count)


def ones(count: int) -> bytes:
    return b"\xff" * count


def test_an_id_is_a_uuid_of_version_7() -> None:
    for random_bytes in (zeros, ones):
        made = UUID(uuid7_maker(lambda: 1_800_000_000.123, random_bytes)())
        assert (made.version, made.variant) == (7, RFC_4122)


def test_an_id_begins_with_its_millisecond() -> None:
    made = UUID(uuid7_maker(lambda: 1_800_000_000.123, zeros)())
    assert made.int >> 80 == 1_800_000_000_123


def test_ids_grow_while_the_clock_stands_still() -> None:
    make = uuid7_maker(lambda: 1_800_000_000.0, ones)
    ids = [make() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 10_000


def test_ids_grow_when_the_clock_jumps_back() -> None:
    clock = FakeClock()
    make = uuid7_maker(clock.now)
    before = [make() for _ in range(100)]
    clock.jump(-3600)
    after = [make() for _ in range(100)]
    assert before + after == sorted(before + after)


def test_ids_of_a_later_time_come_later_whatever_chance_says() -> None:
    clock = FakeClock()
    early = uuid7_maker(clock.now, ones)()
    clock.advance(0.001)
    assert uuid7_maker(clock.now, zeros)() > early


def test_two_makers_do_not_make_the_same_id() -> None:
    first, second = uuid7_maker(lambda: 1.0), uuid7_maker(lambda: 1.0)
    assert first() != second()
