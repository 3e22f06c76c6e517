"""Ends that nobody meant, and ends that say less than they seem to: resets, half-closed sides, vanished clients."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.proxy import Limits
from gateway.proxy.front import Front
from gateway.proxy.sockets import reset
from gateway.store import Store
from tests.proxy.bulk import KIB, both_loops, contents, head_of, hold_back
from tests.proxy.rig import DEADLINE, Connection, RawUpstream, Rig, eventually, rig
from tests.proxy.test_received import certified, over_tls

__all__ = ["certified"]

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHES = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nhello"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


@pytest.fixture
async def brisk(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    """A public route for large bodies, and short ticks; the other limits are the usual ones."""
    routes = [{"name": "all", "path": "/", "auth": "none", "max_body": "64MiB"}]
    async with rig(tmp_path, no_database, routes=routes, limits=Limits(tick=0.02)) as running:
        yield running


async def everything(connection: Connection) -> tuple[bytes, bool]:
    """What comes to the end, and whether that is a reset."""
    data = b""
    async with asyncio.timeout(DEADLINE):
        try:
            while part := await connection.reader.read(65536):
                data += part
        except ConnectionResetError:
            return data, True
    return data, False


# -- an answer that ends with its connection -----------------------------------------------------------------


def ending(how: str, seen: asyncio.Event) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    """An upstream whose answer lasts as long as its connection, which it ends once the client has seen the answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(UNTIL_CLOSE)
        await seen.wait()
        if how == "reset":
            reset(writer.transport)  # type: ignore[arg-type]  # a server's has both sides
        elif how == "cut":  # the end of TCP's connection, but none of TLS's
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as raw:
                raw.shutdown(socket.SHUT_WR)
            await reader.read()

    return serve


async def heard(running: Rig, version: bytes, how: str) -> tuple[bytes, bool]:
    """What a client gets of such an answer, without its head, and whether it ends in a reset."""
    seen = asyncio.Event()
    running.upstream.handler = ending(how, seen)
    connection = await running.connect()
    await connection.send(b"GET / HTTP/" + version + b"\r\nHost: a\r\nConnection: close\r\n\r\n")
    begun = b""
    while b"hello" not in begun:
        begun += await asyncio.wait_for(connection.reader.read(65536), DEADLINE)
    seen.set()
    rest, broken = await everything(connection)
    connection.close()
    return (begun + rest).partition(b"\r\n\r\n")[2], broken


@both_loops
async def test_an_answer_without_a_length_that_is_reset_does_not_look_whole(brisk: Rig) -> None:
    # RFC 9112, section 8
    assert await heard(brisk, b"1.1", "end") == (b"5\r\nhello\r\n0\r\n\r\n", False)
    assert await heard(brisk, b"1.0", "end") == (b"hello", False)
    assert await heard(brisk, b"1.1", "reset") == (b"5\r\nhello\r\n", False)
    assert await heard(brisk, b"1.0", "reset") == (b"hello", True)


@both_loops
async def test_an_answer_without_a_length_is_whole_over_tls_only_if_tls_says_so(
    tmp_path: Path, no_database: Store, certified: ssl.SSLContext
) -> None:
    # RFC 9112, section 9.8: an incomplete close
    async with over_tls(tmp_path, no_database, certified) as running:
        assert await heard(running, b"1.1", "end") == (b"5\r\nhello\r\n0\r\n\r\n", False)
        assert await heard(running, b"1.1", "cut") == (b"5\r\nhello\r\n", False)
        assert await heard(running, b"1.0", "cut") == (b"hello", True)


