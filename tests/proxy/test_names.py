"""An upstream that is known by name: where that leads is looked up again, and outlives the loss of DNS."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.proxy import Limits
from gateway.proxy.names import Place, dial
from gateway.store import Store
from tests.proxy.bulk import both_loops
from tests.proxy.rig import DEADLINE, Rig, eventually, rig
from tests.proxy.several import Server

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


class Zone:
    """What DNS says of one name; nothing where it is gone."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0
        self.hangs = False

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[Any]:
        assert host == "app.test"
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if not self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in ip], socket.SOCK_STREAM, 6, "", (ip, port)) for ip in self.addresses]


@asynccontextmanager
async def named(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, zone: Zone, port: int, names: float
) -> AsyncIterator[Rig]:
    """A gateway whose route leads to app.test, which is looked up once in so many seconds."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", zone.getaddrinfo)
    routes = [{"name": "app", "path": "/", "auth": "none", "upstreams": [f"http://app.test:{port}"]}]
    async with rig(tmp_path, store, routes=routes, limits=Limits(tick=0.05, names=names)) as running:
        yield running


@asynccontextmanager
async def at_two_addresses() -> AsyncIterator[tuple[Server, Server]]:
    """Two servers at the same port of two addresses."""
    a, b = Server("a", "127.0.0.1"), Server("b", "127.0.0.2")
    try:
        await a.start()
        b.port = a.port
        await b.start()
        yield a, b
    finally:
        await a.kill()
        await b.kill()


async def test_name_is_looked_up_once_in_a_while_and_not_by_each_connection(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone("127.0.0.1")
    async with at_two_addresses() as (a, _), named(tmp_path, no_database, monkeypatch, zone, a.port, 60.0) as running:
        replies = await asyncio.gather(*(running.talk(GET) for _ in range(20)))
        assert {reply.body for reply in replies} == {b"a"}
        assert a.connections > 1
        assert zone.asked == 1


async def test_upstream_that_moves_is_followed_also_by_connections_that_are_kept(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone("127.0.0.1")
    async with at_two_addresses() as (a, b), named(tmp_path, no_database, monkeypatch, zone, a.port, 0.1) as running:
        assert (await running.talk(GET)).body == b"a"
        zone.addresses = ["127.0.0.2"]
        await eventually(lambda: not a._serving)  # the kept one is ended without a call
        for request in (GET, POST):
            assert (await running.talk(request)).body == b"b"
        assert b.connections == 1


async def test_call_under_way_at_an_address_that_is_given_up_ends_well_there(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone, release = Zone("127.0.0.1"), asyncio.Event()

    async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read(reader)
            await release.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")

    async with at_two_addresses() as (a, _), named(tmp_path, no_database, monkeypatch, zone, a.port, 0.1) as running:
        a.behaviour = slow
        asking = asyncio.create_task(running.talk(GET))
        await eventually(lambda: len(a.requests) == 1)
        zone.addresses = ["127.0.0.2"]
        asked = zone.asked
        await eventually(lambda: zone.asked >= asked + 2)
        release.set()
        assert (await asking).body == b"old"
        assert (await running.talk(GET)).body == b"b"
        await eventually(lambda: not a._serving)


@pytest.mark.parametrize("hangs", [False, True])
async def test_last_good_answer_counts_while_dns_is_gone(
    hangs: bool, tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone("127.0.0.1")
    async with at_two_addresses() as (a, b), named(tmp_path, no_database, monkeypatch, zone, a.port, 0.05) as running:
        assert (await running.talk(GET)).body == b"a"
        if hangs:
            zone.hangs = True
        else:
            zone.addresses = []
        asked = zone.asked
        await eventually(lambda: zone.asked > asked)
        running.proxy.upstreams.close_idle(float("inf"))
        assert {(await running.talk(request)).body for request in (POST, GET)} == {b"a"}
        if not hangs:
            zone.addresses = ["127.0.0.2"]  # and it is believed again when it is back
            await eventually(lambda: not a._serving)
            assert (await running.talk(GET)).body == b"b"
            assert b.connections == 1


async def test_name_that_never_had_an_address_is_a_502(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone()
    async with at_two_addresses() as (a, _), named(tmp_path, no_database, monkeypatch, zone, a.port, 60.0) as running:
        assert (await running.talk(GET)).status == 502
        zone.addresses = ["127.0.0.1"]
        assert (await running.talk(GET)).body == b"a"


async def test_address_of_the_family_that_is_served_is_found(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone("::1", "127.0.0.1")  # and nothing listens at the first
    async with at_two_addresses() as (a, _), named(tmp_path, no_database, monkeypatch, zone, a.port, 60.0) as running:
        assert (await running.talk(GET)).body == b"a"


@both_loops
async def test_connection_by_name_is_like_any_other(tmp_path: Path, no_database: Store) -> None:
    a, body = Server("a"), b"x" * 1_000_000

    async def echo(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            received = await server.read(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(received.body) + received.body)

    a.behaviour = echo
    await a.start()
    try:
        upstreams = [f"http://localhost:{a.port}"]
        routes = [{"name": "app", "path": "/", "auth": "none", "upstreams": upstreams, "max_body": "1MiB"}]
        async with rig(tmp_path, no_database, routes=routes) as running:
            for _ in range(3):
                reply = await running.talk(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + body)
                assert reply.body == body
            assert a.connections == 1
            await a.kill()
            assert (await running.talk(GET)).status == 502
            await a.start()
            assert (await running.talk(GET)).status == 200
    finally:
        await a.kill()


@both_loops
async def test_address_that_does_not_answer_holds_nobody_up() -> None:
    # RFC 8305, section 5: the next one is tried a quarter of a second later
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    filling = [socket.socket() for _ in range(8)]
    for sock in filling:
        sock.setblocking(False)
        sock.connect_ex(full.getsockname())
    a = Server("a")
    await a.start()
    try:
        places = [Place(socket.AF_INET, full.getsockname()), Place(socket.AF_INET, ("127.0.0.1", a.port))]
        async with asyncio.timeout(DEADLINE):
            sock, place = await dial(places)
        sock.close()
        assert place == places[1]
        with pytest.raises(ConnectionRefusedError):
            await dial([Place(socket.AF_INET, ("127.0.0.1", 1)), Place(socket.AF_INET, ("127.0.0.2", 1))])
    finally:
        await a.kill()
        for sock in [full, *filling]:
            sock.close()
