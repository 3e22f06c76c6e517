"""Hostile bytes, judged on both sides of the gateway: each row whole, byte by byte, behind a good request on one
write, and second on a connection. What a bad request hides must never run (RFC 9112, section 11).
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.proxy import Limits
from gateway.store import Store
from tests.http1.test_request_reader import BAD_CHUNKS, CHUNKED, REFUSED
from tests.proxy.rig import Connection, Rig, rig
from tests.routing.test_target import REFUSED as BAD_TARGETS

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"

ENDLESS = [row for row in REFUSED if row[0] in ("a request line that never ends", "a field that never ends")]
HEADS = [(name, data) for name, data, _ in REFUSED]
CHUNKS = [(name, CHUNKED.replace(b"POST /", b"POST /bad") + data) for name, data in BAD_CHUNKS]
# A target with a space or control breaks the request line instead; both ways it is refused.
TARGETS = [(f"target {raw!r}", b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % raw) for raw in BAD_TARGETS]
HOSTS = [
    ("absolute-form for another host", b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("absolute-form without Host", b"GET http://a/ HTTP/1.1\r\n\r\n"),
    ("absolute-form with a user", b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("authority-form", b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("asterisk-form", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
]
ROWS = HEADS + CHUNKS + TARGETS + HOSTS


@pytest.fixture
async def public(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    """One public route, with time for a long head that comes byte by byte on a busy machine."""
    async with rig(tmp_path, no_database, limits=Limits(head=300.0)) as running:
        yield running


async def assert_nothing_ran(rig: Rig, expected: list[str]) -> None:
    """Only the good requests reached the upstream, and the gateway serves the next one."""
    assert (await rig.talk(GOOD)).body == b"ok"
    assert [request.target for request in rig.upstream.requests] == [*expected, "/good"]
    assert not rig.upstream.faults
    assert not rig.plane.requests


async def assert_refused_and_closed(connection: Connection) -> None:
    reply = await connection.reply()
    assert reply.complete
    assert 400 <= reply.status < 600
    assert reply.status not in (404, 408)
    assert b"request_id" in reply.body


@pytest.mark.parametrize(("name", "data"), ROWS, ids=[row[0] for row in ROWS])
async def test_bad_bytes_are_refused_and_hide_nothing(name: str, data: bytes, public: Rig) -> None:
    for bytewise in (False, True):
        connection = await public.connect()
        await connection.send(data + HIDDEN, bytewise=bytewise)
        await assert_refused_and_closed(connection)
        if (name, data) in HEADS + CHUNKS:  # a refused target leaves the framing sound, so the connection stays
            assert await connection.closed()
        connection.close()
    if (name, data) in HEADS + CHUNKS:
        await assert_nothing_ran(public, [])


@pytest.mark.parametrize(("name", "data"), HEADS + CHUNKS, ids=[row[0] for row in HEADS + CHUNKS])
async def test_bad_bytes_behind_a_good_request_hide_nothing(name: str, data: bytes, public: Rig) -> None:
    pipelined = await public.connect()
    await pipelined.send(GOOD + data + HIDDEN)
    assert (await pipelined.reply()).body == b"ok"
    await assert_refused_and_closed(pipelined)
    assert await pipelined.closed()
    pipelined.close()

    second = await public.connect()
    await second.send(GOOD)
    assert (await second.reply()).body == b"ok"
    await second.send(data + HIDDEN)
    await assert_refused_and_closed(second)
    assert await second.closed()
    second.close()
    await assert_nothing_ran(public, ["/good", "/good"])


@pytest.mark.parametrize("raw", [b"/a/../b", b"//a", b"/a%2fb", b"/a%00", b"/a\\b", b"/a%zz"])
async def test_a_refused_target_leaves_the_connection_sound(raw: bytes, public: Rig) -> None:
    connection = await public.connect()
    await connection.send(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % raw + GOOD)
    assert (await connection.reply()).status == 400
    assert (await connection.reply()).body == b"ok"
    assert [request.target for request in public.upstream.requests] == ["/good"]
    connection.close()


@pytest.mark.parametrize(
    "raw",
    [b"/?", b"/a?b", b"/a;x=1", b"/a%20b", b"/%252e%252e/a", b"/a{b}|^", "/ä?ö".encode(), b"/a?x=%zz\\//..", b"/a??b"],
)
async def test_a_legal_target_reaches_the_upstream_byte_for_byte(raw: bytes, public: Rig) -> None:
    await public.talk(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % raw)
    assert bytes(public.upstream.raw).split(b" ")[1] == raw


async def test_a_chunk_that_turns_bad_later_never_completes_the_request_upstream(public: Rig) -> None:
    connection = await public.connect()
    await connection.send(CHUNKED + b"5\r\nhello\r\n5\r\nworldX\r\n0\r\n\r\n" + HIDDEN)
    await assert_refused_and_closed(connection)
    assert [request.complete for request in public.upstream.requests] in ([], [False])
    connection.close()


async def test_h2c_is_not_forwarded(public: Rig) -> None:
    await public.talk(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    )
    (request,) = public.upstream.requests
    assert request.all("upgrade") == []
    assert request.all("http2-settings") == []
    assert request.all("connection") == []


async def test_a_get_with_a_body_hides_no_request_in_it(public: Rig) -> None:
    connection = await public.connect()
    await connection.send(b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN + GOOD)
    assert (await connection.reply()).body == b"ok"
    assert (await connection.reply()).body == b"ok"
    assert [(r.target, r.body) for r in public.upstream.requests] == [("/a", HIDDEN), ("/good", b"")]
    connection.close()
