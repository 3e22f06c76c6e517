"""An upstream that is known by name: where that leads is looked up again, and outlives the loss of DNS."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.lookup import Place
from gateway.proxy import Limits
from gateway.proxy.names import Name, dial
from gateway.store import Store
from tests.proxy.bulk import both_loops
from tests.proxy.rig import DEADLINE, Rig, eventually, rig
from tests.proxy.several import Server
from tests.serving import ROOT
from tests.zone import Zone

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


class System:
    """The system's resolver, which knows nothing but what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.addresses = list(addresses)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo)

    async def getaddrinfo(self, host: str, port: int, **_: object) -> list[Any]:
        assert host == "app.test"
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in ip], socket.SOCK_STREAM, 6, "", (ip, port)) for ip in self.addresses]


LIMITS = Limits(tick=0.05, names=0.1, names_least=0.1)


@asynccontextmanager
async def named(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, zone: Zone, port: int, limits: Limits = LIMITS
) -> AsyncIterator[Rig]:
    """A gateway whose route leads to app.test."""
    routes = [{"name": "app", "path": "/", "auth": "none", "upstreams": [f"http://app.test:{port}"]}]
    async with zone.served() as resolver, rig(tmp_path, store, routes=routes, limits=limits) as running:
        System(monkeypatch)
        running.proxy.upstreams.resolver = resolver
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


