"""Requests that come again byte for byte: read once, judged each time, and never taken for another."""

import asyncio
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fuzz.mutation import REQUEST_SEEDS, mutated
from gateway.errors import Refused
from gateway.http1 import RequestHead, RequestReader
from gateway.proxy import Limits
from gateway.proxy.dispatch import Destination, Read
from gateway.proxy.repeats import MOST, Repeats
from gateway.store import NewClient, Store
from tests.altered import copied, said_by
from tests.counts import scaled
from tests.proxy.rig import Connection, RawUpstream, Rig, rig

ROUTES: list[dict[str, Any]] = [
    {"name": "open", "path": "/open", "auth": "none"},
    {"name": "bearer", "path": "/bearer", "auth": ["bearer"]},
]
OFTEN = 64  # of so many requests one is remembered
GET = b"GET /open/a?b HTTP/1.1\r\nHost: gateway.test\r\nX-A: 1\r\n\r\n"
SLOW_TICK = Limits(tick=3600.0)  # nothing is forgotten meanwhile


@pytest.fixture
async def running(tmp_path: Path, store: Store) -> AsyncIterator[Rig]:
    upstream = RawUpstream()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await upstream.read_request(reader)
            writer.write(upstream.answer)

    upstream.handler = serve
    async with rig(tmp_path, store, routes=ROUTES, upstream=upstream, limits=SLOW_TICK) as found:
        yield found


@pytest.fixture
async def repeats(running: Rig) -> Repeats:
    return Repeats(running.proxy.dispatcher, SLOW_TICK.tick)


def of(running: Rig) -> Repeats:
    reading = running.proxy.reading
    assert isinstance(reading, Repeats)
    return reading


def read(repeats: Repeats, data: bytes) -> Read | None:
    return repeats.read(RequestReader(), data)


async def answers(connection: Connection, data: bytes, count: int) -> list[int]:
    statuses = []
    for _ in range(count):
        await connection.send(data)
        statuses.append((await connection.reply()).status)
    return statuses


async def test_a_request_that_comes_again_reaches_the_upstream_each_time_under_a_name_of_its_own(running: Rig) -> None:
    connection, other = await running.connect(), await running.connect()
    assert await answers(connection, GET, 2 * OFTEN) == [200] * 2 * OFTEN
    assert await answers(other, GET, 3) == [200] * 3
    assert len(of(running)) == 1
    seen = running.upstream.requests
    assert len({one.one("x-request-id") for one in seen}) == len(seen) == 2 * OFTEN + 3
    told = {tuple(field for field in one.fields if field[0] != "x-request-id") for one in seen}
    assert len(told) == 1
    assert {(one.method, one.target) for one in seen} == {("GET", "/open/a?b")}
    connection.close()
    other.close()


async def test_a_request_that_comes_again_is_judged_each_time(running: Rig, store: Store) -> None:
    new = NewClient(
        name="Notes",
        confidential=True,
        redirect_uris=(),
        grant_types=frozenset({"client_credentials"}),
        scopes=frozenset({"notes:read"}),
        token_type="bearer",
        mac_drafts=("01",),
        mac_algorithm="hmac-sha-256",
    )
    client = (await store.clients.create(new))[0]
    token = (await store.tokens.issue(client.client_id, None, frozenset({"notes:read"}), 60.0, "bearer")).access_token
    data = b"GET /bearer HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer %b\r\n\r\n" % token.encode()
    connection = await running.connect()
    assert await answers(connection, data, OFTEN + 1) == [200] * (OFTEN + 1)
    assert len(of(running)) == 1
    await store.tokens.revoke(token, None)
    assert await answers(connection, data, 2) == [401, 401]
    assert len(running.upstream.requests) == OFTEN + 1
    connection.close()


async def test_what_stands_behind_a_beginning_is_not_taken_for_the_request_that_it_looks_like(running: Rig) -> None:
    connection = await running.connect()
    await answers(connection, GET, OFTEN + 1)
    assert len(of(running)) == 1
    await connection.send(b"POST /open HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: %d\r\n\r\n" % len(GET))
    await asyncio.sleep(0)
    await connection.send(GET)
    assert (await connection.reply()).status == 200
    assert running.upstream.requests[-1].body == GET  # RFC 9112, section 6.3: by the length that was told
    await connection.send(b"G")
    await asyncio.sleep(0)
    await connection.send(GET)
    assert (await connection.reply()).status == 200
    assert running.upstream.requests[-1].method == "GGET"
    connection.close()


