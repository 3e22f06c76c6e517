"""Who waits for a connection to an upstream: by route, in turn, and no longer than said."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gateway.proxy import Limits
from gateway.store import Store
from tests.proxy.bulk import both_loops
from tests.proxy.rig import DEADLINE, Reply, Rig, eventually, rig

ROUTES = [{"name": name, "path": f"/{name}", "auth": "none"} for name in ("flood", "calm")]
LIMITS = Limits(upstream_connections=1, upstream_waiting=3)


@dataclass
class Busy:
    """A gateway with one connection to an upstream that answers when it is let, one request after another."""

    rig: Rig
    asked: list[str] = field(default_factory=list)
    release: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await self.rig.upstream.read_request(reader)
            self.asked.append(request.target.strip("/"))
            await self.release.acquire()
            writer.write(self.rig.upstream.answer)

    @property
    def waiting(self) -> int:
        return sum(len(queue) for pool in self.rig.proxy.upstreams._pools.values() for queue in pool._waiting.values())

    async def ask(self, *names: str) -> list[asyncio.Task[Reply]]:
        """Ask for these routes, each once the one before has its place."""
        asking = list[asyncio.Task[Reply]]()
        for name in names:
            before = self.waiting + len(self.asked)
            asking.append(asyncio.create_task(self.rig.talk(f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())))
            await eventually(lambda before=before, asked=asking[-1]: self._placed(before, asked))  # type: ignore[misc]
        return asking

    def _placed(self, before: int, asked: "asyncio.Task[Reply]") -> bool:
        return self.waiting + len(self.asked) > before or asked.done()

    def let(self, count: int) -> None:
        for _ in range(count):
            self.release.release()


async def _busy(tmp_path: Path, store: Store, limits: Limits) -> AsyncIterator[Busy]:
    async with rig(tmp_path, store, routes=ROUTES, limits=limits) as running:
        busy = Busy(running)
        running.upstream.handler = busy.serve
        yield busy
        busy.let(100)


@pytest.fixture
async def busy(tmp_path: Path, no_database: Store) -> AsyncIterator[Busy]:
    async for found in _busy(tmp_path, no_database, LIMITS):
        yield found


@pytest.fixture
async def impatient(tmp_path: Path, no_database: Store) -> AsyncIterator[Busy]:
    async for found in _busy(tmp_path, no_database, replace(LIMITS, upstream_wait=0.1)):
        yield found


async def test_routes_take_turns_where_they_share_an_upstream(busy: Busy) -> None:
    asking = await busy.ask("flood", "flood", "flood", "flood", "calm", "calm")
    busy.let(6)
    assert {(await task).status for task in asking} == {200}
    assert busy.asked == ["flood", "flood", "calm", "flood", "calm", "flood"]


async def test_as_many_wait_as_a_route_may_have_and_no_other_route_has_fewer_for_it(busy: Busy) -> None:
    asking = await busy.ask(*["flood"] * 6, *["calm"] * 4)
    refused = [task for task in asking if task.done()]
    assert [(await task).status for task in refused] == [503] * 3
    assert refused == [asking[4], asking[5], asking[9]]
    busy.let(7)
    assert [(await task).status for task in asking if task not in refused] == [200] * 7


async def test_who_gave_up_or_went_away_takes_no_place(impatient: Busy) -> None:
    [held] = await impatient.ask("flood")
    for _ in range(3):
        assert {(await task).status for task in await impatient.ask("flood", "flood", "flood")} == {504}
        assert impatient.waiting == 0
    impatient.let(1)
    assert (await held).status == 200


async def test_client_that_goes_away_while_it_waits_takes_no_place(busy: Busy) -> None:
    [held] = await busy.ask("flood")
    for _ in range(3):
        gone = [await busy.rig.connect() for _ in range(3)]
        for connection in gone:
            await connection.send(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: busy.waiting == 3)
        for connection in gone:
            connection.close()
        await eventually(lambda: busy.waiting == 0)
    busy.let(1)
    assert (await asyncio.wait_for(held, DEADLINE)).status == 200


@both_loops
async def test_turn_is_lost_but_once_to_an_upstream_that_ends_what_it_said_it_would_keep(busy: Busy) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        busy.asked.append((await busy.rig.upstream.read_request(reader)).target.strip("/"))
        await busy.release.acquire()
        writer.write(busy.rig.upstream.answer)

    busy.rig.upstream.handler = serve
    asking = await busy.ask("flood", "calm", "flood", "calm", "flood", "calm")
    busy.let(6)
    assert {(await task).status for task in asking} == {200}
    assert busy.asked == ["flood", "flood", "calm", "flood", "calm", "calm"]


async def test_leave_to_open_a_connection_is_passed_on_by_who_gives_up(busy: Busy) -> None:
    busy.let(1)
    [reply] = await asyncio.gather(*await busy.ask("flood"))
    assert reply.status == 200
    [pool], [route] = busy.rig.proxy.upstreams._pools.values(), busy.rig.proxy.upstreams._only
    taken = await pool.connect(route)
    gives_up, waits = (asyncio.create_task(pool.connect(route)) for _ in range(2))
    await eventually(lambda: busy.waiting == 2)
    taken.discard()
    gives_up.cancel()  # before it has seen that its turn has come
    connection = await asyncio.wait_for(waits, DEADLINE)
    assert not connection.closed
    connection.discard()


async def test_leave_to_open_a_connection_is_nobody_else_s(busy: Busy) -> None:
    busy.let(1)
    await asyncio.gather(*await busy.ask("flood"))
    [pool], [route] = busy.rig.proxy.upstreams._pools.values(), busy.rig.proxy.upstreams._only
    taken = await pool.connect(route)
    waits = asyncio.create_task(pool.connect(route))
    await eventually(lambda: busy.waiting == 1)
    newcomer = asyncio.create_task(pool.connect(route))  # its turn of the loop comes first
    taken.discard()
    for _ in range(5):
        await asyncio.sleep(0)
        assert len(pool._open) <= LIMITS.upstream_connections
    (await waits).discard()
    (await newcomer).discard()
