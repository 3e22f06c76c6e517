"""Idle connections to upstreams go from a worker that ends to one that follows, where both know the same upstream."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.proxy import Handover, Limits
from gateway.proxy.upstream import Which
from gateway.store import Store
from tests.certificates import Authority
from tests.proxy.bulk import both_loops
from tests.proxy.rig import RawUpstream, Rig, eventually, rig
from tests.proxy.several import OK, Server
from tests.proxy.test_names import System
from tests.proxy.test_upstream_tls import serving_with
from tests.zone import Zone

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
LIMITS = Limits(tick=0.02, fresh=60.0)  # so that also a slow machine sends a POST on what was used just now


def route(place: str, **more: Any) -> dict[str, Any]:
    return {"name": "all", "path": "/", "auth": "none", "upstreams": [place], **more}


class Pair:
    """Two workers, the second of which follows the first."""

    def __init__(self, first: Rig, second: Rig, giving: Handover, taking: Handover) -> None:
        self.first, self.second = first, second
        self._giving, self._taking = giving, taking
        self.arrived = 0

    async def change(self) -> None:
        """Have the second follow the first."""

        def taken(sock: socket.socket, told: bytes) -> None:
            self.arrived += 1
            self.second.proxy.upstreams.adopt(sock, told)

        self._taking.begin_taking(lambda sock, _: sock.close(), taken)
        await self.first.proxy.drain(30.0, self._giving)

    @property
    def idle(self) -> int:
        """How many connections the second holds for its next call."""
        return sum(pool.idle for pool in self.second.proxy.upstreams._pools.values())


@asynccontextmanager
async def workers(
    folder: Path, store: Store, first: dict[str, Any], second: dict[str, Any], *, limits: Limits = LIMITS
) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        rigs = list[Rig]()
        for number, led in enumerate((first, second)):
            (place := folder / str(number)).mkdir()
            rigs.append(await stack.enter_async_context(rig(place, store, routes=[led], limits=limits)))
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        giving, taking = Handover(*ends), Handover(*(end.dup() for end in ends))
        stack.callback(taking.close)
        stack.callback(giving.close)
        yield Pair(rigs[0], rigs[1], giving, taking)


@asynccontextmanager
async def upstream() -> AsyncIterator[Server]:
    server = Server("a")
    await server.start()
    try:
        yield server
    finally:
        await server.kill()


@both_loops
async def test_next_worker_goes_on_with_them(tmp_path: Path, no_database: Store) -> None:
    async with upstream() as a, workers(tmp_path, no_database, route(a.url), route(a.url, timeout="5s")) as pair:
        await asyncio.gather(*(pair.first.talk(GET) for _ in range(4)))
        opened = a.connections
        await pair.change()
        await eventually(lambda: pair.idle == opened)
        for request in (GET, POST, GET):
            assert (await pair.second.talk(request)).body == b"a"
        assert a.connections == opened


@both_loops
async def test_unix_socket_is_gone_on_with_too(tmp_path: Path, no_database: Store) -> None:
    behind = RawUpstream(path=str(tmp_path / "app"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await behind.read_request(reader)
            writer.write(OK + b"a")

    behind.handler = serve
    led = route(f"http+unix://{behind.path}")
    async with behind.serving(), workers(tmp_path, no_database, led, led) as pair:
        assert (await pair.first.talk(GET)).body == b"a"
        await pair.change()
        await eventually(lambda: pair.idle == 1)
        assert (await pair.second.talk(GET)).body == b"a"
        assert behind.connections == 1


async def test_what_is_in_use_goes_over_when_its_call_has_ended(tmp_path: Path, no_database: Store) -> None:
    held = asyncio.Event()

    async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read(reader)
            await held.wait()
            writer.write(OK + b"a")

    async with upstream() as a, workers(tmp_path, no_database, route(a.url), route(a.url)) as pair:
        a.behaviour = slow
        asking = asyncio.create_task(pair.first.talk(GET))
        await eventually(lambda: len(a.requests) == 1)
        changing = asyncio.create_task(pair.change())
        await asyncio.sleep(0.1)  # ticks, in which nothing may be given
        assert pair.arrived == 0
        held.set()
        assert (await asking).body == b"a"
        await changing
        await eventually(lambda: pair.idle == 1)
        assert (await pair.second.talk(GET)).body == b"a"
        assert a.connections == 1


@pytest.mark.parametrize("how", ["elsewhere", "more at once"])
async def test_upstream_that_is_no_more_or_is_another_now_is_let_go(
    how: str, tmp_path: Path, no_database: Store
) -> None:
    async with upstream() as a, upstream() as b:
        other = route(b.url) if how == "elsewhere" else route(a.url, connections=7)
        async with workers(tmp_path, no_database, route(a.url), other) as pair:
            assert (await pair.first.talk(GET)).body == b"a"
            await pair.change()
            await eventually(lambda: pair.arrived == 1)
            await eventually(lambda: not a._serving)
            assert pair.idle == 0


async def test_more_than_there_is_room_for_are_let_go(tmp_path: Path, no_database: Store) -> None:
    async def together(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read(reader)
            await eventually(lambda: len(server.requests) >= 2)
            writer.write(OK + b"a")

    async with upstream() as a:
        a.behaviour = together
        led = route(a.url, connections=2)
        async with workers(tmp_path, no_database, led, led) as pair:
            await asyncio.gather(*(pair.first.talk(GET) for _ in range(2)))
            assert (await pair.second.talk(GET)).body == b"a"
            await pair.change()
            await eventually(lambda: pair.arrived == 2)
            await eventually(lambda: len(a._serving) == 2)
            assert pair.idle == 2


async def test_one_with_tls_is_not_given(tmp_path: Path, no_database: Store) -> None:
    ours = Authority(tmp_path / "ours")
    async with RawUpstream(tls=serving_with(*ours.issue("localhost"))).serving() as inner:

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await inner.read_request(reader)
                writer.write(inner.answer)

        inner.handler = serve
        led = route(f"https://localhost:{inner.port}", upstream_tls={"ca": str(ours.ca)})
        async with workers(tmp_path, no_database, led, led) as pair:
            assert (await pair.first.talk(GET)).body == b"ok"
            await pair.change()
            assert (await pair.second.talk(GET)).body == b"ok"
            assert (pair.arrived, inner.connections) == (0, 2)


@both_loops
@pytest.mark.parametrize("what", ["its end", "a byte"])
async def test_what_came_on_its_way_is_seen(what: str, tmp_path: Path, no_database: Store) -> None:
    writers = list[asyncio.StreamWriter]()

    async def kept(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while True:
            await server.read(reader)
            writer.write(OK + b"a")

    async with upstream() as a, workers(tmp_path, no_database, route(a.url), route(a.url)) as pair:
        a.behaviour = kept
        assert (await pair.first.talk(GET)).body == b"a"
        left = list[tuple[socket.socket, bytes]]()
        pair._taking.begin_taking(lambda sock, _: sock.close(), lambda *one: left.append(one))
        await pair.first.proxy.drain(30.0, pair._giving)
        await eventually(lambda: len(left) == 1)
        if what == "its end":
            writers[0].close()
        else:
            writers[0].write(b"H")
        await eventually(lambda: bool(select.select([left[0][0]], [], [], 0)[0]))
        pair.second.proxy.upstreams.adopt(*left[0])
        assert (await pair.second.talk(POST)).body == b"a"
        assert a.connections == 2


@both_loops
async def test_what_came_on_its_way_is_no_answer_to_whoever_asks_next(tmp_path: Path, no_database: Store) -> None:
    stale = asyncio.Event()

    async def hasty(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(OK + b"a")
        await stale.wait()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with upstream() as a, workers(tmp_path, no_database, route(a.url), route(a.url)) as pair:
        a.behaviour = hasty
        assert (await pair.first.talk(GET)).body == b"a"
        left = list[tuple[socket.socket, bytes]]()
        pair._taking.begin_taking(lambda sock, _: sock.close(), lambda *one: left.append(one))
        await pair.first.proxy.drain(30.0, pair._giving)
        await eventually(lambda: len(left) == 1)
        [(sock, told)] = left
        stale.set()
        await eventually(lambda: bool(select.select([sock], [], [], 0)[0]))
        upstreams = pair.second.proxy.upstreams
        [led] = upstreams._routes
        pool = upstreams._pool(led, led.upstreams[0])
        await pool.adopt(sock, Which.from_bytes(told))
        assert pool.take_idle(fresh=False) is None  # in this turn, in which nothing that came is told of yet


async def test_what_has_rested_for_long_takes_nothing_that_is_sent_but_once(tmp_path: Path, no_database: Store) -> None:
    limits = Limits(tick=0.02, fresh=0.05)
    async with upstream() as a, workers(tmp_path, no_database, route(a.url), route(a.url), limits=limits) as pair:
        assert (await pair.first.talk(GET)).body == b"a"
        await asyncio.sleep(0.06)  # no longer fresh
        await pair.change()
        await eventually(lambda: pair.idle == 1)
        assert (await pair.second.talk(POST)).body == b"a"
        assert a.connections == 2
        assert (await pair.second.talk(GET)).body == b"a"
        assert a.connections == 2


async def test_name_that_leads_elsewhere_lets_go_of_what_was_left(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone("127.0.0.1", ttl=60)
    async with upstream() as a, zone.served() as resolver:
        led = route(f"http://app.test:{a.port}")
        async with workers(tmp_path, no_database, led, led) as pair:
            System(monkeypatch)
            for one in (pair.first, pair.second):
                one.proxy.upstreams.resolver = resolver
            assert (await pair.first.talk(GET)).body == b"a"
            zone.addresses = ["127.0.0.2"]  # which the second is told, and the first not yet
            await pair.change()
            await eventually(lambda: pair.arrived == 1)
            await eventually(lambda: not a._serving)


@both_loops
async def test_client_that_has_ended_its_side_is_answered_by_the_next_worker(
    tmp_path: Path, no_database: Store
) -> None:
    async with upstream() as a, rig(tmp_path, no_database, routes=[route(a.url)]) as next_one:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.shutdown(socket.SHUT_WR)
        next_one.proxy.take(theirs, GET + POST)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        answered = await asyncio.wait_for(reader.read(), 30.0)
        writer.close()
        assert answered.count(b"HTTP/1.1 200 ") == 2
        assert len(a.requests) == 2