@both_loops
async def test_an_answer_that_nobody_takes_in_time_does_not_look_whole(tmp_path: Path, no_database: Store) -> None:
    """HTTP/1.0 knows no other end than the connection's."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + contents(8192 * KIB))
        await writer.drain()

    async with rig(tmp_path, no_database, limits=Limits(slow_reader=0.2, tick=0.02)) as running:
        running.upstream.handler = serve
        connection = await running.connect()
        connection.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await connection.send(b"GET / HTTP/1.0\r\n\r\n")
        await eventually(lambda: bool(running.proxy.fronts))
        await eventually(lambda: not running.proxy.fronts)
        connection.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await everything(connection))[1]
        connection.close()


# -- tunnels and uploads -------------------------------------------------------------------------------------


@both_loops
@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_a_tunnel_that_is_reset_on_one_side_is_reset_on_the_other(side: str, brisk: Rig) -> None:
    heard, broken = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHES + b"hello")
        await heard.wait()
        if side == "upstream":
            reset(writer.transport)  # type: ignore[arg-type]
            return
        try:
            await reader.read()
        except ConnectionResetError:
            broken.set()

    brisk.upstream.handler = serve
    connection = await brisk.connect()
    await connection.send(UPGRADE)
    await asyncio.wait_for(connection.reader.readuntil(b"hello"), DEADLINE)
    heard.set()
    if side == "client":
        reset(connection.writer.transport)  # type: ignore[arg-type]
        await asyncio.wait_for(broken.wait(), DEADLINE)
    else:
        assert await everything(connection) == (b"", True)
    await eventually(lambda: not brisk.proxy.fronts)
    connection.close()


BEGUN = [
    b"Content-Length: 10\r\n\r\nhello",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n",
]


def arrived(upstream: RawUpstream, number: int) -> bool:
    return len(upstream.requests) == number


def over(upstream: RawUpstream, number: int) -> bool:
    return upstream.ended == number


@both_loops
@pytest.mark.parametrize("how", ["reset", "end"])
async def test_an_upload_that_its_client_cuts_never_is_a_whole_request(how: str, brisk: Rig) -> None:
    for number, begun in enumerate(BEGUN, 1):
        connection = await brisk.connect()
        await connection.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + begun)
        await eventually(partial(arrived, brisk.upstream, number))
        if how == "reset":
            reset(connection.writer.transport)  # type: ignore[arg-type]
        else:
            connection.writer.write_eof()
            reply = await connection.reply()
            assert (reply.status, reply.complete, reply.one("connection")) == (400, True, "close")
        await eventually(partial(over, brisk.upstream, number))
        connection.close()
    assert not any(request.complete for request in brisk.upstream.requests)


# -- a body where there can be none --------------------------------------------------------------------------


def belated(answer: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    """An upstream that sends the body of its bodiless answer when the next request comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(FORGED + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    return serve


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(FORGED)),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(FORGED)),
        ("HEAD", b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n" % len(FORGED)),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: %d\r\n\r\n" % len(FORGED)),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: %d\r\n\r\n" % len(FORGED)),
        ("GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
async def test_a_body_that_no_answer_has_is_not_the_next_answer(method: str, head: bytes, public: Rig) -> None:
    # RFC 9112, section 6.3, rule 1
    connection = await public.connect()
    public.upstream.handler = belated(head)
    await connection.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert (await connection.reply(method)).complete
    public.upstream.handler = None  # for who connects anew
    await connection.send(GET)
    assert (await connection.reply()).body == b"ok"
    assert public.upstream.connections == 2
    connection.close()


@pytest.mark.parametrize(
    ("method", "head"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("HEAD", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
    ],
)
async def test_a_connection_stays_behind_an_answer_that_speaks_of_no_body(
    method: str, head: bytes, public: Rig
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(head)

    public.upstream.handler = serve
    connection = await public.connect()
    for _ in range(3):
        await connection.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await connection.reply(method)).complete
    assert public.upstream.connections == 1
    connection.close()


# -- gone, or only silent ------------------------------------------------------------------------------------


def after(moment: asyncio.Event, *parts: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    """An upstream that reads a request and answers with each part once the moment has come."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in parts:
            await moment.wait()
            moment.clear()
            writer.write(part)
        await reader.read()

    return serve


ANSWERS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"ok"),
    (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
]


@both_loops
@pytest.mark.parametrize(("answer", "body"), ANSWERS)
async def test_a_client_that_ends_its_side_gets_the_answer_of_a_slow_upstream(
    answer: bytes, body: bytes, brisk: Rig
) -> None:
    moment = asyncio.Event()
    brisk.upstream.handler = after(moment, answer)
    connection = await brisk.connect()
    await connection.send(GET)
    await eventually(lambda: brisk.upstream.connections == 1)
    connection.writer.write_eof()
    began = brisk.proxy.clock
    await eventually(lambda: brisk.proxy.clock > began + 0.7)  # past two knocks
    moment.set()
    reply = await connection.reply()
    assert (reply.complete, reply.body) == (True, body)
    assert await connection.closed()
    connection.close()


@both_loops
async def test_a_client_that_ends_its_side_gets_the_rest_of_a_slow_answer(brisk: Rig) -> None:
    moment = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    brisk.upstream.handler = after(moment, head + b"2\r\nhi\r\n", b"4\r\nmore\r\n", b"0\r\n\r\n")
    connection = await brisk.connect()
    await connection.send(GET)
    moment.set()
    data = await asyncio.wait_for(connection.reader.readuntil(b"hi\r\n"), DEADLINE)
    connection.writer.write_eof()
    [front] = brisk.proxy.fronts
    await eventually(lambda: front._ahead == b"0")
    moment.set()
    data += await asyncio.wait_for(connection.reader.readuntil(b"more\r\n"), DEADLINE)
    moment.set()
    data += (await everything(connection))[0]
    assert data.partition(b"\r\n\r\n")[2] == b"2\r\nhi\r\n04\r\nmore\r\n0\r\n\r\n"
    connection.close()


@both_loops
async def test_a_client_that_ends_its_side_gets_refusals_and_all_answers_it_asked_for(brisk: Rig) -> None:
    moment = asyncio.Event()
    brisk.upstream.handler = after(moment, ANSWERS[0][0])
    connection = await brisk.connect()
    await connection.send(GET + b"GET /a//b HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.writer.write_eof()
    await eventually(lambda: any(front._ended for front in brisk.proxy.fronts))
    moment.set()
    assert (await connection.reply()).body == b"ok"
    assert (await connection.reply()).status == 400
    assert await connection.closed()
    connection.close()


@both_loops
@pytest.mark.parametrize("abruptly", [False, True])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_is_gone_is_told_from_one_that_ended_its_side(
    abruptly: bool, begun: bool, brisk: Rig
) -> None:
    moment = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
    brisk.upstream.handler = after(moment, *([head] if begun else []))
    connection = await brisk.connect()
    await connection.send(GET)
    if begun:
        moment.set()
        await asyncio.wait_for(connection.reader.readuntil(b"hi\r\n"), DEADLINE)
    await eventually(lambda: brisk.upstream.connections == 1)
    (connection.writer.transport.abort if abruptly else connection.close)()
    await eventually(lambda: brisk.upstream.ended == 1, within=1)
    await eventually(lambda: not brisk.proxy.fronts, within=1)


def close(client: socket.socket, *, abruptly: bool) -> None:
    if abruptly:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@both_loops
@pytest.mark.parametrize("abruptly", [False, True])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_client_that_goes_while_its_upload_is_blocked_is_noticed(
    abruptly: bool, chunked: bool, brisk: Rig
) -> None:
    """Also where what it sent last, and its end, are still on its own side, since we take no more."""
    brisk.upstream.handler = hold_back
    size = 32 * 1024 * KIB
    client = socket.socket()
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", brisk.port))
    head = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size if chunked else head_of(size)
    )
    sending = asyncio.ensure_future(loop.sock_sendall(client, head + contents(size)))
    await eventually(lambda: any(front._unread(front.exchange) for front in brisk.proxy.fronts if front.exchange))
    [pool] = brisk.proxy.upstreams._pools.values()
    sending.cancel()
    close(client, abruptly=abruptly)
    await eventually(lambda: not brisk.proxy.fronts and not pool._open, within=3)  # not with the route's time


@both_loops
async def test_an_end_that_lies_unread_is_seen(brisk: Rig) -> None:
    """Between two knocks, however far they are apart."""
    brisk.upstream.handler = hold_back
    connection = await brisk.connect()
    await connection.send(head_of(65536))
    await eventually(lambda: brisk.upstream.connections == 1)
    [front], [pool] = brisk.proxy.fronts, brisk.proxy.upstreams._pools.values()
    [upstream] = pool._open
    upstream.pause_writing()  # as if it took no more
    await connection.send(bytes(65536) + GET)
    await eventually(lambda: front._ahead == b"HT" and brisk.proxy.clock < front._knock_at - 0.8)
    connection.close()
    await eventually(lambda: not brisk.proxy.fronts and not pool._open, within=0.7)


@both_loops
async def test_a_client_whose_upload_is_blocked_for_long_still_gets_its_answer(brisk: Rig) -> None:
    taking = asyncio.Event()
    body = contents(8192 * KIB)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await taking.wait()
        assert await reader.readexactly(len(body)) == body
        writer.write(ANSWERS[0][0])

    brisk.upstream.handler = serve
    connection = await brisk.connect()
    sending = asyncio.ensure_future(connection.send(head_of(len(body)) + body))
    await eventually(lambda: any(front._ahead == b"HT" for front in brisk.proxy.fronts))
    taking.set()
    reply = await connection.reply()
    await sending
    assert (reply.status, reply.body) == (200, b"ok")
    connection.close()


async def test_a_gateway_that_dies_behind_an_early_zero_leaves_no_answer_that_looks_whole(brisk: Rig) -> None:
    """What the kernel does with the connection when the process is killed: RST, until the rest has been written."""
    moment = asyncio.Event()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    brisk.upstream.handler = after(moment, head + b"2\r\nhi\r\n", b"4\r\nmore\r\n")
    connection = await brisk.connect()
    await connection.send(GET)
    moment.set()
    await asyncio.wait_for(connection.reader.readuntil(b"hi\r\n"), DEADLINE)
    connection.writer.write_eof()
    [front] = brisk.proxy.fronts
    assert front.transport is not None
    sock = front.transport.get_extra_info("socket")

    def lingers() -> tuple[int, ...]:
        return struct.unpack("ii", sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))

    await eventually(lambda: front._ahead == b"0")
    assert lingers() == (1, 0)
    moment.set()
    await asyncio.wait_for(connection.reader.readuntil(b"more\r\n"), DEADLINE)
    assert lingers()[0] == 0
    connection.close()


@pytest.mark.plain
async def test_a_fault_of_ours_at_one_connection_ends_that_and_no_other_goes_on_for_ever(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes = [{"name": "all", "path": "/", "auth": "none"}]
    limits = Limits(tick=0.02, keep_alive=0.2)
    async with rig(tmp_path, no_database, routes=routes, limits=limits) as running:
        connections = [await running.connect() for _ in range(3)]
        await eventually(lambda: len(running.proxy.fronts) == 3)
        faulty, look = next(iter(running.proxy.fronts)), Front.tick

        def tick(front: Front, now: float) -> None:
            if front is faulty:
                raise KeyError("a fault of ours")
            look(front, now)

        monkeypatch.setattr(Front, "tick", tick)
        await eventually(lambda: not running.proxy.fronts)
        for connection in connections:
            connection.close()
