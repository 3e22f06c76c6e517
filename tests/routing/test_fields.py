"""What passes of a field section hangs on that head alone, whatever came before; and what is remembered is bounded."""

import sys
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1 import RequestHead, RequestReader, ResponseHead, ResponseReader
from gateway.http1 import fields as kept
from gateway.routing.fields import DECEIVING, DECEIVING_PREFIX, HOP_BY_HOP, to_client, to_upstream
from tests.counts import scaled

MIB = 1 << 20
AUTHORIZATION = frozenset((b"authorization",))
NOTHING = frozenset[bytes]()


def request(lines: list[bytes]) -> RequestHead:
    reader = RequestReader()
    reader.receive(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""]))
    head = reader.next_event()
    assert isinstance(head, RequestHead)
    return head


def response(lines: list[bytes]) -> ResponseHead:
    reader = ResponseReader()
    reader.receive(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""]))
    head = reader.next_event()
    assert isinstance(head, ResponseHead)
    return head


def upwards(lines: list[bytes], *, own: bool = False, but: frozenset[bytes] = AUTHORIZATION) -> list[bytes]:
    head = request(lines)
    return to_upstream(head.fields, head.connection, own=own, but=but).split(b"\r\n")[:-1]


def downwards(lines: list[bytes], *, own: bool = False) -> list[bytes]:
    head = response(lines)
    return to_client(head.fields, head.connection, own=own).split(b"\r\n")[:-1]


CACHES = [
    value
    for name, module in sys.modules.items()
    if name.startswith(("gateway.http1", "gateway.routing"))
    for value in vars(module).values()
    if hasattr(value, "cache_clear")
]


def forget() -> None:
    """Be as one that has just begun."""
    for cache in CACHES:
        cache.cache_clear()
    kept._known.clear()


def test_what_is_remembered_can_be_forgotten() -> None:
    fields = request([b"X-A: 1"]).fields
    assert request([b"X-A: 2"]).fields.names is fields.names
    forget()
    assert request([b"X-A: 2"]).fields.names is not fields.names


# -- a function of the head alone ----------------------------------------------------------------------------

