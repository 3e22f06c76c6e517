"""Large bodies that pass in the kernel: byte for byte, nothing eaten around them, and both connections used again."""

import asyncio
import errno
import fcntl
import os
import random
import resource
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from gateway.proxy import Limits, pump
from gateway.store import Store
from tests.counts import scaled
from tests.proxy.bulk import (
    KIB,
    MIB,
    Spliced,
    both_loops,
    bringing,
    contents,
    depot,
    descriptors,
    digest,
    dribble,
    head_of,
    wanting,
)
from tests.proxy.rig import DEADLINE, Connection, Rig, eventually, rig
from tests.proxy.signing import MAC, Signer, bytes_of

pytestmark = both_loops
ROUTES: list[dict[str, Any]] = [{"name": "all", "path": "/", "auth": "none", "max_body": "64MiB"}]


@pytest.fixture
async def vast(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    """A public route for large bodies, over an upstream that gives and takes them."""
    async with rig(tmp_path, no_database, routes=ROUTES) as running:
        running.upstream.handler = depot
        yield running


async def exchanged(connection: Connection, request: bytes) -> bytes:
    """The whole body of the answer, which is a good one."""
    sending = asyncio.ensure_future(connection.send(request))
    reply = await connection.reply()
    await sending
    assert (reply.status, reply.complete) == (200, True)
    return reply.body


# -- it happens ----------------------------------------------------------------------------------------------


async def test_large_body_goes_down_in_the_kernel(vast: Rig, spliced: Spliced) -> None:
    connection = await vast.connect()
    for seed in range(3):
        assert await exchanged(connection, wanting(4 * MIB, seed)) == contents(4 * MIB, seed)
    assert spliced.moved > 3 * 3 * MIB
    assert vast.upstream.connections == 1
    connection.close()


async def test_large_body_goes_up_in_the_kernel(vast: Rig, spliced: Spliced) -> None:
    connection = await vast.connect()
    for seed in range(3):
        body = contents(4 * MIB, seed)
        assert await exchanged(connection, bringing(body)) == digest(body)
    assert spliced.moved > 3 * 3 * MIB
    assert vast.upstream.connections == 1
    connection.close()


async def test_small_and_chunked_bodies_are_read(vast: Rig, spliced: Spliced) -> None:
    async def chunked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await vast.upstream.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n80000\r\n")
        writer.write(contents(512 * KIB) + b"\r\n0\r\n\r\n")
        await writer.drain()

    almost = pump.WORTHWHILE
    assert (await vast.talk(wanting(almost, 0, "Connection: close"))).body == contents(almost)
    assert (await vast.talk(bringing(contents(almost)))).body == digest(contents(almost))
    vast.proxy.upstreams.close_idle(inf)
    vast.upstream.handler = chunked
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    reply = await vast.talk(head + b"40000\r\n%b\r\n0\r\n\r\n" % contents(256 * KIB))
    assert reply.body == contents(512 * KIB)
    assert vast.upstream.requests[0].body == contents(256 * KIB)
    assert spliced.calls == 0


async def test_answer_to_head_is_never_pumped(vast: Rig, spliced: Spliced) -> None:
    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n")

    vast.upstream.handler = tell
    connection = await vast.connect()
    for _ in range(3):
        await connection.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        reply = await connection.reply("HEAD")
        assert (reply.complete, reply.one("content-length")) == (True, "9999999")
    assert spliced.calls == 0
    connection.close()


# -- what surrounds it ---------------------------------------------------------------------------------------


async def test_small_and_large_requests_of_one_connection_stay_apart(vast: Rig, spliced: Spliced) -> None:
    choice = random.Random(4)
    sizes = [choice.choice((0, 1, 900, 70 * KIB, 300 * KIB, 700 * KIB)) for _ in range(scaled(1000))]
    asked = [(size, seed % 7, choice.random() < 0.5) for seed, size in enumerate(sizes)]
    requests = [bringing(contents(size, seed)) if up else wanting(size, seed) for size, seed, up in asked]
    expected = [digest(contents(size, seed)) if up else contents(size, seed) for size, seed, up in asked]
    connection = await vast.connect()
    sending = asyncio.ensure_future(connection.send(b"".join(requests)))  # each is pipelined behind the one before
    for body in expected:
        reply = await connection.reply()
        assert (reply.status, reply.complete) == (200, True)
        assert reply.body == body
    await sending
    assert spliced.moved > 0
    assert vast.upstream.connections == 1
    assert not await connection.closed(within=0.05)
    connection.close()


@pytest.mark.parametrize("turn", ["up", "down", "both"])
async def test_parallel_transfers_are_exact(turn: str, vast: Rig, spliced: Spliced) -> None:
    async def one(number: int) -> None:
        size, connection = 400 * KIB + number * 1021, await vast.connect()
        body = contents(size, number)
        if turn == "up" or (turn == "both" and number % 2):
            assert await exchanged(connection, bringing(body)) == digest(body)
        else:
            assert await exchanged(connection, wanting(size, number)) == body
        connection.close()

    before = descriptors()
    await asyncio.gather(*map(one, range(64)))
    assert spliced.moved > 64 * 100 * KIB
    await eventually(lambda: not vast.proxy.fronts)
    kept = len(vast.proxy.pipes) * 2
    assert kept <= 32
    assert descriptors() - kept <= before + vast.upstream.connections * 2 - vast.upstream.ended


async def test_expectation_is_met_before_a_large_body_is_pumped(vast: Rig, spliced: Spliced) -> None:
    async def hesitant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"Expect: 100-continue" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        answer = digest(await reader.readexactly(4 * MIB))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
        await writer.drain()

    vast.upstream.handler = hesitant
    connection = await vast.connect()
    await connection.send(head_of(4 * MIB, "Expect: 100-continue"))
    assert b"100 Continue" in await connection.reader.readuntil(b"\r\n\r\n")
    assert await exchanged(connection, contents(4 * MIB)) == digest(contents(4 * MIB))
    assert spliced.moved > 3 * MIB
    connection.close()


@pytest.mark.parametrize("way", ["up", "down"])
async def test_client_s_close_is_honoured_behind_a_pumped_body(way: str, vast: Rig, spliced: Spliced) -> None:
    connection, body = await vast.connect(), contents(2 * MIB)
    if way == "up":
        assert await exchanged(connection, bringing(body, "Connection: close")) == digest(body)
    else:
        assert await exchanged(connection, wanting(len(body), 0, "Connection: close")) == body
    assert await connection.closed()
    assert spliced.moved > MIB
    connection.close()


async def test_upstream_s_close_is_honoured_behind_a_pumped_body(vast: Rig, spliced: Spliced) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % MIB + contents(MIB))
        await writer.drain()

    vast.upstream.handler = once
    connection = await vast.connect()
    for _ in range(3):
        assert await exchanged(connection, wanting(MIB)) == contents(MIB)
    await eventually(lambda: vast.upstream.ended == vast.upstream.connections == 3)
    assert spliced.moved > 2 * MIB
    connection.close()