async def test_name_is_looked_up_once_for_as_long_as_its_answer_holds_and_not_by_each_connection(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone("127.0.0.1", ttl=60)
    async with at_two_addresses() as (a, _), named(tmp_path, no_database, monkeypatch, zone, a.port) as running:
        replies = await asyncio.gather(*(running.talk(GET) for _ in range(20)))
        assert {reply.body for reply in replies} == {b"a"}
        assert a.connections > 1
        assert zone.asked == ["app.test"]


@pytest.mark.parametrize(
    ("ttl", "alias_ttl", "least", "most", "again"),
    [
        (1, None, 0.1, 300.0, True),  # RFC 1035, section 3.2.1
        (60, None, 0.1, 300.0, False),
        (60, 1, 0.1, 300.0, True),  # an alias that holds for less than the addresses behind it
        (0, None, 60.0, 300.0, False),  # what is not to be kept is kept a little, so that no server is asked for ever
        (2**31 - 1, None, 0.1, 1.0, True),  # and nothing for weeks
    ],
)
async def test_name_is_looked_up_again_when_its_answer_holds_no_longer_within_bounds(
    ttl: int, alias_ttl: int | None, least: float, most: float, again: bool
) -> None:
    zone, clock = Zone("127.0.0.1", ttl=ttl, alias_ttl=alias_ttl), asyncio.get_running_loop().time
    limits = Limits(names_least=least, names_most=most)
    async with zone.served() as resolver:
        name = Name("app.test", 80, resolver, limits, lambda _: None)
        await name.places()
        zone.addresses, begun = ["127.0.0.2"], clock()
        moved = False
        while not moved and clock() < begun + 1.5:
            moved = [place.ip for place in await name.places()] == ["127.0.0.2"]
            assert not moved or clock() > begun + 0.9
            await asyncio.sleep(0.05)
        assert moved is again


async def test_name_is_found_by_search_domains_and_by_the_hosts_file() -> None:
    zone = Zone("127.0.0.9", name="app.inner.test")
    async with zone.served("other.test", "inner.test") as resolver:
        found = await resolver.look_up("app", 80)
        assert [place.address for place in found.places] == [("127.0.0.9", 80)]
        assert zone.asked == ["app.other.test", "app.inner.test"]
        by_file = await resolver.look_up("localhost", 80)
        assert "127.0.0.1" in {place.ip for place in by_file.places}
        assert len(zone.asked) == 2


async def test_name_that_only_the_system_knows_is_found(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # such as a machine that says its name by mDNS
    zone = Zone()
    async with at_two_addresses() as (a, b), named(tmp_path, no_database, monkeypatch, zone, a.port) as running:
        system = System(monkeypatch, "127.0.0.1")
        assert (await running.talk(GET)).body == b"a"
        system.addresses = ["127.0.0.2"]
        await eventually(lambda: not a._serving)
        assert (await running.talk(GET)).body == b"b"
        assert b.connections == 1


async def test_answer_of_both_families_has_the_addresses_of_both() -> None:
    zone = Zone("127.0.0.1", "::1", ttl=5)
    async with zone.served() as resolver:
        found = await resolver.look_up("app.test", 8080)
    assert {place.family: place.address[:2] for place in found.places} == {
        socket.AF_INET: ("127.0.0.1", 8080),
        socket.AF_INET6: ("::1", 8080),
    }
    assert found.holds == 5.0


async def test_upstreams_that_are_addresses_load_no_resolver() -> None:
    program = "import sys, gateway.app.access; sys.exit('pycares' in sys.modules)"
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", program, cwd=ROOT)
    assert await running.wait() == 0


async def test_upstream_that_moves_is_followed_also_by_connections_that_are_kept(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone("127.0.0.1")
    async with at_two_addresses() as (a, b), named(tmp_path, no_database, monkeypatch, zone, a.port) as running:
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

    async with at_two_addresses() as (a, _), named(tmp_path, no_database, monkeypatch, zone, a.port) as running:
        a.behaviour = slow
        asking = asyncio.create_task(running.talk(GET))
        await eventually(lambda: len(a.requests) == 1)
        zone.addresses = ["127.0.0.2"]
        asked = len(zone.asked)
        await eventually(lambda: len(zone.asked) >= asked + 2)
        release.set()
        assert (await asking).body == b"old"
        assert (await running.talk(GET)).body == b"b"
        await eventually(lambda: not a._serving)


@pytest.mark.parametrize("how", ["fails", "hangs", "no such name"])
async def test_last_good_answer_counts_while_dns_is_gone(
    how: str, tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone("127.0.0.1")
    async with at_two_addresses() as (a, b), named(tmp_path, no_database, monkeypatch, zone, a.port) as running:
        assert (await running.talk(GET)).body == b"a"
        if how == "hangs":
            zone.hangs = True
        elif how == "fails":
            zone.fails = True
        else:
            zone.addresses = []
        asked = len(zone.asked)
        await eventually(lambda: len(zone.asked) > asked)
        running.proxy.upstreams.close_idle(float("inf"))
        assert {(await running.talk(request)).body for request in (POST, GET)} == {b"a"}
        zone.addresses = ["127.0.0.2"]  # and it is believed again when it is back
        zone.fails = zone.hangs = False
        await eventually(lambda: not a._serving)
        assert (await running.talk(GET)).body == b"b"
        assert b.connections == 1


async def test_name_that_never_had_an_address_is_a_502(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone()
    async with at_two_addresses() as (a, _), named(tmp_path, no_database, monkeypatch, zone, a.port) as running:
        assert (await running.talk(GET)).status == 502
        zone.addresses = ["127.0.0.1"]
        assert (await running.talk(GET)).body == b"a"


async def test_address_of_the_family_that_is_served_is_found(
    tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = Zone("::1", "127.0.0.1")  # and nothing listens at the first
    async with at_two_addresses() as (a, _), named(tmp_path, no_database, monkeypatch, zone, a.port) as running:
        assert (await running.talk(GET)).body == b"a"


@pytest.mark.parametrize("addresses", [("::1",), ("127.0.0.1", "::1")])
async def test_upstream_of_the_other_family_alone_is_found(
    addresses: tuple[str, ...], tmp_path: Path, no_database: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    six = Server("6", "::1")
    await six.start()
    try:
        async with named(tmp_path, no_database, monkeypatch, Zone(*addresses), six.port) as running:
            assert [(await running.talk(request)).body for request in (GET, POST, GET)] == [b"6"] * 3
        routes = [{"name": "app", "path": "/", "auth": "none", "upstreams": [f"http://[::1]:{six.port}"]}]
        (place := tmp_path / "literal").mkdir()
        async with rig(place, no_database, routes=routes) as running:
            assert (await running.talk(GET)).body == b"6"
    finally:
        await six.kill()


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