async def test_any_request_is_read_as_the_first_time_however_often_it_comes(running: Rig, repeats: Repeats) -> None:
    chance = random.Random(11)
    for _ in range(scaled(20_000)):
        data = mutated(chance, REQUEST_SEEDS, 2)
        found = read(repeats, data)
        for _ in range(3):
            assert same(read(repeats, data), found), data
        reader = RequestReader()
        whole = reader.whole(data)
        assert (whole is None) == (found is None), data
        if whole is not None:
            assert same(found, (*whole, running.proxy.dispatcher.destination(whole[0]))), data


def same(one: Read | None, other: Read | None) -> bool:
    if one is None or other is None:
        return one is other
    pairs = zip(one, other, strict=True)
    return all(parts(mine) == parts(theirs) for mine, theirs in pairs)


def parts(of: RequestHead | bytes | Destination | Refused) -> object:
    if isinstance(of, RequestHead):
        return of.method, of.target, of.minor_version, of.fields.raw, of.length, of.host, of.keep_alive, of.connection
    if isinstance(of, Destination):
        return of.route, of.terms, of.own, of.target, of.authority, of.hops_left
    if isinstance(of, Refused):
        return of.status, of.error, of.description, of.cause, of.mend, of.fields
    return of


async def test_nothing_is_read_where_something_else_waits(repeats: Repeats) -> None:
    for _ in range(OFTEN):
        read(repeats, GET)
    assert len(repeats) == 1
    waiting = RequestReader()
    waiting.receive(b"G")
    assert repeats.read(waiting, GET) is None
    answered = RequestReader()
    assert repeats.read(answered, GET) is not None
    assert repeats.read(answered, GET) is None  # its owner has not gone on
    assert answered.next_request()
    assert repeats.read(answered, GET) is not None


async def test_what_is_remembered_is_bounded_and_soon_forgotten(repeats: Repeats) -> None:
    for number in range((MOST + 2) * OFTEN):
        read(repeats, b"GET /open/%d HTTP/1.1\r\nHost: gateway.test\r\n\r\n" % number)
    assert len(repeats) == MOST
    repeats.forget()
    assert len(repeats) == 0
    long = b"GET /open HTTP/1.1\r\nHost: gateway.test\r\nX-A: %b\r\n\r\n" % (b"a" * 4096)
    for _ in range(2 * OFTEN):
        assert read(repeats, long) is not None
    assert len(repeats) == 0


async def test_nothing_is_remembered_beyond_the_next_tick(tmp_path: Path, no_database: Store) -> None:
    async with rig(tmp_path, no_database, limits=Limits(tick=0.01)) as found:
        for _ in range(OFTEN):
            read(of(found), GET)
        assert len(of(found)) == 1
        async with asyncio.timeout(10):
            while len(of(found)):
                await asyncio.sleep(0.005)


CALL = """
import asyncio
from bench import steps
from gateway.proxy import engine

async def call():
    proxy, _ = steps._engine(2, 1)
    request = b"GET /r/0 HTTP/1.1\\r\\nHost: 127.0.0.1:8080\\r\\n\\r\\n"
    [route] = proxy.dispatcher._table._by_path[b"/r/0"]
    front = steps.Front(proxy, proxy)
    front.connection_made(wire := steps._Wire())
    upstream = steps._kept(proxy, proxy.upstreams._make_only(route))
    for data, side in ((request, front), (b"HTTP/1.1 204 No Content\\r\\n\\r\\n", upstream)):
        proxy.received[: len(data)] = data
        side.buffer_updated(len(data))
        proxy.outbox.flush()
    print(engine.__file__, front.reader.buffered, wire.written > 0)
    proxy.close()

asyncio.run(call())
"""


@pytest.mark.plain
def test_to_do_without_it_takes_away_one_file_and_one_line_with_its_import(tmp_path: Path) -> None:
    package = copied(tmp_path)
    (package / "proxy/repeats.py").unlink()
    taken = []
    for file in package.rglob("*.py"):
        lines = file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not re.search(r"proxy\.repeats|\bRepeats\(", line)]
        if kept != lines:
            file.write_text("".join(kept))
            taken.append((str(file.relative_to(package)), len(lines) - len(kept)))
    assert taken == [("proxy/engine.py", 2)]
    assert said_by(tmp_path, CALL) == [str(tmp_path / "gateway/proxy/engine.py"), "0", "True"]
