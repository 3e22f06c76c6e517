"""Slow clients on a route that holds bodies for them: no upstream connection waits for anybody who is slow."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse
from gateway.proxy import Limits
from gateway.store import Store
from tests.counts import scaled
from tests.proxy.rig import Connection, RawUpstream, Rig, eventually, rig
from tests.proxy.several import Server, several
from tests.proxy.test_upstreams import saying

KIB = 1024
ROUTES: list[dict[str, Any]] = [
    {"name": "held", "path": "/held", "auth": "none", "hold": "256KiB", "connections": 4, "max_body": "2MiB"},
    {"name": "plain", "path": "/plain", "auth": "none", "connections": 4},
]
BODY = b"x" * (200 * KIB)
LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


@pytest.fixture
async def running(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, no_database, routes=ROUTES) as made:
        yield made


def begun(path: str, size: int) -> bytes:
    """A request whose body is announced, without its last byte."""
    return b"POST %b HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: %d\r\n\r\n" % (path.encode(), size) + b"y" * (
        size - 1
    )


async def test_a_body_is_taken_in_whole_before_an_upstream_is_asked(running: Rig) -> None:
    connection = await running.connect()
    await connection.send(begun("/held", 100 * KIB))
    other = await running.talk(b"GET /plain HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
    assert other.status == 200
    assert [one.target for one in running.upstream.requests] == ["/plain"]
    await connection.send(b"y")
    assert (await connection.reply("POST")).status == 200
    assert running.upstream.requests[-1].body == b"y" * (100 * KIB)
    assert running.upstream.requests[-1].one("content-length") == str(100 * KIB)
    connection.close()


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_longer_body_goes_up_as_it_comes(running: Rig, chunked: bool) -> None:
    size = 300 * KIB
    connection = await running.connect()
    if chunked:
        head = b"POST /held HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.send(head + b"%x\r\n" % size + b"y" * size + b"\r\n")
    else:
        await connection.send(begun("/held", size + 1))
    await eventually(lambda: bool(running.upstream.requests))
    await connection.send(b"0\r\n\r\n" if chunked else b"y")
    assert (await connection.reply("POST")).status == 200
    assert len(running.upstream.requests[-1].body) == size + (not chunked)
    connection.close()


async def test_a_short_chunked_body_is_held_too_and_goes_up_chunked(running: Rig) -> None:
    head = b"POST /held HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection = await running.connect()
    await connection.send(head + b"5\r\nhello\r\n")
    await running.talk(b"GET /plain HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
    assert len(running.upstream.requests) == 1
    await connection.send(b"6\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert (await connection.reply("POST")).status == 200
    sent = running.upstream.requests[-1]
    assert (sent.body, sent.trailers) == (b"hello world", [("x-sum", "1")])
    connection.close()


async def test_a_client_that_leaves_within_its_body_was_never_heard_of_upstream(running: Rig) -> None:
    connection = await running.connect()
    await connection.send(begun("/held", 100))
    connection.writer.transport.abort()
    await eventually(lambda: not running.proxy.fronts)
    assert running.upstream.requests == []
    assert running.upstream.connections == 0


async def test_a_client_is_told_to_go_on_before_its_body_is_held(running: Rig) -> None:
    head = b"POST /held HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    connection = await running.connect()
    await connection.send(head)
    assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await connection.send(b"ok")
    assert (await connection.reply("POST")).status == 200
    connection.close()


async def test_a_held_body_in_chunks_is_called_for_and_goes_up_with_its_trailers_and_the_next_request_follows(
    running: Rig,
) -> None:
    head = b"POST /held HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    connection = await running.connect()
    await connection.send(head)
    assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    rest = b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 5\r\nX-Auth-Subject: root\r\n\r\n"
    await connection.send(rest + b"GET /held HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
    assert [(await connection.reply(method)).status for method in ("POST", "GET")] == [200, 200]
    sent = running.upstream.requests[0]
    assert (sent.body, sent.trailers, sent.all("expect")) == (b"abc", [("x-sum", "1")], [])
    connection.close()


@pytest.mark.parametrize(
    "rest",
    [
        b"3\r\nabc\r\nzz\r\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\r\n0\r\nno trailer\r\n\r\n",
        b"3\r\nabc\r\nfffffffff\r\n",
        b"3\r\nabc\r\n300000\r\n",
        b"3\r\nabc\r\n",
    ],
)
async def test_a_held_body_that_turns_out_bad_long_or_late_reaches_nobody(
    rest: bytes, tmp_path: Path, no_database: Store
) -> None:
    async with rig(tmp_path, no_database, routes=ROUTES, limits=Limits(body_idle=0.3, tick=0.05)) as running:
        head = b"POST /held HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        reply = await running.talk(head + rest, method="POST")
        assert reply.status in (400, 408, 413)
        assert running.upstream.connections == 0


async def test_a_held_body_is_sent_to_another_upstream_whole_and_with_its_trailers(
    tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")
    a.behaviour = saying(b"")
    head = b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    async with several(tmp_path, no_database, a, b, hold="64KiB") as running:
        while not a.requests:
            connection = await running.connect()
            await connection.send(head)
            await connection.reader.readuntil(b"\r\n\r\n")
            await connection.send(b"3\r\nabc\r\n3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n")
            assert (await connection.reply("PUT")).body == b"b"
            connection.close()
    for server in (a, b):
        assert (server.requests[-1].body, server.requests[-1].trailers) == (b"abcdef", [("x-sum", "1")])


async def slow_reader(running: Rig, path: str) -> Connection:
    """A client that asks, and takes next to nothing of the answer."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", running.port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    connection = Connection(reader, writer)
    await connection.send(b"GET %b HTTP/1.1\r\nHost: gateway.test\r\n\r\n" % path.encode())
    return connection


