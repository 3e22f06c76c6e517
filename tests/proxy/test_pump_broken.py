"""Sides that go, stall, lie or answer early while a large body is pumped: what the other side sees, what is left."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.proxy import Limits
from gateway.store import Store
from tests.proxy.bulk import (
    KIB,
    MIB,
    Slow,
    Spliced,
    both_loops,
    contents,
    depot,
    descriptors,
    head_of,
    hold_back,
    wanting,
)
from tests.proxy.rig import DEADLINE, Rig, eventually, rig

pytestmark = both_loops
SIZE = 16 * MIB  # more than the kernel holds on its own
ROUTES: list[dict[str, Any]] = [
    {"name": "all", "path": "/", "auth": "none", "max_body": "64MiB", "timeout": "1s"},
]
QUICK = Limits(body_idle=1.0, slow_reader=1.0, linger=0.5, stream_idle=1.0, tick=0.05)


@pytest.fixture
async def vast(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    """A public route for large bodies with short deadlines, over an upstream that gives and takes them.

    Afterwards no descriptor is left open.
    """
    before = descriptors()
    contents(SIZE)  # made now, and not while a deadline runs
    async with rig(tmp_path, no_database, routes=ROUTES, limits=QUICK) as running:
        running.upstream.handler = depot
        yield running
    await eventually(lambda: descriptors() <= before)


@pytest.fixture
def refusals(vast: Rig) -> list[int]:
    """The status of each call that the gateway refused or broke off."""
    seen = list[int]()
    vast.proxy.listeners.append(lambda call: None if call.refused is None else seen.append(call.refused.status))
    return seen


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# -- the client goes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("abruptly", [False, True])
async def test_client_that_goes_in_the_middle_of_its_download_cancels_the_upstream(
    abruptly: bool, vast: Rig, spliced: Spliced, refusals: list[int]
) -> None:
    slow = await Slow.to(vast, wanting(SIZE))
    await eventually(lambda: spliced.moved > MIB)
    for _ in range(50):
        await slow.read(64 * KIB)
    if abruptly:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    slow.close()
    await eventually(lambda: vast.upstream.ended == 1, within=1)
    await eventually(lambda: not vast.proxy.fronts, within=1)
    assert refusals == []  # nobody failed


async def test_nothing_of_a_download_whose_client_went_reaches_the_next_one(vast: Rig, spliced: Spliced) -> None:
    for number in range(1, 9):
        slow, enough = await Slow.to(vast, wanting(SIZE)), number * 2 * MIB
        await eventually(lambda enough=enough: spliced.moved > enough)  # type: ignore[misc]  # as it is now
        slow.close()
        assert (await vast.talk(wanting(MIB, number))).body == contents(MIB, number)
    await eventually(lambda: not vast.proxy.fronts)
    assert len(vast.proxy.pipes) > 0


@pytest.mark.parametrize("abruptly", [False, True])
async def test_client_that_goes_in_the_middle_of_its_upload_cancels_the_upstream(
    abruptly: bool, vast: Rig, spliced: Spliced, refusals: list[int]
) -> None:
    connection = await vast.connect()
    await connection.send(head_of(SIZE) + contents(MIB))
    await eventually(lambda: spliced.moved > 0)
    if abruptly:
        reset(connection.writer)
    connection.close()
    await eventually(lambda: vast.upstream.ended == 1, within=1)
    await eventually(lambda: not vast.proxy.fronts, within=1)
    assert 502 not in refusals  # it is not the upstream's fault
    assert vast.upstream.requests == []


# -- the upstream breaks its word ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["end", "reset"])
async def test_answer_that_breaks_off_half_way_never_looks_complete(
    how: str, vast: Rig, spliced: Spliced, refusals: list[int]
) -> None:
    broken = asyncio.Event()

    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + contents(SIZE)[:MIB])
        await writer.drain()
        await broken.wait()
        if how == "reset":
            reset(writer)

    vast.upstream.handler = short
    connection = await vast.connect()
    await connection.send(wanting(SIZE))
    reading = asyncio.ensure_future(connection.reply())
    await eventually(lambda: spliced.moved > 0)
    broken.set()
    reply = await reading
    assert (reply.status, reply.complete) == (200, False)
    assert contents(SIZE).startswith(reply.body)
    assert reply.body or how == "reset"
    assert await connection.closed()
    assert refusals == [502]
    connection.close()


@pytest.mark.parametrize("size", [MIB, 64 * KIB - 42])  # pumped; what one reading takes in, with its head
async def test_bytes_behind_a_large_answer_reach_nobody(size: int, vast: Rig) -> None:
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"

    async def lying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + contents(size) + evil)
        await writer.drain()
        await reader.read()

    vast.upstream.handler = lying
    connection = await vast.connect()
    await connection.send(wanting(size) * 3)
    for _ in range(3):
        reply = await connection.reply()
        assert reply.complete
        assert reply.body == contents(size)
    assert vast.upstream.connections == 3
    connection.close()


async def test_upstream_that_ends_behind_its_large_answer_gets_no_further_request(vast: Rig) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await vast.upstream.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MIB + contents(MIB))
        await writer.drain()

    vast.upstream.handler = once
    connection = await vast.connect()
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"  # which is never sent twice
    for _ in range(3):
        await connection.send(request)
        reply = await connection.reply()
        assert (reply.status, reply.complete) == (200, True)
        assert reply.body == contents(MIB)
    connection.close()


async def test_protocol_is_not_changed_in_the_middle_of_a_large_body(vast: Rig, spliced: Spliced) -> None:
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(MIB)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
        await reader.read()

    vast.upstream.handler = hasty
    connection = await vast.connect()
    await connection.send(head_of(4 * MIB, "Connection: Upgrade", "Upgrade: x") + contents(4 * MIB)[: 2 * MIB])
    reply = await connection.reply()
    assert (reply.status, reply.complete) == (502, True)
    assert spliced.moved > 0
    await eventually(lambda: vast.upstream.ended == 1)
    connection.close()


# -- an answer before the body is up -------------------------------------------------------------------------


# An upstream that leaves without having read the rest resets the connection, and a long answer may never have left it.
@pytest.mark.parametrize(("size", "then"), [(2, "read"), (MIB, "read"), (2, "leave")])
async def test_answer_that_comes_before_the_large_body_is_up_arrives(
    size: int, then: str, vast: Rig, spliced: Spliced
) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(MIB)
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: %d\r\n\r\n" % size + contents(size))
        await writer.drain()
        while then == "read" and await reader.read(MIB):
            pass

    vast.upstream.handler = early
    for _ in range(5):
        connection = await vast.connect()
        sending = asyncio.ensure_future(connection.send(head_of(SIZE) + contents(SIZE)))
        reply = await connection.reply()
        assert (reply.status, reply.complete) == (413, True)
        assert reply.body == contents(size)
        assert await connection.closed()
        connection.close()
        await sending
    assert spliced.moved > 0


@pytest.mark.parametrize("pumped", [True, False])
async def test_answer_is_read_although_the_upstream_has_reset_the_connection_behind_it(
    pumped: bool, tmp_path: Path, no_database: Store, spliced: Spliced
) -> None:
    loop = asyncio.get_running_loop()
    request = head_of(SIZE) + contents(MIB)
    if not pumped:
        request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n" + contents(100 * KIB)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        routes = [{**ROUTES[0], "upstreams": [f"http://127.0.0.1:{listening.getsockname()[1]}"]}]
        async with rig(tmp_path, no_database, routes=routes, limits=QUICK) as running:
            client = await Slow.to(running, request, window=256 * KIB)
            upstream, _ = await loop.sock_accept(listening)
            upstream.setblocking(False)
            if pumped:
                await eventually(lambda: spliced.moved > 512 * KIB)
            assert b"POST / " in await loop.sock_recv(upstream, 1000)
            # All in one turn of the loop: more of the body, the answer, and the end, with most of the body unread.
            client.socket.send(b"x" * 1000)
            upstream.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
            upstream.close()
            assert (await client.read(1000)).startswith(b"HTTP/1.1 413 ")
            client.close()
            assert pumped == (spliced.moved > 0)


async def test_answer_is_pumped_to_its_end_although_the_upstream_has_reset_the_connection_behind_it(
    vast: Rig, spliced: Spliced, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, taken, splice = asyncio.Event(), asyncio.Event(), os.splice

    def held_back(source: int, sink: int, size: int, flags: int = 0) -> int:
        if os.fstat(sink).st_mode & 0o010000 or taken.is_set():
            return splice(source, sink, size, flags=flags)
        raise BlockingIOError  # the client takes nothing yet

    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 * KIB) + contents(256 * KIB))
        await writer.drain()
        await answered.wait()
        reset(writer)

    monkeypatch.setattr(os, "splice", held_back)
    vast.upstream.handler = hasty
    connection = await vast.connect()
    await connection.send(head_of(3 * KIB) + contents(KIB))
    await eventually(lambda: spliced.moved > 0)
    answered.set()
    (front,) = vast.proxy.fronts
    assert front.exchange is not None
    upstream = front.exchange._upstream
    assert upstream is not None
    async with asyncio.timeout(DEADLINE):
        while not upstream.closed:
            await connection.send(b"x")  # until the writing of it fails
            await asyncio.sleep(0.01)
    taken.set()
    reply = await connection.reply()
    assert (reply.complete, reply.body == contents(256 * KIB)) == (True, True)
    connection.close()


# -- sides that are slow -------------------------------------------------------------------------------------


async def test_reader_that_takes_nothing_is_closed_and_the_upstream_held_back(vast: Rig, spliced: Spliced) -> None:
    given = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal given
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        while True:
            writer.write(contents(64 * KIB))
            await writer.drain()
            given += 64 * KIB

    vast.upstream.handler = endless
    memory = psutil.Process(os.getpid()).memory_info
    contents(64 * KIB)
    before, began = memory().rss, time.monotonic()
    slow = await Slow.to(vast, wanting(1))
    await eventually(lambda: vast.upstream.ended == 1)
    assert time.monotonic() - began > QUICK.slow_reader - QUICK.tick  # which counts from the last tick
    assert memory().rss - before < 8 * MIB
    assert given < 32 * MIB
    assert spliced.moved > 0
    await eventually(lambda: not vast.proxy.fronts)
    slow.close()


async def test_reader_that_takes_its_time_is_served_to_the_end(
    tmp_path: Path, no_database: Store, spliced: Spliced
) -> None:
    # It is slower than the upstream from the first byte to the last, for longer than a reader may take nothing.
    limits, size = Limits(slow_reader=1.1, tick=0.05), 24 * MIB
    async with rig(tmp_path, no_database, routes=ROUTES, limits=limits) as running:
        running.upstream.handler = depot
        slow = await Slow.to(running, b"", window=64 * KIB)
        await eventually(lambda: len(running.proxy.fronts) == 1)
        (front,) = running.proxy.fronts
        assert front.transport is not None
        front.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * KIB)
        await slow.send(wanting(size))
        received, began = 0, time.monotonic()
        while received < size and (data := await slow.read(MIB)):
            received += len(data)
            ahead = received / (10 * MIB) - (time.monotonic() - began)
            await asyncio.sleep(max(0.0, ahead))
        assert received > size, f"closed after {time.monotonic() - began:.1f} s"
        assert time.monotonic() - began > 2 * limits.slow_reader
        assert spliced.moved > size / 2
        slow.close()


async def test_sender_that_stalls_is_given_up_on_both_sides(vast: Rig, spliced: Spliced) -> None:
    connection = await vast.connect()
    await connection.send(head_of(SIZE) + contents(MIB))
    reply = await connection.reply()
    assert (reply.status, reply.one("connection")) == (408, "close")
    assert spliced.moved > 0
    await eventually(lambda: vast.upstream.ended == 1)
    assert await connection.closed()
    connection.close()


async def test_upstream_that_takes_no_more_of_a_large_body_has_its_time_only(vast: Rig, spliced: Spliced) -> None:
    vast.upstream.handler = hold_back
    connection = await vast.connect()
    connection.writer.write(head_of(32 * MIB) + contents(SIZE) + contents(SIZE))
    began = time.monotonic()
    assert (await connection.reply()).status == 504
    assert 0.9 < time.monotonic() - began < 10  # and not what a route has without a timeout of its own
    assert spliced.moved > 0
    await eventually(lambda: not vast.proxy.fronts)
    connection.close()


async def test_upstream_that_answers_when_it_has_rested_is_in_time(vast: Rig, spliced: Spliced) -> None:
    # Each part that it takes renews its time.
    async def sleepy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.25)
            await reader.readexactly(SIZE // 8)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    vast.upstream.handler = sleepy
    connection = await vast.connect()
    connection.writer.write(head_of(SIZE) + contents(SIZE))
    assert (await connection.reply()).body == b"ok"
    assert spliced.moved > 0
    connection.close()


async def test_answer_that_stalls_half_way_is_broken_off(vast: Rig, spliced: Spliced, refusals: list[int]) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + contents(MIB))
        await reader.read()

    vast.upstream.handler = stall
    reply = await vast.talk(wanting(SIZE))
    assert (reply.status, reply.complete, reply.body) == (200, False, contents(MIB))
    assert spliced.moved > 0
    assert refusals == [504]
    await eventually(lambda: vast.upstream.ended == 1)
