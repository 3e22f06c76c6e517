"""Heads at every limit: what is as long as may be is taken, a byte more is not, and none takes more than 3 ms."""

import random
import re
from collections.abc import Iterable

import pytest

from fuzz.agreement import Outcome
from fuzz.mutation import TOKENS
from fuzz.slowness import Climb, quickest
from fuzz.values import members
from gateway.http1 import Malformed, RequestReader, ResponseReader
from tests.counts import LONG, scaled
from tests.http1.heads import FIELDS, HOST, LINES, everywhere, taken, ways

BOUND = 0.003  # seconds of the processor for any head
HEAD_LIMIT, LINE_LIMIT, FIELD_LIMIT = 65_536, 8192, 100  # as docs/limits.md promises them

STARTS = [b"GET / HTTP/1.1\r\n" + HOST, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"]


def line(size: int, name: bytes = b"X") -> bytes:
    """A field's line of so many bytes."""
    return name + b": " + b"v" * (size - len(name) - 4) + b"\r\n"


def head(start: bytes, size: int, count: int = 8) -> bytes:
    """A head of so many bytes, with so many lines beside the first two."""
    room = size - len(start) - 2
    sizes = [room // count + (number < room % count) for number in range(count)]
    return start + b"".join(line(each) for each in sizes) + b"\r\n"


def outcomes(data: bytes) -> list[Outcome]:
    """What a head is at a limit: cut near its beginning, within a line, and around its end."""
    return ways(data, (4, len(data) // 2, len(data) - 3, len(data) - 1, len(data)))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("count", [9, 98])
def test_head_may_be_as_long_as_the_limit_and_no_byte_longer(start: bytes, count: int) -> None:
    for size in (LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1, HEAD_LIMIT - 1, HEAD_LIMIT):
        data = head(start, size, count)
        assert len(data) == size
        assert all(taken(outcome) for outcome in outcomes(data))
    beyond = head(start, HEAD_LIMIT + 1, count)
    assert {outcome[-1] for outcome in outcomes(beyond)} == {(431, "The header is longer than 65536 bytes.")}


@pytest.mark.parametrize("start", STARTS)
def test_line_may_be_as_long_as_the_limit_and_no_byte_longer(start: bytes) -> None:
    for before in (b"", b"A: b\r\n" * 5):
        longest = start + before + line(LINE_LIMIT) + b"\r\n"
        assert all(taken(outcome) for outcome in outcomes(longest))
        beyond = start + before + line(LINE_LIMIT + 1) + b"\r\n"
        assert {outcome[-1] for outcome in outcomes(beyond)} == {(431, "A header field is longer than 8192 bytes.")}


@pytest.mark.parametrize(
    ("start", "end", "status"), [(b"GET /", b" HTTP/1.1\r\nHost: a\r\n\r\n", 414), (b"HTTP/1.1 200 ", b"\r\n\r\n", 400)]
)
def test_first_line_may_be_as_long_as_the_limit_and_no_byte_longer(start: bytes, end: bytes, status: int) -> None:
    room = LINE_LIMIT - len(start) - end.index(b"\r\n") - 2
    assert all(taken(outcome) for outcome in outcomes(start + b"a" * room + end))
    beyond = outcomes(start + b"a" * (room + 1) + end)
    assert {outcome[-1] for outcome in beyond} == {(status, "The first line is longer than 8192 bytes.")}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("field", [b"a:\r\n", b"X-Some: value\r\n", line(600)])
def test_hundred_fields_are_taken_and_one_more_is_not(start: bytes, field: bytes) -> None:
    most = start + field * (FIELD_LIMIT - 1) + b"\r\n"  # the start has one
    assert all(taken(outcome) for outcome in outcomes(most))
    for count in (FIELD_LIMIT, FIELD_LIMIT + 1, 60_000 // len(field)):
        beyond = outcomes(start + field * count + b"\r\n")
        assert {outcome[-1] for outcome in beyond} == {(431, "There are more than 100 header fields.")}


# -- cuts, stray bytes and time ------------------------------------------------------------------------------

SHORT = 1024  # bytes: a head of no more is cut everywhere, whatever the run


def places(data: bytes) -> Iterable[int]:
    """Where a head is cut, or a byte is put into it: everywhere if it is short, and with `make test-long`; else at
    every 997th byte, and around the ends of some twenty lines and of the head."""
    if LONG or len(data) <= SHORT:
        return everywhere(data)
    ends = [found.end() for found in re.finditer(rb"\n", data)] or [len(data)]
    picked = [*ends[:: len(ends) // 20 + 1], *ends[-2:]]
    around = {end + by for end in picked for by in (-3, -2, -1, 0, 1)}
    return sorted(around.union(range(0, len(data), 997)) & set(everywhere(data)))


Said = dict[str, object] | tuple[int, str] | None
"""What a head says, or why it is refused; None while more is to come."""


def first_head(data: bytes, place: int = 0) -> Said:
    """Read one head, whichever it is of, as a connection does: at once, or cut into two at this place."""
    reader = ResponseReader() if data.startswith(b"HTTP") else RequestReader()
    try:
        for piece in (data[:place], data[place:]) if place else (data,):
            if (whole := reader.whole(piece)) is not None:
                return members(whole[0])
            reader.receive(piece)
            if (head := reader.next_event()) is not None:
                return members(head)
    except Malformed as fault:
        return fault.status, fault.description
    return None


def first_head_in_time(data: bytes, place: int = 0) -> Said:
    """The same. Raises AssertionError where it takes longer than 3 ms."""
    said = list[Said]()
    took = quickest(lambda data: said.append(first_head(data, place)), data, BOUND)
    assert took <= BOUND, place
    return said[0]


HEADS = [
    (name, start + what)
    for start in STARTS
    for name, what in [
        ("100 fields in 600 bytes", head(b"", 600, 99)),
        ("64 KB in few fields", head(b"", HEAD_LIMIT - 40)),
        ("64 KB in many fields", head(b"", HEAD_LIMIT - 40, 99)),
        ("64 KB and no end", head(b"", HEAD_LIMIT - 40, 99)[:-2]),
        ("one name 15,000 times", b"a:\r\n" * 15_000 + b"\r\n"),
        ("9,000 names", b"".join(b"%x:\r\n" % number for number in range(9000)) + b"\r\n"),
        ("only line ends", b"\r" * 60_000),
        ("bare line feeds", b"a\n" * 30_000),
        ("a fault at the end", head(b"", HEAD_LIMIT - 60, 98)[:-2] + b"a\r\n\r\n"),
        ("names that Connection names", b"Connection: " + b",".join(b"%x" % n for n in range(1600)) + b"\r\n\r\n"),
        ("many such fields", (b"Connection: " + b"a," * 300 + b"\r\n") * 98 + b"\r\n"),
        ("many protocols", (b"Connection: upgrade\r\nUpgrade: " + b"a," * 600 + b"\r\n") * 45 + b"\r\n"),
        ("many expectations", b"Expect: 100-continue\r\n" * 99 + b"\r\n"),
    ]
]


@pytest.mark.measures
@pytest.mark.parametrize("data", [row[1] for row in HEADS], ids=[row[0] for row in HEADS])
def test_long_head_cut_into_two_is_the_same_and_takes_no_more_than_3_ms(data: bytes) -> None:
    whole = first_head_in_time(data)
    for place in places(data):
        assert first_head_in_time(data, place) == whole, place


@pytest.mark.measures
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("stray", [b"\r", b"\n", b"\0"])
def test_cr_lf_or_nul_anywhere_in_a_head_of_64_kb_is_refused_within_3_ms(start: bytes, stray: bytes) -> None:
    data = head(start, HEAD_LIMIT - 1, 98)
    assert isinstance(first_head_in_time(data), dict)
    for place in places(data):
        changed = data[:place] + stray + data[place:]
        if changed.startswith(data):
            continue  # it stands behind the head
        said = first_head_in_time(changed, place + 1)
        assert isinstance(said, tuple), place
        assert said[0] == 400


@pytest.mark.measures
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("size", [LINE_LIMIT, HEAD_LIMIT])
def test_no_head_that_a_search_for_the_slowest_finds_takes_more_than_3_ms(start: bytes, size: int) -> None:
    pieces = [start, *LINES, *FIELDS, *TOKENS, b"a:\r\n", b"a,", b"\r\n\r\n"]
    climb, chance = Climb(pieces, BOUND, size), random.Random(size)
    for _ in range(scaled(5000, 20)):
        climb.step(lambda data: first_head(start + data), chance)