async def test_slow_clients_hold_no_upstream_connection(tmp_path: Path, no_database: Store) -> None:
    """2,000 clients that send slowly, or take their answer slowly, and four connections to the upstream."""
    many, patience = scaled(1000), Limits(body_idle=3600.0, slow_reader=3600.0)  # on a busy machine they are slower yet
    async with rig(tmp_path, no_database, routes=ROUTES, upstream=RawUpstream(LARGE), limits=patience) as running:
        senders = [await running.connect() for _ in range(many)]
        for sender in senders:
            await sender.send(begun("/held", 1000))
        readers = [await slow_reader(running, "/held") for _ in range(many)]
        await eventually(lambda: len(running.upstream.requests) == many)
        await eventually(lambda: all(one.complete for one in running.upstream.requests))
        for _ in range(20):
            assert len((await running.talk(b"GET /held HTTP/1.1\r\nHost: gateway.test\r\n\r\n")).body) == len(BODY)
        replies = []
        for sender in senders:
            await sender.send(b"y")
            replies.append(await sender.reply("POST"))
        assert {(reply.status, len(reply.body)) for reply in replies} == {(200, len(BODY))}
        answers = []
        for reader in readers:
            reader.writer.transport.resume_reading()  # type: ignore[attr-defined]
            answers.append(await reader.reply())
        assert {(answer.complete, answer.body == BODY) for answer in answers} == {(True, True)}
        for connection in (*senders, *readers):
            connection.close()


@pytest.mark.parametrize("hold", ["2MiB", "64", 64, ""])
def test_what_cannot_be_held_is_refused(hold: object) -> None:
    route = {"name": "a", "path": "/a", "auth": "none", "upstreams": ["http://127.0.0.1:1"], "hold": hold}
    with pytest.raises(ConfigError) as refused:
        parse({"server": {"public_url": "http://127.0.0.1:8080"}, "routes": [route]})
    assert [fault.path for fault in refused.value.faults] == ["routes[0].hold"]