async def test_body_of_just_the_limit_is_pumped_and_a_longer_one_refused_unseen(
    tmp_path: Path, no_database: Store, spliced: Spliced
) -> None:
    routes = [{**ROUTES[0], "max_body": "1MiB"}]
    async with rig(tmp_path, no_database, routes=routes) as running:
        running.upstream.handler = depot
        reply = await running.talk(head_of(MIB + 1) + b"x")
        assert (reply.status, spliced.calls, running.upstream.connections) == (413, 0, 0)
        assert (await running.talk(bringing(contents(MIB)))).body == digest(contents(MIB))
        assert spliced.moved > 512 * KIB


async def test_drained_gateway_ends_a_connection_with_its_pumped_answer(vast: Rig, spliced: Spliced) -> None:
    go = asyncio.Event()

    async def halting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MIB + contents(MIB)[: 400 * KIB])
        await go.wait()
        writer.write(contents(MIB)[400 * KIB :])
        await reader.read()

    vast.upstream.handler = halting
    connection = await vast.connect()
    await connection.send(wanting(MIB))
    await eventually(lambda: spliced.moved > 0)
    draining = asyncio.create_task(vast.proxy.drain(3 * DEADLINE))
    await asyncio.sleep(0)
    go.set()
    reply = await connection.reply()
    assert (reply.body, reply.complete) == (contents(MIB), True)
    assert await connection.closed()
    connection.close()
    await asyncio.wait_for(draining, DEADLINE)


# -- what must be seen is read -------------------------------------------------------------------------------


async def test_signed_body_with_a_hash_is_read_and_one_without_is_pumped(
    tmp_path: Path, store: Store, spliced: Spliced
) -> None:
    routes = [{"name": "mac", "path": "/mac", "auth": ["mac"], "max_body": "4MiB"}]
    body = bytes_of(MIB)
    async with rig(tmp_path, store, routes=routes, mac=MAC) as running:
        running.upstream.handler = depot
        signer = await Signer.of(store)
        reply = await running.talk(signer.head(body, f"Content-Length: {MIB}") + body)
        assert (reply.status, reply.body, spliced.calls) == (200, digest(body), 0)
        reply = await running.talk(signer.head(None, f"Content-Length: {MIB}") + body)
        assert (reply.status, reply.body) == (200, digest(body))
        assert spliced.moved > 512 * KIB


