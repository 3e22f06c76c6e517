"""Each scan of a head stands in the code twice: as a pattern, and compiled. They say the same of all bytes."""

import random
from collections.abc import Callable, Iterator
from time import thread_time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz.mutation import REQUEST_SEEDS, RESPONSE_SEEDS, mutated
from gateway.http1 import Fields, scan
from gateway.http1.grammar import FIELD_LIMIT, LINE_LIMIT
from gateway.routing import target
from tests.compiled import compiled
from tests.counts import scaled

HEAD = b"GET /a?b HTTP/1.1\r\nHost: a\r\nX-A:\t1 \r\nX-B:\r\n\r\n"
START = HEAD.index(b"Host")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The compiled scans."""
    return compiled("gateway.http1.quick", tmp_path_factory.mktemp("quick"))


def lines_by_pattern(data: bytes, start: int) -> scan.Lines | None:
    return scan._field_lines_by_pattern(data, start)


def lines_by_quick(quick: Any, data: bytes, start: int) -> scan.Lines | None:
    """What the scan finds, where the names that it found pass too, which it does not look at."""
    found = quick.field_lines(data, start)
    return None if found is None or Fields.at(data, start) is None else found


def same(quick: Any, data: bytes, start: int) -> None:
    assert lines_by_quick(quick, data, start) == lines_by_pattern(data, start), (data, start)
    assert quick.request_line(data) == scan._request_line_by_pattern(data), data


def test_a_head_is_found_by_both(quick: Any) -> None:
    assert quick.request_line(HEAD) == scan._request_line_by_pattern(HEAD) == (3, 8)
    expected = (b"Host:X-A:X-B:", [START, START + 9, START + 18, START + 24])
    assert quick.field_lines(HEAD, START) == scan._field_lines_by_pattern(HEAD, START) == expected


def variants() -> Iterator[bytes]:
    """Every byte value put in place of, and before, each byte; and the head cut at each."""
    for at in range(len(HEAD) + 1):
        yield HEAD[:at]
        yield HEAD[at:]
        for byte in range(256):
            yield HEAD[:at] + bytes((byte,)) + HEAD[at:]
            yield HEAD[:at] + bytes((byte,)) + HEAD[at + 1 :]


def test_every_byte_at_every_place_is_read_alike(quick: Any) -> None:
    for data in variants():
        same(quick, data, START)


@given(st.binary(max_size=80), st.integers(0, 90))
@example(b"", 0)
@example(b"\r\n", 0)
@example(b"\r", 0)
@example(b":\r\n\r\n", 0)
@example(b"a:\r\n\r", 0)
def test_any_bytes_are_read_alike(quick: Any, data: bytes, start: int) -> None:
    same(quick, data, start)


@pytest.mark.parametrize("seeds", [REQUEST_SEEDS, RESPONSE_SEEDS], ids=["requests", "responses"])
def test_heads_that_are_nearly_right_are_read_alike(quick: Any, seeds: list[bytes]) -> None:
    chance = random.Random(7)
    for _ in range(scaled(100_000)):
        data = mutated(chance, seeds, 3)
        same(quick, data, data.find(b"\n") + 1)


@pytest.mark.parametrize("size", [LINE_LIMIT - 1, LINE_LIMIT, LINE_LIMIT + 1])
@pytest.mark.parametrize("count", [FIELD_LIMIT, FIELD_LIMIT + 1])
def test_the_limits_are_the_same(quick: Any, size: int, count: int) -> None:
    many = b"GET / HTTP/1.1\r\n" + b"a:\r\n" * (count - 1) + b"a:"
    same(quick, many + b"x" * (size - len(many) - 4) + b"\r\n\r\n", 16)
    same(quick, b"GET /%b HTTP/1.1\r\n\r\n" % (b"x" * (size - 18)), size - 2)


@pytest.mark.parametrize("method", [b"A" * 32, b"A" * 33, b"", b"G T"])
def test_methods_are_read_alike(quick: Any, method: bytes) -> None:
    same(quick, method + b" / HTTP/1.1\r\n\r\n", 0)


@given(st.binary(max_size=40) | st.text("/.?#%;ab~ \x7f", max_size=12).map(str.encode))
@settings(max_examples=scaled(2000))
def test_plain_targets_are_told_alike(quick: Any, raw: bytes) -> None:
    for data in (raw, b"/" + raw):
        assert quick.plain_path(data, target._IN_SEGMENT, target._IN_QUERY) == target._plain_by_pattern(data), data


@given(st.binary(max_size=40), st.binary(max_size=256))
def test_bytes_are_held_to_a_table_alike(quick: Any, data: bytes, allowed: bytes) -> None:
    table = bytes(byte in allowed for byte in range(256))
    assert scan._consists_by_table(data, table) == quick.consists_of(data, table) == (not set(data) - set(allowed))


@given(st.lists(st.sampled_from([b"mark", b"mar", b"m", b";", b"; ", b"=", b"a", b"markmark", b""])).map(b"".join))
@settings(max_examples=scaled(2000))
@example(b";mark;")
@example(b"mark")
def test_pairs_of_a_cookie_field_are_found_alike(quick: Any, field: bytes) -> None:
    found = quick.pairs_with(field, b"mark")
    assert found == scan._pairs_by_search(field, b"mark")
    assert [field[start:end] for start, end in found] == [pair for pair in field.split(b";") if b"mark" in pair]


HOSTILE: list[bytes] = [
    b"a" * (1 << 18),
    b"GET " + b"/" * (1 << 18),
    b"GET / HTTP/1.1\r\n" + b"a" * (1 << 18),
    b"GET / HTTP/1.1\r\n" + b"a:" * (1 << 17),
    b"GET / HTTP/1.1\r\n" + b"a:\r\n" * (1 << 16),
    b"mar;" * (1 << 16),
]
SCANS: list[Callable[[bytes], object]] = [
    scan.request_line,
    lambda data: scan.field_lines(data, 16),
    lambda data: scan.pairs_with(data, b"mark"),
]


@pytest.mark.measures
@pytest.mark.parametrize("data", HOSTILE, ids=["method", "target", "name", "value", "fields", "cookies"])
def test_no_bytes_take_long(data: bytes) -> None:
    def cost(each: Callable[[bytes], object]) -> float:
        began = thread_time()
        each(data)
        return thread_time() - began

    for each in SCANS:
        assert min(cost(each) for _ in range(5)) < 0.003
