"""A signed body that is too long to be held: it streams, and its end waits until the whole is known to fit."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.proxy import Limits
from gateway.store import Store
from tests.counts import scaled
from tests.proxy.rig import Rig, eventually, rig
from tests.proxy.signing import (
    FRAMINGS,
    LONGEST,
    MAC,
    Framing,
    Signer,
    altered,
    by_length,
    bytes_of,
    in_chunks,
    is_refused,
    nonces,
    nonces_locked,
)
from tests.serving import crowding

MIB = 1024 * 1024
ROUTES: list[dict[str, Any]] = [
    {"name": "mac", "path": "/mac", "auth": ["mac"], "max_body": "4MiB", "mac_body_hash": True},
    {"name": "small", "path": "/small", "auth": ["mac"], "max_body": "100KiB"},
    {"name": "vast", "path": "/vast", "auth": ["mac"], "max_body": "64MiB"},
]
BODY = bytes_of(LONGEST + 5000)
both_framings = pytest.mark.parametrize("framing", [by_length, in_chunks])


async def none_complete(running: Rig) -> None:
    """Wait until every connection to the upstream has ended, and see that none brought a whole message."""
    await eventually(lambda: running.upstream.ended == running.upstream.connections)
    assert not any(seen.complete for seen in running.upstream.requests)


# -- what fits passes, what does not is never seen whole -----------------------------------------------------


@pytest.mark.parametrize("size", [LONGEST + 1, MIB])
async def test_long_body_passes_if_it_fits_and_is_never_seen_whole_if_it_does_not(
    guarded: Rig, signer: Signer, database: str, size: int
) -> None:
    body = bytes_of(size)
    spent = 0
    for framing in FRAMINGS:
        for other in altered(body).values():
            if len(other) <= LONGEST:
                continue
            field, sent = framing(other)
            is_refused(await guarded.talk(signer.head(body, field) + sent))
            spent += 1
            await none_complete(guarded)
            assert all(other.startswith(seen.body) and seen.body != other for seen in guarded.upstream.requests)
            guarded.upstream.requests.clear()
    assert await nonces(database) == spent
    for framing in FRAMINGS:
        field, sent = framing(body)
        request = signer.head(body, field) + sent
        assert (await guarded.talk(request)).status == 200
        assert (await guarded.talk(request)).status == 401
    assert [(seen.body, seen.complete) for seen in guarded.upstream.requests] == [(body, True)] * len(FRAMINGS)


@both_framings
async def test_one_byte_is_withheld_until_the_end_is_known(guarded: Rig, signer: Signer, framing: Framing) -> None:
    field, sent = framing(BODY)
    ahead = len(b"0\r\n\r\n") if framing is in_chunks else 1
    connection = await guarded.connect()
    await connection.send(signer.head(BODY, field) + sent[:-ahead])
    came = BODY if framing is in_chunks else BODY[:-1]
    await eventually(lambda: [seen.body for seen in guarded.upstream.requests] == [came[:-1]])
    assert not guarded.upstream.requests[0].complete
    await connection.send(sent[-ahead:])
    assert (await connection.reply()).status == 200
    assert (guarded.upstream.requests[0].body, guarded.upstream.requests[0].complete) == (BODY, True)
    connection.close()


async def test_any_single_change_is_refused_however_it_is_cut(tmp_path: Path, store: Store) -> None:
    """Around a limit of 256 bytes, so that what is held and what streams come in turn, byte by byte or in pieces."""
    signer, chance = await Signer.of(store), random.Random(7)
    async with rig(tmp_path, store, routes=ROUTES, mac=MAC, limits=Limits(buffer=256)) as running:
        for number in range(scaled(300)):
            body = chance.randbytes(chance.choice([1, 2, 100, 255, 256, 257, 258, 300, 700]))
            at, kind = chance.randrange(len(body)), chance.choice(["flip", "insert", "delete"])
            put = {"flip": bytes([body[at] ^ (1 << chance.randrange(8))]), "insert": body[at : at + 1] + b"x"}
            other = body[:at] + put.get(kind, b"") + body[at + 1 :]
            sizes = [chance.randint(1, 300) for _ in range(5)]
            field, sent = by_length(other) if number % 2 else in_chunks(other, sizes)
            is_refused(await running.talk(signer.head(body, field) + sent, bytewise=number % 3 == 0))
            await none_complete(running)
            field, sent = by_length(body) if number % 2 else in_chunks(body, sizes)
            running.upstream.requests.clear()
            reply = await running.talk(signer.head(body, field) + sent, bytewise=number % 3 == 0)
            assert reply.status == 200
            assert [(seen.body, seen.complete) for seen in running.upstream.requests] == [(body, True)]
            running.upstream.requests.clear()


# -- answers that come before the end ------------------------------------------------------------------------

EARLY = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<<"


@both_framings
async def test_answer_that_has_begun_is_broken_off_when_the_body_does_not_fit(
    guarded: Rig, signer: Signer, framing: Framing
) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EARLY)
        await guarded.upstream.read_request(reader)

    guarded.upstream.handler = early
    field, sent = framing(BODY[:-1] + b"?")
    connection = await guarded.connect()
    await connection.send(signer.head(BODY, field) + sent[:-5])
    began = await connection.reader.readuntil(b"<<")
    assert began.startswith(b"HTTP/1.1 200 OK\r\n")
    await connection.send(sent[-5:])
    assert await connection.closed()
    await eventually(lambda: guarded.upstream.ended == 1)
    assert not any(seen.complete for seen in guarded.upstream.requests)
    connection.close()


@both_framings
async def test_answer_that_has_begun_goes_on_when_the_body_fits(guarded: Rig, signer: Signer, framing: Framing) -> None:
    got = bytearray()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EARLY)
        end = b"\r\n0\r\n\r\n" if framing is in_chunks else BODY[-4:]
        while not got.endswith(end):
            got.extend(await reader.read(65536))
        writer.write(b">>")

    guarded.upstream.handler = early
    field, sent = framing(BODY)
    connection = await guarded.connect()
    await connection.send(signer.head(BODY, field) + sent[:-5])
    assert (await connection.reader.readuntil(b"<<")).startswith(b"HTTP/1.1 200 OK\r\n")
    assert not got.endswith(b"0\r\n\r\n")
    await connection.send(sent[-5:])
    assert await connection.reader.readexactly(2) == b">>"
    connection.close()


async def test_whole_answer_that_comes_early_is_the_client_s(guarded: Rig, signer: Signer) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await guarded.upstream.read_request(reader)

    guarded.upstream.handler = early
    for framing in (by_length, in_chunks):
        field, sent = framing(BODY[:-1] + b"?")
        connection = await guarded.connect()
        await connection.send(signer.head(BODY, field) + sent[:-5])
        reply = await connection.reply()
        assert (reply.status, reply.body, reply.complete) == (413, b"big", True)
        await connection.send(sent[-5:])
        connection.close()
    await eventually(lambda: guarded.upstream.ended == 2)
    assert not any(seen.complete for seen in guarded.upstream.requests)


@both_framings
async def test_interim_answer_does_not_keep_the_refusal_back(guarded: Rig, signer: Signer, framing: Framing) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await guarded.upstream.read_request(reader)

    guarded.upstream.handler = early
    field, sent = framing(BODY[:-1] + b"?")
    connection = await guarded.connect()
    await connection.send(signer.head(BODY, field) + sent[:-5])
    await eventually(lambda: bool(guarded.upstream.requests))
    await connection.send(sent[-5:])
    is_refused(await connection.reply())
    assert connection.interim in ([103], [])
    await none_complete(guarded)
    connection.close()


async def test_protocol_is_not_changed_before_the_body_is_known_to_fit(guarded: Rig, signer: Signer) -> None:
    async def switch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        await reader.read()

    guarded.upstream.handler = switch
    connection = await guarded.connect()
    head = signer.head(BODY, f"Content-Length: {len(BODY)}", "Connection: Upgrade", "Upgrade: x")
    await connection.send(head + BODY[:-1])
    assert (await connection.reply()).status == 502
    await eventually(lambda: guarded.upstream.ended == 1)
    connection.close()


# -- Expect, sizes, clients that go away, the database -------------------------------------------------------


async def test_long_body_is_asked_for_by_the_upstream(guarded: Rig, signer: Signer) -> None:  # RFC 9110, 10.1.1
    async def asking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"\r\nExpect: 100-continue\r\n" in head
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await reader.readexactly(len(BODY))
        writer.write(guarded.upstream.answer)

    guarded.upstream.handler = asking
    for body, status in ((BODY, 200), (BODY[:-1] + b"?", 401)):
        connection = await guarded.connect()
        await connection.send(signer.head(BODY, f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
        assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.send(body)
        assert (await connection.reply()).status == status
        assert connection.interim == []
        connection.close()
    await eventually(lambda: guarded.upstream.ended == 2)


async def test_long_body_in_chunks_is_asked_for_by_the_gateway(guarded: Rig, signer: Signer) -> None:
    field, sent = in_chunks(BODY)
    connection = await guarded.connect()
    await connection.send(signer.head(BODY, field, "Expect: 100-continue"))
    assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await connection.send(sent)
    assert (await connection.reply()).status == 200
    assert connection.interim == []
    assert guarded.upstream.requests[0].all("expect") == []
    connection.close()


async def test_long_body_beyond_the_route_s_bound_is_refused(guarded: Rig, signer: Signer, database: str) -> None:
    body = bytes_of(100 * 1024 + 1)
    field, sent = by_length(body)
    assert (await guarded.talk(signer.head(body, field, target="/small") + sent)).status == 413
    assert guarded.upstream.connections == 0
    assert await nonces(database) == 0
    field, sent = in_chunks(body, [5000])
    assert (await guarded.talk(signer.head(body, field, target="/small") + sent)).status == 413
    await none_complete(guarded)


@both_framings
async def test_client_that_goes_away_ends_the_message_nowhere(guarded: Rig, signer: Signer, framing: Framing) -> None:
    for ending in ("reset", "half-closed"):
        field, sent = framing(BODY)
        connection = await guarded.connect()
        await connection.send(signer.head(BODY, field) + sent[:-1])
        await eventually(lambda: len(guarded.upstream.requests) == 1)
        if ending == "reset":
            connection.writer.transport.abort()
        else:
            connection.writer.write_eof()
        await eventually(lambda: not guarded.proxy.fronts)
        await none_complete(guarded)
        guarded.upstream.requests.clear()
        connection.close()


@pytest.mark.parametrize(("body", "framing"), [(b"hello", in_chunks), (BODY, by_length)], ids=["held", "streaming"])
async def test_nonce_that_cannot_be_spent_is_a_503_in_time_and_nothing_goes_up(
    guarded: Rig, signer: Signer, database: str, body: bytes, framing: Framing
) -> None:
    field, sent = framing(body)
    assert (await guarded.talk(signer.head(body, field) + sent)).status == 200
    async with nonces_locked(database):
        began = time.monotonic()
        reply = await guarded.talk(signer.head(body, field) + sent)
        assert (reply.status, reply.one("retry-after")) == (503, "2")
        assert time.monotonic() - began < 2.5 * crowding()
    assert len(guarded.upstream.requests) == 1
    assert (await guarded.talk(signer.head(body, field) + sent)).status == 200


@both_framings
async def test_vast_body_takes_no_memory_and_waits_for_a_slow_upstream(
    guarded: Rig, signer: Signer, framing: Framing
) -> None:
    body = bytes_of(16 * MIB)
    field, sent = framing(body)
    reading, got = asyncio.Event(), 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await reader.readuntil(b"\r\n\r\n")
        await reading.wait()
        tail = b""
        while got < len(body) or (framing is in_chunks and tail != b"0\r\n\r\n"):
            data = await reader.read(65536)
            got, tail = got + len(data), (tail + data)[-5:]
        writer.write(guarded.upstream.answer)

    guarded.upstream.handler = slow
    connection = await guarded.connect()
    before = psutil.Process().memory_info().rss
    head = signer.head(body, field, target="/vast")
    sending = asyncio.create_task(_send_slowly(connection.writer, head, sent))
    await eventually(lambda: guarded.upstream.connections == 1)
    _, pending = await asyncio.wait([sending], timeout=0.3)
    assert pending, "the upstream takes nothing, so the client must wait"
    assert psutil.Process().memory_info().rss - before < 8 * MIB
    reading.set()
    assert (await connection.reply()).status == 200
    assert got >= len(body)
    assert psutil.Process().memory_info().rss - before < 8 * MIB
    connection.close()


async def _send_slowly(writer: asyncio.StreamWriter, head: bytes, sent: bytes) -> None:
    writer.transport.set_write_buffer_limits(high=65536)
    writer.write(head)
    view = memoryview(sent)
    for start in range(0, len(view), 65536):
        writer.write(bytes(view[start : start + 65536]))
        await writer.drain()


@pytest.mark.parametrize("buffer", [256, 64 * 1024])
async def test_requests_of_one_connection_are_each_held_against_their_own_hash(
    tmp_path: Path, store: Store, buffer: int
) -> None:
    """The second of two alike heads takes a shorter way through the engine, with its body, if that came along."""
    signer = await Signer.of(store)
    async with rig(tmp_path, store, routes=ROUTES, mac=MAC, limits=Limits(buffer=buffer)) as running:
        for size in (5, 256, 257, 2000):
            connection, right = await running.connect(), bytes_of(size)
            for body in (right, right, right[:-1] + b"?", b"?" + right[1:], right):
                field, sent = by_length(body)
                request = signer.head(right, field) + sent
                for status in (200, 401) if body == right else (401,):
                    await connection.send(request)
                    assert (await connection.reply()).status == status
                    if connection.reader.at_eof():
                        connection.close()
                        connection = await running.connect()
            connection.close()
            await eventually(lambda: running.upstream.ended == running.upstream.connections)
            whole = [seen.body for seen in running.upstream.requests if seen.complete]
            assert whole == [right] * 3
            running.upstream.requests.clear()
