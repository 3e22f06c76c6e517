"""Readers change as their tables say: all of these is met, nothing else happens, and asking for it is a fault."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1 import Malformed, RequestReader, ResponseReader
from gateway.http1.body import CHUNKS, Awaited, ChunkedBody
from gateway.http1.buffer import Buffer
from gateway.http1.reader import Stage
from gateway.http1.request import REQUESTS
from gateway.http1.response import ANSWERS
from gateway.states import State
from tests.counts import scaled

Steps = dict[str, Callable[[], object]]
"""All that may be done with a reader, by its name; each step makes one change at most."""

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"
EARLY = b"HTTP/1.1 103 Early Hints\r\n\r\n"
OTHER = b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
WRONG = CHUNKED.replace(b"2", b"no size")


def given_bytes(reader: RequestReader | ResponseReader, *pieces: bytes) -> Steps:
    return {f"receive {piece!r}": partial(reader.receive, piece) for piece in pieces}


def requests() -> tuple[RequestReader, Steps]:
    reader = RequestReader()
    return reader, {
        **given_bytes(reader, GET[:9], GET, POST[:-2], POST + GET, GET[:-2] + CHUNKED, GET[:-2] + WRONG, b"ok"),
        "whole": lambda: reader.whole(POST),
        "next_event": reader.next_event,
        "goes on": reader.next_request,
    }


def answers() -> tuple[ResponseReader, Steps]:
    reader = ResponseReader(b"GET", b"websocket")
    return reader, {
        **given_bytes(reader, OK[:9], OK, OK[:-2], OK + OK, OK[:17] + CHUNKED, OK[:17] + WRONG, EARLY, OTHER, b"ok"),
        "whole": lambda: reader.whole(OK),
        "next_event": reader.next_event,
        "goes on": lambda: reader.expect(b"GET", b"websocket"),
        "closed": reader.closed,
    }


READERS: list[tuple[Callable[[], tuple[RequestReader | ResponseReader, Steps]], Mapping[Stage, frozenset[Stage]]]] = [
    (requests, REQUESTS),
    (answers, ANSWERS),
]
STEPS = {made: sorted(made()[1]) for made, _ in READERS}


def changes(table: Mapping[State, frozenset[State]]) -> set[tuple[State, State]]:
    return {(now, then) for now, leads in table.items() for then in leads}


def followed(
    made: Callable[[], tuple[RequestReader | ResponseReader, Steps]],
    table: Mapping[Stage, frozenset[Stage]],
    names: Iterable[str],
) -> set[tuple[Stage, Stage]]:
    """The changes that these steps make, one after another. To go on where the table does not allow it is a fault that
    changes nothing."""
    reader, steps = made()
    seen = set[tuple[Stage, Stage]]()
    for name in names:
        before = reader.stage
        if name == "goes on" and Stage.REST not in table[before]:
            with pytest.raises(RuntimeError, match=f"{before.name} cannot become"):
                steps[name]()
            assert reader.stage is before
            continue
        with suppress(Malformed):
            steps[name]()
        if reader.stage is not before or name == "goes on":
            seen.add((before, reader.stage))
    return seen


@pytest.mark.parametrize(("made", "table"), READERS)
def test_any_four_steps_change_a_reader_as_its_table_says_and_meet_all_of_it(
    made: Callable[[], tuple[RequestReader | ResponseReader, Steps]], table: Mapping[Stage, frozenset[Stage]]
) -> None:
    seen = set[tuple[Stage, Stage]]()
    for names in product(STEPS[made], repeat=4):
        seen |= followed(made, table, names)
    assert seen == changes(table)


@pytest.mark.parametrize(("made", "table"), READERS)
@settings(max_examples=scaled(2000, 20))
@given(st.data())
def test_however_many_steps_change_a_reader_only_as_its_table_says(
    made: Callable[[], tuple[RequestReader | ResponseReader, Steps]],
    table: Mapping[Stage, frozenset[Stage]],
    data: st.DataObject,
) -> None:
    names = data.draw(st.lists(st.sampled_from(STEPS[made]), max_size=40))
    assert followed(made, table, names) <= changes(table)


def awaited(data: bytes) -> list[Awaited]:
    """What is awaited in turn, of a chunked body that comes byte by byte; each byte makes one change at most."""
    body, buffer, seen = ChunkedBody(), Buffer(), [Awaited.SIZE]
    with suppress(Malformed):
        for at in range(len(data)):
            buffer.append(data[at : at + 1])
            body.read(buffer)
            if body.awaited is not seen[-1]:
                seen.append(body.awaited)
    return seen


def test_chunked_body_awaits_all_that_its_table_has() -> None:
    assert set(pairwise(awaited(b"2\r\nok\r\n1\r\na\r\n0\r\nX: y\r\n\r\n"))) == changes(CHUNKS)


@settings(max_examples=scaled(2000, 20))
@given(st.lists(st.sampled_from([b"2\r\nok\r\n", b"1\r\n", b"0\r\n", b"\r\n", b"X: y\r\n", b"a", b"\r", b"\n"])))
def test_chunked_body_awaits_what_its_table_says_and_nothing_else(parts: list[bytes]) -> None:
    assert set(pairwise(awaited(b"".join(parts)))) <= changes(CHUNKS)
