"""Slow, silent, oversized and vanished: what is bounded, on both sides."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import psutil
import pytest

from gateway.proxy import Limits
from gateway.store import Store
from tests.proxy.bulk import both_loops, hold_back
from tests.proxy.rig import DEADLINE, RawUpstream, Rig, eventually, rig

QUICK = Limits(
    head=0.3, keep_alive=0.6, body_idle=0.3, slow_reader=0.3, linger=0.3, connect=0.3, stream_idle=0.4, tick=0.05
)
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MIB = 1024 * 1024
LONG = 3 * DEADLINE  # seconds for what is in flight, which nobody must need


@pytest.fixture
async def quick(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    """A public route, with short deadlines and an upstream that has a second to answer."""
    routes = [{"name": "all", "path": "/", "auth": "none", "timeout": "1s", "max_body": "64KiB"}]
    async with rig(tmp_path, no_database, routes=routes, limits=QUICK) as running:
        yield running


async def test_a_silent_connection_is_closed_within_ten_seconds(public: Rig) -> None:
    connection = await public.connect()
    began = time.monotonic()
    assert await connection.closed(within=11)
    assert time.monotonic() - began < 10.5
    connection.close()


async def test_a_head_that_drips_is_refused_in_time(quick: Rig) -> None:
    connection = await quick.connect()

    async def drip() -> None:
        while True:
            await connection.send(b"x")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    assert (await connection.reply()).status == 408
    dripping.cancel()
    assert not quick.upstream.requests
    connection.close()


async def test_an_idle_connection_is_closed_and_says_nothing(quick: Rig) -> None:
    connection = await quick.connect()
    await connection.send(GET)
    assert (await connection.reply()).status == 200
    assert await connection.closed()
    connection.close()


async def test_a_body_that_stalls_is_given_up_on_both_sides(quick: Rig) -> None:
    connection = await quick.connect()
    await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
    assert (await connection.reply()).status == 408
    assert await connection.closed()
    await eventually(lambda: quick.upstream.ended == 1)
    assert not quick.upstream.requests[0].complete
    connection.close()


async def test_clients_that_are_slow_with_their_forms_keep_nobody_from_the_authorization_plane(
    tmp_path: Path, no_database: Store
) -> None:
    head = b"POST /oauth2/token HTTP/1.1\r\nHost: gateway.test\r\n"
    slow = {
        b"Content-Length: 4\r\n\r\na=": b"bc",
        b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n": b"a=bc",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\na=\r\n": b"2\r\nbc\r\n0\r\nX-Sum: 4\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n1\r\na\r\n3": b"\r\n=bc\r\n0\r\n\r\n",
    }
    limits = Limits(upstream_connections=1, upstream_wait=1)
    async with rig(tmp_path, no_database, limits=limits) as running:
        connections = [await running.connect() for _ in slow]
        for connection, beginning in zip(connections, slow, strict=True):
            await connection.send(head + beginning)
        await eventually(lambda: sum(front.exchange is not None for front in running.proxy.fronts) == len(slow))
        assert (await running.talk(b"GET /oauth2/login HTTP/1.1\r\nHost: gateway.test\r\n\r\n")).status == 200
        assert [request.target for request in running.plane.requests] == ["/oauth2/login"]
        for connection, rest in zip(connections, slow.values(), strict=True):
            await connection.send(rest)
            assert (await connection.reply()).status == 200
            connection.close()
        forms = running.plane.requests[1:]
        assert [(form.body, form.complete, form.all("expect")) for form in forms] == [(b"a=bc", True, [])] * len(slow)
        assert [form.trailers for form in forms] == [[], [], [("x-sum", "4")], []]
        assert [connection.interim for connection in connections] == [[], [100], [], [100]]


async def test_a_client_that_is_slow_with_its_body_does_not_use_up_the_upstream_s_time(
    tmp_path: Path, no_database: Store
) -> None:
    routes = [{"name": "all", "path": "/", "auth": "none", "timeout": "1s"}]
    async with rig(tmp_path, no_database, routes=routes, limits=Limits(body_idle=20, tick=0.05)) as running:
        connection = await running.connect()
        await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        assert not await connection.closed(within=1.5)
        await connection.send(b"world")
        assert (await connection.reply()).status == 200
        connection.close()


@pytest.mark.parametrize("expectation", [b"", b"Expect: 100-continue\r\n"])
async def test_an_upstream_that_takes_no_body_has_its_time_only(
    expectation: bytes, tmp_path: Path, no_database: Store
) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        cast("asyncio.Transport", writer.transport).pause_reading()
        await asyncio.Event().wait()

    routes = [{"name": "all", "path": "/", "auth": "none", "timeout": "1s", "max_body": "64MiB"}]
    async with rig(tmp_path, no_database, routes=routes, limits=Limits(body_idle=20, tick=0.05)) as running:
        running.upstream.handler = deaf
        connection = await running.connect()
        head = b"POST / HTTP/1.1\r\nHost: a\r\n%bContent-Length: %d\r\n\r\n" % (expectation, 32 * MIB)
        connection.writer.write(head + (b"" if expectation else b"x" * 16 * MIB))
        assert (await connection.reply()).status == 504
        connection.close()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer without end, as fast as it is taken."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def test_a_reader_that_takes_nothing_is_closed_and_memory_stays_flat(quick: Rig) -> None:
    quick.upstream.handler = endless
    memory = psutil.Process(os.getpid()).memory_info
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", quick.port))
    await asyncio.get_running_loop().sock_sendall(client, GET)
    before = memory().rss
    await eventually(lambda: quick.upstream.ended == 1)
    assert memory().rss - before < 8 * MIB
    assert not quick.proxy.fronts
    client.close()


async def test_an_answer_that_stalls_is_broken_off(quick: Rig) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        await reader.read()

    quick.upstream.handler = stall
    reply = await quick.talk(GET)
    assert (reply.body, reply.complete) == (b"hello", False)
    await eventually(lambda: quick.upstream.ended == 1)


async def test_an_upstream_that_does_not_answer_is_a_504_with_the_request_id(quick: Rig) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    quick.upstream.handler = silent
    began = time.monotonic()
    reply = await quick.talk(GET)
    assert reply.status == 504
    assert 0.9 < time.monotonic() - began < 10  # and not what a route has without a timeout of its own
    assert reply.one("x-request-id").encode() in reply.body
    await eventually(lambda: quick.upstream.ended == 1)


async def test_an_upstream_that_refuses_is_a_502(tmp_path: Path, no_database: Store) -> None:
    routes = [{"name": "gone", "path": "/", "auth": "none", "upstreams": ["http://127.0.0.1:1"]}]
    async with rig(tmp_path, no_database, routes=routes) as running:
        connection = await running.connect()
        for _ in range(2):
            await connection.send(GET)
            reply = await connection.reply()
            assert reply.status == 502
            assert b"bad_gateway" in reply.body
        connection.close()


async def test_the_next_upstream_is_tried_where_one_refuses(tmp_path: Path, no_database: Store) -> None:
    async with RawUpstream().serving() as alive:
        upstreams = ["http://127.0.0.1:1", f"http://127.0.0.1:{alive.port}"]
        routes = [{"name": "two", "path": "/", "auth": "none", "upstreams": upstreams}]
        async with rig(tmp_path, no_database, routes=routes) as running:
            assert [(await running.talk(GET)).status for _ in range(4)] == [200] * 4


LIES = [
    b"garbage\r\n\r\n",
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
]


@pytest.mark.parametrize("lie", LIES)
async def test_an_upstream_that_breaks_the_framing_is_a_502(lie: bytes, public: Rig) -> None:
    public.upstream.answer = lie
    reply = await public.talk(GET)
    assert (reply.status, reply.complete) == (502, True)


@pytest.mark.parametrize(
    "lie",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nbad trailer\r\n\r\n",
    ],
)
async def test_a_lying_length_never_becomes_a_complete_answer(lie: bytes, public: Rig) -> None:
    public.upstream.answer = lie
    reply = await public.talk(GET)
    assert (reply.status, reply.complete) == (200, False)


async def test_bytes_behind_an_answer_reach_nobody(public: Rig) -> None:
    public.upstream.answer = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    )
    connection = await public.connect()
    await connection.send(GET + GET)
    assert [(await connection.reply()).body for _ in range(2)] == [b"ok", b"ok"]
    connection.close()


async def test_a_client_that_is_gone_cancels_the_upstream_within_a_second(public: Rig) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()

    public.upstream.handler = silent
    for abruptly in (False, True):
        public.upstream.ended = public.upstream.connections = 0
        connection = await public.connect()
        await connection.send(GET)
        await eventually(lambda: public.upstream.connections == 1)
        (connection.writer.transport.abort if abruptly else connection.close)()
        await eventually(lambda: public.upstream.ended == 1, within=1)
    await eventually(lambda: not public.proxy.fronts)


@both_loops
async def test_a_client_that_went_while_it_was_not_read_leaves_nothing_behind(quick: Rig) -> None:
    quick.upstream.handler = hold_back
    connection = await quick.connect()
    await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 65536\r\n\r\n")
    await eventually(lambda: quick.upstream.connections == 1)
    [front], [pool] = quick.proxy.fronts, quick.proxy.upstreams._pools.values()
    [upstream] = pool._open
    upstream.pause_writing()  # as if it took no more
    connection.writer.write(bytes(65536) + GET)
    await eventually(lambda: not front._reading)
    connection.writer.transport.abort()  # so that the answer meets a reset
    silent = await quick.connect()
    await eventually(lambda: front not in quick.proxy.fronts)  # when the upstream's time is over
    assert await silent.closed()  # as everybody's time still ends
    silent.close()


async def test_a_client_that_only_ends_its_side_still_gets_a_quick_answer(public: Rig) -> None:
    connection = await public.connect()
    await connection.send(GET)
    connection.writer.write_eof()
    assert (await connection.reply()).body == b"ok"
    assert await connection.closed()
    connection.close()


@pytest.mark.parametrize("expectation", [b"", b"Expect: 100-continue\r\n"])
async def test_a_body_over_the_limit_is_refused_before_it_comes(expectation: bytes, quick: Rig) -> None:
    connection = await quick.connect()
    await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + expectation + b"Content-Length: 65537\r\n\r\n")
    reply = await connection.reply()
    assert (reply.status, reply.one("connection")) == (413, "close")
    assert connection.interim == []
    assert quick.upstream.connections == 0
    connection.close()


async def test_chunks_over_the_limit_are_refused_and_never_complete_upstream(quick: Rig) -> None:
    connection = await quick.connect()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    await connection.send(head + b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
    await eventually(lambda: quick.upstream.connections == 1)
    await connection.send((b"8000\r\n" + b"x" * 0x8000 + b"\r\n") * 2)
    assert (await connection.reply()).status == 413
    await eventually(lambda: quick.upstream.ended == 1)
    assert not quick.upstream.requests[0].complete
    connection.close()


async def test_a_body_of_just_the_limit_passes(quick: Rig) -> None:
    reply = await quick.talk(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n" + b"x" * 65536)
    assert reply.status == 200
    assert len(quick.upstream.requests[0].body) == 65536


async def test_many_pipelined_requests_wait_outside(public: Rig) -> None:
    release = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await public.upstream.read_request(reader)
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    public.upstream.handler = wait
    connection = await public.connect()
    connection.writer.write(GET * 300_000)  # 8 MB
    await eventually(lambda: public.upstream.connections == 1)
    (front,) = public.proxy.fronts
    await eventually(lambda: front.reader.buffered >= 64 * 1024)
    for _ in range(20):
        await asyncio.sleep(0)
    assert front.reader.buffered < 512 * 1024
    assert public.upstream.connections == 1
    release.set()
    assert [(await connection.reply()).body for _ in range(20)] == [b"ok"] * 20
    connection.close()


async def test_a_slow_upstream_holds_the_client_back(public: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        assert len(await reader.readexactly(MIB)) == MIB
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    public.upstream.handler = slow
    connection = await public.connect()
    connection.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % MIB + b"x" * MIB)
    await eventually(lambda: public.upstream.connections == 1)
    (front,) = public.proxy.fronts
    await asyncio.sleep(0.05)
    assert front.reader.buffered < 512 * 1024
    release.set()
    assert (await connection.reply()).body == b"ok"
    connection.close()


async def test_draining_lets_exchanges_end_and_closes_idle_connections(public: Rig) -> None:
    release = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await public.upstream.read_request(reader)
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    public.upstream.handler = wait
    idle, busy = await public.connect(), await public.connect()
    await idle.send(b"OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")  # answered by the proxy itself
    assert (await idle.reply()).status == 501
    await busy.send(GET)
    await eventually(lambda: public.upstream.connections == 1 and len(public.proxy.fronts) == 2)
    draining = asyncio.create_task(public.proxy.drain(LONG))
    assert await idle.closed()
    assert not draining.done()
    release.set()
    reply = await busy.reply()
    assert (reply.body, reply.one("connection")) == (b"ok", "close")
    busy.close()
    await asyncio.wait_for(draining, DEADLINE)
    assert not public.proxy.fronts
    idle.close()


async def test_draining_answers_the_first_request_of_a_connection_taken_before(public: Rig) -> None:
    """Where workers change, a client must not pay for having come to an old one: nobody else has its connection."""
    connection = await public.connect()
    await eventually(lambda: len(public.proxy.fronts) == 1)
    draining = asyncio.create_task(public.proxy.drain(LONG))
    await eventually(lambda: public.proxy.draining)
    await connection.send(GET)
    reply = await connection.reply()
    assert (reply.status, reply.one("connection")) == (200, "close")
    connection.close()
    await asyncio.wait_for(draining, DEADLINE)


async def test_draining_answers_a_connection_that_was_taken_but_not_told_of_yet(public: Rig) -> None:
    """The loop takes a connection in one turn and tells its protocol in a later one; draining may begin in between."""
    front = public.proxy.front()
    draining = asyncio.create_task(public.proxy.drain(LONG))
    await asyncio.sleep(0)
    ours, theirs = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: front, theirs)
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(GET)
    assert (await asyncio.wait_for(reader.readline(), DEADLINE)).startswith(b"HTTP/1.1 200 ")
    await asyncio.wait_for(draining, DEADLINE)
    assert transport.is_closing()
    writer.close()


async def test_draining_does_not_wait_long_for_a_connection_that_brings_nothing(public: Rig) -> None:
    connection = await public.connect()
    await eventually(lambda: len(public.proxy.fronts) == 1)
    draining = asyncio.create_task(public.proxy.drain(LONG))
    assert await connection.closed()
    await asyncio.wait_for(draining, DEADLINE)
    connection.close()


async def test_a_tunnel_that_idles_is_closed_on_both_sides(quick: Rig) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        await reader.read()

    quick.upstream.handler = serve
    connection = await quick.connect()
    await connection.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
    assert b"101" in await connection.reader.readuntil(b"\r\n\r\n")
    assert await connection.closed()
    await eventually(lambda: quick.upstream.ended == 1)
    connection.close()


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("application/json, text/html;q=0.5", "application/json"),
        ("text/html;q=nonsense", "application/json"),
    ],
)
async def test_a_refusal_is_a_page_where_the_request_prefers_one(
    accept: str, kind: str, tmp_path: Path, no_database: Store
) -> None:
    routes = [{"name": "api", "path": "/api", "auth": "none"}]
    async with rig(tmp_path, no_database, routes=routes) as running:
        reply = await running.talk(f"GET /x HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n".encode())
        head = await running.talk(f"HEAD /x HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n".encode(), method="HEAD")
    assert (reply.status, reply.one("content-type")) == (404, kind)
    assert reply.one("x-request-id").encode() in reply.body
    assert (kind == "application/json") or reply.body.endswith(b" /x")
    assert (head.status, head.body) == (404, b"")


async def test_a_method_that_no_route_of_the_path_takes_is_a_405(tmp_path: Path, no_database: Store) -> None:
    # RFC 9110, section 15.5.6
    routes = [{"name": "api", "path": "/api", "auth": "none", "methods": ["GET", "PUT"]}]
    async with rig(tmp_path, no_database, routes=routes) as running:
        reply = await running.talk(b"POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        assert (reply.status, reply.one("allow")) == (405, "GET, PUT")
        assert running.upstream.connections == 0
