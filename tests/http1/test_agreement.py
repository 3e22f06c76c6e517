"""The quick proof of a head and the careful reading agree: on every byte in every place, however the bytes are cut."""

from collections.abc import Iterable, Iterator
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.agreement import METHODS, OFFERS, Outcome, requests_agree, responses_agree
from fuzz.mutation import TOKENS
from gateway.http1.grammar import ALPHANUMERIC
from tests.counts import LONG, scaled
from tests.http1.heads import (
    ANSWERS,
    FIELDS,
    HOST,
    LINES,
    REFUSED_ANSWERS,
    REFUSED_REQUESTS,
    REQUESTS,
    cut_at,
    everywhere,
    refused,
    taken,
    ways,
)

REQUEST, ANSWER = b"GET / HTTP/1.1\r\n", b"HTTP/1.1 200 OK\r\n"
anything = st.builds(
    lambda start, parts, end: start + b"".join(parts) + end,
    st.sampled_from([*LINES, b""]),
    st.lists(
        st.one_of(st.sampled_from(FIELDS), st.sampled_from(FIELDS), st.sampled_from(TOKENS), st.binary(max_size=4))
    ),
    st.sampled_from([b"\r\n", b"\r\nhello", b""]),
)


@settings(max_examples=scaled(3000, 20))
@given(anything, st.data())
def test_both_ways_of_reading_agree_on_any_bytes_however_they_are_cut(data: bytes, draw: st.DataObject) -> None:
    places = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    pieces = [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]
    requests_agree(data, [pieces])
    responses_agree(data, [pieces], draw.draw(st.sampled_from(METHODS)), draw.draw(st.sampled_from(OFFERS)))


@pytest.mark.parametrize("data", [*REQUESTS, *ANSWERS])
def test_good_head_cut_into_two_at_any_place_is_the_same(data: bytes) -> None:
    assert any(taken(outcome) for outcome in ways(data, everywhere(data)))  # each cut is compared with the whole


@pytest.mark.parametrize("data", [*REFUSED_REQUESTS, *REFUSED_ANSWERS])
def test_bad_head_cut_into_two_at_any_place_is_refused_alike(data: bytes) -> None:
    assert all(refused(outcome) for outcome in ways(data, everywhere(data)))


@pytest.mark.parametrize("data", [*REQUESTS, *ANSWERS])
@pytest.mark.parametrize("stray", [b"\r", b"\n", b"\0", b"\r\r\n", b"\n\n", b"\r\0\n"])
def test_cr_lf_or_nul_anywhere_in_a_head_is_refused(data: bytes, stray: bytes) -> None:
    head = data[: data.find(b"\r\n\r\n") + 4]
    for place in range(len(head)):
        changed = head[:place] + stray + head[place:]
        if changed.startswith(head):
            continue  # it stands behind the head
        assert all(refused(outcome) for outcome in ways(changed, cut_at(changed, place, place + 1))), changed


TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
NAME = TOKEN - frozenset(b"_")
VALUE = frozenset((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
NOTHING = frozenset[int]()
MEANS_SOMETHING = frozenset(b"\0\t\n\r -.:_a")  # to one who reads heads: with these it is cut everywhere
# Where a byte is put (the @), and which may stand there; a line feed behind CR ends the head, and one more is no part.
PLACES = [
    ("the method", b"GE@T / HTTP/1.1\r\nHost: a\r\n\r\n", TOKEN),
    ("before the method", b"@GET / HTTP/1.1\r\nHost: a\r\n\r\n", TOKEN),
    ("the target", b"GET /a@b HTTP/1.1\r\nHost: a\r\n\r\n", VALUE - frozenset(b"\t ")),
    ("between method and target", b"GET @/ HTTP/1.1\r\nHost: a\r\n\r\n", VALUE - frozenset(b"\t ")),
    ("between target and version", b"GET /@ HTTP/1.1\r\nHost: a\r\n\r\n", VALUE - frozenset(b"\t ")),
    ("before the version", b"GET / @HTTP/1.1\r\nHost: a\r\n\r\n", NOTHING),
    ("the version", b"GET / HTTP/1@.1\r\nHost: a\r\n\r\n", NOTHING),
    ("the minor version", b"GET / HTTP/1.@\r\nHost: a\r\n\r\n", frozenset(b"01")),
    ("behind the version", b"GET / HTTP/1.1@\r\nHost: a\r\n\r\n", NOTHING),
    ("before a name", b"GET / HTTP/1.1\r\nHost: a\r\n@X: b\r\n\r\n", NAME),
    ("a name", b"GET / HTTP/1.1\r\nHost: a\r\nX@Y: b\r\n\r\n", NAME | frozenset(b":")),
    ("behind a name", b"GET / HTTP/1.1\r\nHost: a\r\nX@: b\r\n\r\n", NAME | frozenset(b":")),
    ("before a value", b"GET / HTTP/1.1\r\nHost: a\r\nX:@b\r\n\r\n", VALUE),
    ("a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: b@c\r\n\r\n", VALUE),
    ("before CR", b"GET / HTTP/1.1\r\nHost: a\r\nX: b@\r\n\r\n", VALUE),
    ("between CR and LF", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r@\n\r\n", NOTHING),
    ("between CR and LF of the first line", b"GET / HTTP/1.1\r@\nHost: a\r\n\r\n", NOTHING),
    ("in the place of CR", b"GET / HTTP/1.1\r\nHost: a\r\nX: b@\n\r\n", frozenset(b"\r")),
    ("in the place of LF", b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r@\r\n", frozenset(b"\n")),
    ("before the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n@\r\n", NOTHING),
    ("in the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\r@\n", frozenset(b"\n")),
    ("the Host", b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", TOKEN - frozenset(b"#%^`|") | frozenset(b"(),;=")),
    ("the length", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0@\r\n\r\n", frozenset(b"\t 0123456789")),
    ("the coding", b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked@\r\n\r\n", frozenset(b"\t ")),
    ("the expectation", b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue@\r\n\r\n", frozenset(b"\t ")),
    ("before a version", b"HTTP/1.1@ 200 OK\r\n\r\n", NOTHING),
    ("the status", b"HTTP/1.1 20@ OK\r\n\r\n", frozenset(b"0123456789")),
    ("behind the status", b"HTTP/1.1 200@\r\n\r\n", frozenset(b" ")),
    ("the reason", b"HTTP/1.1 200 O@K\r\n\r\n", VALUE),
    ("between CR and LF of the status line", b"HTTP/1.1 200 OK\r@\nX: b\r\n\r\n", NOTHING),
    ("a name of an answer", b"HTTP/1.1 200 OK\r\nX@Y: b\r\n\r\n", TOKEN | frozenset(b":")),
    ("a value of an answer", b"HTTP/1.1 200 OK\r\nX: b@c\r\n\r\n", VALUE),
    ("before CR of an answer", b"HTTP/1.1 200 OK\r\nX: b@\r\n\r\n", VALUE),
    ("between CR and LF of an answer", b"HTTP/1.1 200 OK\r\nX: b\r@\n\r\n", NOTHING),
    ("in the empty line of an answer", b"HTTP/1.1 200 OK\r\nX: b\r\n\r@\n", frozenset(b"\n")),
    ("the length of an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0@\r\n\r\n", frozenset(b"\t 0123456789")),
    ("the coding of an answer", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked@\r\n\r\n", frozenset(b"\t ")),
]


@pytest.mark.parametrize(("template", "allowed"), [row[1:] for row in PLACES], ids=[row[0] for row in PLACES])
def test_of_all_bytes_only_those_of_the_grammar_may_stand_in_a_place(template: bytes, allowed: frozenset[int]) -> None:
    place = template.index(b"@")
    for byte in range(256):
        data = template[:place] + bytes((byte,)) + template[place + 1 :]
        places = everywhere(data) if byte in MEANS_SOMETHING else cut_at(data, place, place + 1)
        for outcome in ways(data, places):
            assert taken(outcome) is (byte in allowed), (data, outcome)


# -- fields that frame, twice or in disguise -----------------------------------------------------------------

REFUSED_TWICE = [
    (REQUEST, b"Host", b"a"),
    (REQUEST + HOST, b"Content-Length", b"2"),
    (REQUEST + HOST, b"Transfer-Encoding", b"chunked"),
    (REQUEST + HOST, b"Expect", b"100-continue"),
    (ANSWER, b"Content-Length", b"2"),
    (ANSWER, b"Transfer-Encoding", b"chunked"),
]
JOINED = [
    (REQUEST + HOST, b"Connection", b"a"),
    (REQUEST + HOST + b"Connection: upgrade\r\n", b"Upgrade", b"a"),
    (ANSWER, b"Connection", b"a"),
    (ANSWER, b"Upgrade", b"a"),
]


def spellings(name: bytes) -> Iterator[bytes]:
    """A name with each of its letters in the other case; with `make test-long` every spelling."""
    if LONG:
        letters = [{name[at : at + 1].lower(), name[at : at + 1].upper()} for at in range(len(name))]
        yield from map(b"".join, product(*letters))
    else:
        yield from (name[:at] + name[at : at + 1].swapcase() + name[at + 1 :] for at in range(len(name)))


def twice(start: bytes, name: bytes, value: bytes) -> Iterator[tuple[bytes, Iterable[int]]]:
    """Heads in which a field stands twice, in any spelling beside its usual one, and where they are cut: between the
    two, and in the other case, or with another field between, everywhere."""
    first = name + b": " + value + b"\r\n"
    for lines in (name.swapcase() + b":" + value + b" \r\n" + first, first + b"X: y\r\n" + first):
        data = start + lines + b"\r\n"
        yield data, everywhere(data)
    for spelling in spellings(name):
        yield start + first + spelling + b":" + value + b" \r\n\r\n", [len(start + first)]


@pytest.mark.parametrize(("start", "name", "value"), REFUSED_TWICE)
def test_field_of_which_one_may_stand_is_refused_twice_in_any_spelling(start: bytes, name: bytes, value: bytes) -> None:
    once = start + name + b": " + value + b"\r\n\r\n"
    assert any(taken(outcome) for outcome in ways(once, everywhere(once)))
    for data, places in twice(start, name, value):
        assert all(refused(outcome) for outcome in ways(data, places)), data


@pytest.mark.parametrize(("start", "name", "value"), JOINED)
def test_list_in_two_fields_is_one_list_in_any_spelling(start: bytes, name: bytes, value: bytes) -> None:
    for data, places in twice(start, name, value):
        assert all(taken(outcome) for outcome in ways(data, places)), data


def but_for_fields(outcome: Outcome) -> tuple[tuple[object, ...], list[object]]:
    """All that a head says but its fields, and what is behind it."""
    head, *behind = outcome
    assert isinstance(head, tuple)
    return head[:-2], behind


@pytest.mark.parametrize("sign", sorted(bytes((byte,)) for byte in TOKEN if byte not in ALPHANUMERIC + b"-"))
@pytest.mark.parametrize("field", [b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X-A: b"])
def test_name_that_servers_read_as_another_frames_nothing_and_with_an_underscore_is_refused(
    field: bytes, sign: bytes
) -> None:
    for start, framing in product((REQUEST + HOST, ANSWER), (b"Content-Length: 2\r\n\r\nok", b"\r\n")):
        data = start + field.replace(b"-", sign) + b"\r\n" + framing
        read = ways(data, everywhere(data))
        if sign == b"_" and start != ANSWER:
            assert all(refused(outcome) for outcome in read), data
        else:
            plain = ways(start + b"X: y\r\n" + framing, ())
            assert list(map(but_for_fields, read)) == list(map(but_for_fields, plain)), data
