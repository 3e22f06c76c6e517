"""The wire table against the gateway: each row whole, byte by byte, behind a good request, and second."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from fuzz.mutation import REQUEST_SEEDS, mutated
from fuzz.sockets import forwarded_alike
from gateway.proxy import Limits
from tests.counts import scaled
from tests.wire.answers import Answer
from tests.wire.conversation import converse
from tests.wire.judge import WAYS, judge, own_answer, play
from tests.wire.judge_answers import hear, judge_answer
from tests.wire.rig import WireRig, wire_rig
from tests.wire.rows import Pass, Row, chunked, post
from tests.wire.table import ANSWERS, REQUESTS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WireRig]:
    """One gateway for all rows of a process."""
    async with wire_rig(tmp_path_factory.mktemp("wire")) as running:
        yield running


def test_the_table_has_distinct_rows() -> None:
    assert len(REQUESTS) >= 400
    assert len({row.name for row in REQUESTS}) == len(REQUESTS)
    assert len({(row.data, row.ends) for row in REQUESTS}) == len(REQUESTS)
    assert len({answer.name for answer in ANSWERS}) == len(ANSWERS)
    assert len({(answer.data, answer.request) for answer in ANSWERS}) == len(ANSWERS)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("row", REQUESTS, ids=[row.name for row in REQUESTS])
async def test_a_request_means_the_same_on_both_sides(row: Row, wire: WireRig) -> None:
    for way in WAYS:
        assert judge(row, await play(row, way, wire.port, wire.recorder)) == [], way


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("answer", ANSWERS, ids=[answer.name for answer in ANSWERS])
async def test_an_answer_is_relayed_whole_or_not_at_all(answer: Answer, wire: WireRig) -> None:
    for way in WAYS:
        assert judge_answer(answer, await hear(answer, way, wire.port, wire.recorder)) == [], way


@pytest.mark.asyncio(loop_scope="module")
async def test_whatever_is_forwarded_is_read_alike_by_every_reader(wire: WireRig) -> None:
    chance = random.Random(3)
    for _ in range(scaled(3000)):
        await forwarded_alike(wire, mutated(chance, REQUEST_SEEDS, most=3))


STAYING = [
    row
    for row in REQUESTS
    if isinstance(row.verdict, Pass) and not (row.verdict.closes or row.ends or len(row.data) > 900)
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("seed", range(5))
async def test_pipelined_requests_are_answered_in_their_order(seed: int, wire: WireRig) -> None:
    # RFC 9112, section 9.3.2
    rows = random.Random(seed).sample(STAYING, 40)
    wire.recorder.reset()
    data = b"".join(row.data for row in rows)
    said = await converse(wire.port, [([data], len(rows))], [row.method for row in rows])
    verdicts = [row.verdict for row in rows if isinstance(row.verdict, Pass)]
    answered = zip(said.replies, verdicts, strict=True)
    assert all(own_answer(reply, verdict.method, verdict.target) for reply, verdict in answered)
    arrived = [
        arrived.reading and (arrived.reading.method, arrived.reading.target) for arrived in wire.recorder.arrived
    ]
    assert arrived == [(verdict.method, verdict.target) for verdict in verdicts]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("together", [True, False], ids=["pipelined", "one by one"])
async def test_requests_alike_but_for_their_credential_keep_their_own(together: bool, wire: WireRig) -> None:
    credentials = random.Random(4).choices(("Bearer a", "Bearer b", "Basic c", ""), k=30)
    credentials += [f"Bearer {number}" for number in range(30)]
    lines = [f"Authorization: {credential}\r\n" if credential else "" for credential in credentials]
    requests = [f"GET /open HTTP/1.1\r\nHost: a\r\n{line}X-A: b\r\n\r\n".encode() for line in lines]
    wire.recorder.reset()
    steps = [([b"".join(requests)], 60)] if together else [([each], number + 1) for number, each in enumerate(requests)]
    said = await converse(wire.port, steps, ["GET"] * 60)
    assert len(said.replies) == 60
    arrived = [each.reading.values(b"authorization") for each in wire.recorder.arrived if each.reading is not None]
    assert arrived == [[credential.encode()] if credential else [] for credential in credentials]


UNFINISHED = [
    ("nothing of", b"", False),
    ("one byte of", b"G", True),
    ("a line end before", b"\r\n", False),
    ("a line of", b"POST /row HTTP/1.1\r\n", True),
    ("a field of", b"POST /row HTTP/1.1\r\nHost: a\r\nX-A", True),
    ("all but the last byte of", post(b"Content-Length: 5")[:-1], True),
    ("no body of", post(b"Content-Length: 5"), True),
    ("half the body of", post(b"Content-Length: 5", body=b"he"), True),
    ("no chunk of", chunked(b""), True),
    ("half a chunk of", chunked(b"5\r\nhe"), True),
    ("all but the end of", chunked(b"5\r\nhello\r\n0\r\n"), True),
]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_request_that_is_not_finished_in_time_ends_the_connection(tmp_path: Path) -> None:
    # RFC 9110, section 15.5.9: 408 where a request has begun
    limits = Limits(head=0.4, body_idle=0.4, tick=0.05, linger=0.2)
    async with wire_rig(tmp_path, limits) as rig:
        said = await asyncio.gather(*(converse(rig.port, [([data], 9)], ["GET"]) for _, data, _ in UNFINISHED))
        for (name, _, begun), heard in zip(UNFINISHED, said, strict=True):
            assert ([reply.status for reply in heard.replies], heard.ended) == ([408] if begun else [], True), name
        assert not [arrived for arrived in rig.recorder.arrived if arrived.reading is not None]


POST = b"POST /row HTTP/1.1\r\nHost: a\r\n"
AT_ONCE = [  # bytes behind which nothing comes, and that nothing could mend
    ("a request line without a version", b"GET /x\r\n", 400),
    ("a request line of one word", b"GET\r\n", 400),
    ("a second empty line", b"\r\n\r\n", 400),
    ("a request line that ends in a bare LF", b"GET /x HTTP/1.1\n", 400),
    ("an unknown version", b"GET /x HTTP/2.0\r\n", 505),
    ("a version that is none", b"GET /x HTTP/1.x\r\n", 400),
    ("CONNECT", b"CONNECT a:443 HTTP/1.1\r\n", 405),
    ("a method that is no token", b"G(T /x HTTP/1.1\r\n", 400),
    ("a method of 33 characters", b"M" * 33 + b" /x HTTP/1.1\r\n", 400),
    ("a request line of 8 KiB and a byte", b"GET /" + b"a" * (8 * 1024), 414),
    ("a field of 8 KiB and a byte", POST + b"X: " + b"a" * (8 * 1024), 431),
    ("101 fields", POST + b"X: a\r\n" * 100, 431),
    ("a field without a colon", POST + b"X\r\n", 400),
    ("a folded field", POST + b"X: a\r\n b\r\n", 400),
    ("a field name with an underscore", POST + b"X_A: a\r\n", 400),
    ("a second Host", POST + b"Host: a\r\n", 400),
    ("a malformed Host", b"GET /x HTTP/1.1\r\nHost: a/b\r\n", 400),
    ("a malformed length", POST + b"Content-Length: 5x\r\n", 400),
    ("a second length", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n", 400),
    ("a length beside a coding", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400),
    ("a coding that does not end in chunked", POST + b"Transfer-Encoding: gzip\r\n", 400),
    ("a coding on HTTP/1.0", b"POST /row HTTP/1.0\r\nTransfer-Encoding: chunked\r\n", 400),
    ("a chunk size that is none", chunked(b"x\r\n"), 400),
    ("a chunk size of 1 MiB and a byte", chunked(b"100001\r\n"), 413),
    ("a chunk size of 4 GiB", chunked(b"100000000\r\n"), 413),
    ("a chunk size of 4 GiB behind a chunk", chunked(b"5\r\nhello\r\n100000000\r\n"), 413),
    ("a trailer without a colon", chunked(b"0\r\nX\r\n"), 400),
]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_line_that_cannot_be_mended_is_refused_as_soon_as_it_is_complete(tmp_path: Path) -> None:
    # RFC 9112, sections 3 and 7.1: no deadline of a head or a body plays a part, for they are an hour away.
    limits = Limits(head=3600, body_idle=3600, tick=0.05, linger=0.2)
    async with wire_rig(tmp_path, limits) as rig:
        said = await asyncio.gather(*(converse(rig.port, [([data], 1)], ["GET"]) for _, data, _ in AT_ONCE))
        for (name, _, status), heard in zip(AT_ONCE, said, strict=True):
            assert [reply.status for reply in heard.replies] == [status], name
        assert not [arrived for arrived in rig.recorder.arrived if arrived.reading is not None]
