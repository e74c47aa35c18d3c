"""The bytes of process files and messages.

What lives here: pure encoding and decoding. What does not: files and pipes, which have their own
tests. Run by pytest.
"""

from __future__ import annotations

import pytest

from embedded_tasks.processes.messages import MESSAGE_SIZE, NOBODY, Kind, decode, encode
from embedded_tasks.processes.records import (
    EMPTY_RECORD,
    FIRST_SLOTS,
    HEADER_SIZE,
    INTERRUPTED,
    RECORD_SIZE,
    TIMED_OUT,
    Mark,
    decode_file,
    encode_header,
    encode_mark,
)

JOB = bytes(range(16))
ANNA, BERT = "a" * 32, "b" * 32
BOOT = "0f1e2d3c-0000-4000-8000-123456789abc"


def file_with(*records: bytes) -> bytes:
    slots = [*records, *[EMPTY_RECORD] * (FIRST_SLOTS - len(records))]
    return encode_header(4711, BOOT) + b"".join(slots)


def test_a_file_fills_one_page() -> None:
    assert len(file_with()) == 4096


def test_header_and_marks_come_back_as_they_were_written() -> None:
    first, second = Mark(JOB, 1), Mark(JOB[::-1], 2**32 - 1, INTERRUPTED | TIMED_OUT)
    contents = decode_file(file_with(encode_mark(*first), EMPTY_RECORD, encode_mark(*second)))
    assert contents == (True, (first, second), 4711, BOOT)


def test_flags_have_names() -> None:
    assert Mark(JOB, 1, INTERRUPTED).interrupted
    assert not Mark(JOB, 1, INTERRUPTED).timed_out
    assert Mark(JOB, 1, TIMED_OUT).timed_out
    assert not Mark(JOB, 1).interrupted


@pytest.mark.parametrize("position", range(RECORD_SIZE))
def test_no_damaged_record_is_taken_for_a_mark(position: int) -> None:
    good, other = encode_mark(JOB, 3), encode_mark(JOB, 4)
    bad = bytearray(good)
    bad[position] ^= 0x40
    contents = decode_file(file_with(bytes(bad), other))
    assert not contents.readable
    assert contents.marks == (Mark(JOB, 4),)


@pytest.mark.parametrize("length", range(1, RECORD_SIZE))
def test_no_torn_record_is_taken_for_a_mark(length: int) -> None:
    torn = encode_mark(JOB, 3)[:length].ljust(RECORD_SIZE, b"\0")
    contents = decode_file(file_with(torn))
    assert not contents.readable
    assert contents.marks == ()


@pytest.mark.parametrize("position", range(0, HEADER_SIZE, 5))
def test_a_damaged_header_makes_the_file_unreadable(position: int) -> None:
    data = bytearray(file_with(encode_mark(JOB, 1)))
    data[position] ^= 0x01
    assert decode_file(bytes(data)) == (False, (), None, None)


@pytest.mark.parametrize("length", [0, 1, HEADER_SIZE - 1, HEADER_SIZE, 4095])
def test_a_file_cut_short_is_unreadable(length: int) -> None:
    assert not decode_file(file_with(encode_mark(JOB, 1))[:length]).readable


def test_a_file_that_was_growing_is_readable() -> None:
    data = file_with(encode_mark(JOB, 1)) + bytes(45)
    assert decode_file(data).readable
    assert decode_file(data).marks == (Mark(JOB, 1),)


def test_every_kind_of_message_comes_back() -> None:
    for kind in Kind:
        data = encode(kind, ANNA)
        assert len(data) == MESSAGE_SIZE
        assert decode(data) == [(kind, ANNA)]


def test_equal_messages_are_told_once_and_the_last_word_counts() -> None:
    said = [Kind.WAITING, Kind.WORK, Kind.NOT_WAITING, Kind.WORK, Kind.WAITING]
    data = b"".join(encode(kind, ANNA) for kind in said) + encode(Kind.WORK, BERT)
    assert decode(data) == [
        (Kind.NOT_WAITING, ANNA),
        (Kind.WORK, ANNA),
        (Kind.WAITING, ANNA),
        (Kind.WORK, BERT),
    ]


@pytest.mark.parametrize("garbage", [b"x", b"w", b"?" * MESSAGE_SIZE, b"c" * (MESSAGE_SIZE - 1)])
def test_garbage_means_wake_up(garbage: bytes) -> None:
    assert decode(encode(Kind.CANCEL, ANNA) + garbage) == [
        (Kind.CANCEL, ANNA),
        (Kind.WORK, NOBODY),
    ]