NAMES = [
    b"X-A",
    b"x-a",
    b"X-a",
    b"X-B",
    b"Cookie",
    b"COOKIE",
    b"Authorization",
    b"Accept",
    b"x-auth-subject",
    b"X.Real.IP",
]
VALUES = [b"1", b"2", b"", b"a=1", b"a=1; gateway_session=x; b=2", b"gateway_session=x", b"__Host-gateway_form=y;c=3"]
LONG = b"X-" + b"n" * 1100 + b": v"
line = st.one_of(
    st.builds(lambda name, value: name + b": " + value, st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.builds(
        lambda name, members: name + b": " + b", ".join(members),
        st.sampled_from([b"Connection", b"connection"]),
        st.lists(st.sampled_from([*NAMES, b"close", b"keep-alive", b"Set-Cookie", b"X-C"]), max_size=3),
    ),
)
names_of_one = st.lists(line, max_size=5)
sections = st.one_of(
    names_of_one,
    st.permutations([b"X-A: 1", b"X-B: 2", b"Cookie: a=1", b"Connection: x-a"]),
    names_of_one.map(lambda lines: [*lines, LONG, LONG]),  # whose names are not kept
)


@settings(max_examples=scaled(1000))
@given(
    st.lists(
        st.tuples(sections, st.booleans(), st.sampled_from([NOTHING, AUTHORIZATION, frozenset((b"x-b",))])),
        min_size=2,
        max_size=8,
    )
)
def test_what_passes_to_the_upstream_hangs_on_no_head_that_came_before(
    heads: list[tuple[list[bytes], bool, frozenset[bytes]]],
) -> None:
    forget()
    warm = [upwards(lines, own=own, but=but) for lines, own, but in heads * 2]
    for (lines, own, but), passed in zip(heads * 2, warm, strict=True):
        forget()
        assert upwards(lines, own=own, but=but) == passed


@settings(max_examples=scaled(1000))
@given(st.lists(st.tuples(sections, st.booleans()), min_size=2, max_size=8))
def test_what_passes_to_the_client_hangs_on_no_head_that_came_before(heads: list[tuple[list[bytes], bool]]) -> None:
    heads += [([part.replace(b"Cookie", b"Set-Cookie") for part in lines], own) for lines, own in heads]
    forget()
    warm = [downwards(lines, own=own) for lines, own in heads * 2]
    for (lines, own), passed in zip(heads * 2, warm, strict=True):
        forget()
        assert downwards(lines, own=own) == passed


@settings(max_examples=scaled(1500))
@given(st.lists(sections, min_size=1, max_size=4))
def test_lines_that_are_not_cut_out_pass_as_they_came_and_in_their_order(heads: list[list[bytes]]) -> None:
    cut = {b"host", b"connection", b"authorization", b"x-auth-subject", b"x.real.ip"}
    for lines in heads:
        plain = [part for part in lines if b"gateway_" not in part]
        nominated = {
            member.strip().lower()
            for part in plain
            if part.lower().startswith(b"connection:")
            for member in part.partition(b":")[2].split(b",")
        }
        kept = [part for part in plain if part.partition(b":")[0].lower() not in cut | nominated]
        assert upwards(plain) == kept


def test_name_that_one_head_nominates_passes_in_the_next_with_the_same_names() -> None:
    secret, other = [b"X-A: 1", b"X-B: 2"], [b"X-A: 3", b"X-B: 4"]
    for _ in range(2):
        assert upwards([b"Connection: x-a", *secret]) == [b"X-B: 2"]
        assert upwards([b"Connection: x-b", *other]) == [b"X-A: 3"]
        assert upwards([b"Connection: close", *secret]) == secret
        assert upwards([b"Connection: x-a, x-b", *other]) == []
        assert upwards([b"Connection: x-c", *other]) == other
        assert downwards([b"Connection: x-a", *secret]) == [b"X-B: 2"]
        assert downwards([b"Connection: close", *secret]) == secret


@pytest.mark.parametrize("sign", [bytes((sign,)) for sign in b"!#$%&'*+.^`|~"])  # an underscore is refused before
def test_name_that_servers_read_as_one_that_must_not_pass_does_not_pass(sign: bytes) -> None:
    for name in HOP_BY_HOP | DECEIVING | {DECEIVING_PREFIX + b"a"}:
        for disguised in {name.replace(b"-", sign), name.replace(b"-", sign, 1)} - {name}:
            assert upwards([disguised + b": 1", b"X%bA: 1" % sign]) == [b"X%bA: 1" % sign], disguised


def test_cookies_of_ours_are_taken_out_of_any_head_and_no_others() -> None:
    for _ in range(2):
        assert upwards([b"Cookie: a=1; gateway_session=x", b"X-A: 1"]) == [b"X-A: 1", b"Cookie: a=1"]
        assert upwards([b"Cookie: a=1; b=2", b"X-A: 1"]) == [b"Cookie: a=1; b=2", b"X-A: 1"]
        assert upwards([b"Cookie: gateway_session=x", b"X-A: 1"]) == [b"X-A: 1"]
        assert upwards([b"Cookie: gateway_session=x", b"X-A: 1"], own=True) == [b"Cookie: gateway_session=x", b"X-A: 1"]
        assert upwards([b"Connection: cookie", b"Cookie: a=1; gateway_session=x", b"X-A: 1"]) == [b"X-A: 1"]


def test_thousands_of_sequences_of_names_are_read_right_whichever_are_still_remembered() -> None:
    for number in [*range(scaled(20_000)), *range(100)]:
        lines = [b"X-%d: a" % number, b"Connection: x-%d" % (number + 1), b"X-%d: b" % (number + 1)]
        assert upwards(lines) == lines[:1]
        assert downwards(lines) == lines[:1]


# -- what is remembered --------------------------------------------------------------------------------------


def many_names(number: int) -> list[bytes]:
    """As many and as long names as can be remembered, no two alike."""
    return [b"x-%06d%s:" % (number * 100 + count, b"n" * 12) for count in range(97)]


def long_names(number: int) -> list[bytes]:
    """Names that are too long to be remembered."""
    return [b"x-%d-%s:" % (number * 10 + count, b"n" * 7900) for count in range(8)]


def many_nominated(number: int) -> list[bytes]:
    """As many nominations as a line holds."""
    return [b"Connection: x-%d, " % number + b",".join(b"%x" % count for count in range(1700)), b"X-A: 1"]


def many_nominated_in_turn(number: int) -> list[bytes]:
    """Every time the same names, and others of them nominated."""
    members = [b"X-%d" % place for place in range(16) if number >> place & 1]
    return [b"Connection: " + b",".join(members), *(b"X-%d: a" % place for place in range(16))]


def long_connections(number: int) -> list[bytes]:
    return [b"Connection: %064d" % number]


@pytest.mark.measures
@pytest.mark.parametrize(
    ("made", "count"),
    [
        (many_names, 270),
        (long_names, 270),
        (many_nominated, 100),
        (many_nominated_in_turn, 600),
        (long_connections, 300),
    ],
)
def test_strangers_fill_the_memory_with_a_few_mebibytes_at_most(made: Callable[[int], list[bytes]], count: int) -> None:
    forget()
    tracemalloc.start()
    try:
        for number in range(count):  # more than are kept
            lines = made(number)
            upwards(lines)
            upwards(lines, but=NOTHING)
            downwards(lines)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        forget()
    assert kept < 14 * MIB
