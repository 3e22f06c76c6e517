"""Clients and upstreams that leave unread what they are owed, below what counts as a full buffer: they end in time."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.proxy import Limits
from gateway.store import Store
from tests.proxy.bulk import Slow, both_loops
from tests.proxy.rig import Rig, eventually, rig

QUICK = Limits(keep_alive=0.5, slow_reader=0.5, linger=0.2, stream_idle=0.5, tick=0.05)
BODY = b"x" * 50_000  # more than the kernel takes from us here, and less than our own buffer
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHES = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"


@pytest.fixture
async def quick(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, no_database, limits=QUICK) as running:
        yield running


async def never_reading(running: Rig, request: bytes) -> Slow:
    """A client that reads nothing, of which the kernel takes little."""
    client = await Slow.to(running, b"")
    await eventually(lambda: len(running.proxy.fronts) == 1)
    [front] = running.proxy.fronts
    assert front.transport is not None
    front.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    await client.send(request)
    return client


async def switch_and_hold_back(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Change the protocol, and take nothing of it."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(SWITCHES)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # of every transport that reads
    await asyncio.Event().wait()


@both_loops
@pytest.mark.parametrize("request_bytes", [GET, CLOSE])
async def test_client_that_does_not_read_its_answer_is_ended(request_bytes: bytes, quick: Rig) -> None:
    quick.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    client = await never_reading(quick, request_bytes)
    [front] = quick.proxy.fronts
    await eventually(lambda: front.transport is not None and front.transport.get_write_buffer_size() > 0)
    assert front.writable
    await eventually(lambda: not quick.proxy.fronts)
    client.close()


@both_loops
async def test_client_that_does_not_read_before_it_ends_its_side_is_ended(quick: Rig) -> None:
    quick.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    client = await never_reading(quick, GET)
    [front] = quick.proxy.fronts
    await eventually(lambda: front.exchange is None and bool(quick.upstream.requests))
    client.end()
    await eventually(lambda: not quick.proxy.fronts)
    client.close()


@both_loops
@pytest.mark.parametrize("end", ["idle", "asked for", "half-closed"])
async def test_client_that_is_slow_with_its_last_answer_gets_it(end: str, tmp_path: Path, no_database: Store) -> None:
    limits = Limits(keep_alive=0.2, linger=0.1, tick=0.02)
    async with rig(tmp_path, no_database, limits=limits) as running:
        running.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
        client = await never_reading(running, CLOSE if end == "asked for" else GET)
        [front] = running.proxy.fronts
        await eventually(lambda: front.exchange is None and bool(running.upstream.requests))
        if end == "half-closed":
            client.end()
        await eventually(lambda: front.transport is not None and front.transport.is_closing())
        closing_since = running.proxy.clock
        await eventually(lambda: running.proxy.clock > closing_since + 0.5)  # all limits but `slow_reader`
        answer = b""
        while part := await client.read(1 << 20):
            answer += part
        assert answer.endswith(b"\r\n\r\n" + BODY)
        client.close()


@both_loops
async def test_client_that_does_not_read_a_broken_answer_is_ended(quick: Rig) -> None:
    quick.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(BODY) + 1) + BODY
    client = await never_reading(quick, GET)
    await eventually(lambda: not quick.proxy.fronts)
    client.close()


@both_loops
@pytest.mark.parametrize("size", [50_000, 10_000_000])
async def test_client_that_does_not_read_from_its_tunnel_is_ended(size: int, quick: Rig) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHES + b"x" * size)
        await reader.read()

    quick.upstream.handler = serve
    client = await never_reading(quick, UPGRADE)
    await eventually(lambda: not quick.proxy.fronts)
    await eventually(lambda: quick.upstream.ended == 1)
    client.close()


@both_loops
async def test_upstream_that_does_not_read_from_a_tunnel_is_ended(quick: Rig) -> None:
    quick.upstream.handler = switch_and_hold_back
    connection = await quick.connect()
    await connection.send(UPGRADE)
    assert b"101" in await connection.reader.readuntil(b"\r\n\r\n")
    connection.writer.write(bytes(20_000_000))
    [pool] = quick.proxy.upstreams._pools.values()
    [upstream] = pool._open
    await eventually(lambda: not upstream.writable)
    connection.writer.transport.abort()
    await eventually(lambda: not quick.proxy.fronts)
    assert upstream.transport is not None
    await eventually(lambda: upstream.closed)


@both_loops
async def test_upstream_that_is_behind_with_the_request_is_waited_for_in_its_tunnel(public: Rig) -> None:
    behind = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await behind.wait()
        writer.write(SWITCHES)
        await reader.readexactly(10)
        writer.write(b"got it")

    public.upstream.handler = serve
    connection = await public.connect()
    await connection.send(UPGRADE)
    await eventually(lambda: public.upstream.connections == 1)
    [pool], [front] = public.proxy.upstreams._pools.values(), public.proxy.fronts
    [upstream] = pool._open
    upstream.pause_writing()  # as if it took no more
    behind.set()
    assert b"101" in await connection.reader.readuntil(b"\r\n\r\n")
    assert not front._reading
    await connection.send(b"ten bytes!")
    upstream.resume_writing()
    assert await connection.reader.readexactly(6) == b"got it"
    connection.close()