# -- where it cannot be done ---------------------------------------------------------------------------------


async def both_ways(running: Rig, size: int = 2 * MIB) -> None:
    """A large body up and one down, on one connection."""
    connection = await running.connect()
    assert await exchanged(connection, bringing(contents(size))) == digest(contents(size))
    assert await exchanged(connection, wanting(size)) == contents(size)
    assert running.upstream.connections == 1
    connection.close()


async def test_without_descriptors_bodies_go_the_usual_way(vast: Rig, spliced: Spliced) -> None:
    connection = await vast.connect()
    assert await exchanged(connection, wanting(1)) == contents(1)  # both connections stand
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = descriptors()
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        assert await exchanged(connection, bringing(contents(2 * MIB))) == digest(contents(2 * MIB))
        assert await exchanged(connection, wanting(2 * MIB)) == contents(2 * MIB)
        assert spliced.calls == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before
    assert await exchanged(connection, wanting(2 * MIB)) == contents(2 * MIB)
    assert spliced.moved > 0
    connection.close()


async def test_with_too_few_descriptors_for_a_pipe_none_is_left_open(vast: Rig, spliced: Spliced) -> None:
    connection = await vast.connect()
    assert await exchanged(connection, wanting(1)) == contents(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = descriptors()
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]  # the lowest that are free
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, hard))
    for fd in spare:
        os.close(fd)
    try:
        assert await exchanged(connection, wanting(2 * MIB)) == contents(2 * MIB)
        assert spliced.calls == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert descriptors() == before
    connection.close()


@pytest.mark.plain
@pytest.mark.parametrize("size", [(1 << 31) + 1, 4096])  # refused by the kernel; the smallest that there is
async def test_pipe_of_any_size_will_do(
    size: int, vast: Rig, spliced: Spliced, monkeypatch: pytest.MonkeyPatch
) -> None:
    if size > 1 << 31:
        ends = os.pipe()
        with pytest.raises(OSError, match="Invalid argument"):
            fcntl.fcntl(ends[0], fcntl.F_SETPIPE_SZ, size)
        for end in ends:
            os.close(end)
    monkeypatch.setattr(pump, "_PIPE", size)
    await both_ways(vast)
    assert spliced.moved > 3 * MIB


async def test_where_the_system_has_no_splice_bodies_go_the_usual_way(
    vast: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "splice")
    await both_ways(vast)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.ENOSYS])
async def test_where_splice_is_forbidden_bodies_go_the_usual_way(
    number: int, vast: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(source: int, sink: int, size: int, flags: int = 0) -> int:
        raise OSError(number, os.strerror(number))

    before = descriptors()
    monkeypatch.setattr(os, "splice", refused)
    await both_ways(vast)
    await eventually(lambda: not vast.proxy.fronts)
    assert descriptors() - len(vast.proxy.pipes) * 2 <= before + 2


async def test_a_pipe_is_kept_for_the_next_body_where_nothing_is_left_in_it() -> None:
    before, pipes = descriptors(), pump.Pipes()
    outlet, inlet = pipes.take()
    os.write(inlet, b"another's")
    os.read(outlet, 9)
    pipes.give_back(outlet, inlet)
    assert pipes.take() == (outlet, inlet)
    os.write(inlet, b"a")
    pipes.give_back(outlet, inlet)
    assert len(pipes) == 0
    assert descriptors() == before
    many = [pipes.take() for _ in range(20)]
    for pipe in many:
        pipes.give_back(*pipe)
    assert len(pipes) == 16
    pipes.close()
    assert descriptors() == before


# -- the pace ------------------------------------------------------------------------------------------------


async def test_body_that_comes_in_small_parts_is_pumped_as_it_comes(
    tmp_path: Path, no_database: Store, spliced: Spliced
) -> None:
    # Longer in all than a pause may be: each part renews the time.
    async with rig(tmp_path, no_database, routes=ROUTES, limits=Limits(body_idle=1.5, tick=0.05)) as running:
        running.upstream.handler = depot
        connection, body = await running.connect(), contents(MIB)
        await connection.send(head_of(len(body)))
        await dribble(connection, body, parts=40, pause=0.05)
        assert (await connection.reply()).body == digest(body)
        assert spliced.moved > 512 * KIB
        connection.close()
