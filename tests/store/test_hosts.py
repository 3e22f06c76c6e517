"""Addresses of several hosts: one that keeps silent uses up no time of the others, and nothing else is left open."""

import asyncio
import inspect
from functools import partial
from urllib.parse import urlsplit

import asyncpg
import pytest

from gateway.errors import StoreUnavailable
from gateway.store import Store
from gateway.store.database import Database, Server
from gateway.store.hosts import Hosts, hosts_of
from gateway.store.pool import DEADLINE
from gateway.store.poolers import is_forgetful
from gateway.store.replicas import Replicas
from tests.guard.pooler import PROGRAM as PGBOUNCER
from tests.guard.pooler import pooling
from tests.guard.relay import relaying
from tests.serving import until
from tests.several import dropping, naming, refusing, silence
from tests.store.rig import Rig, fetch

NAME = "gateway-test-hosts"


def read_by_asyncpg(dsn: str, **given: object) -> list[object]:
    """What asyncpg connects to, in its order."""
    parse = vars(asyncpg.connect_utils)["_parse_connect_dsn_and_args"]
    addresses, _ = parse(**{**dict.fromkeys(inspect.signature(parse).parameters), "dsn": dsn, **given})
    return list(addresses)


@pytest.mark.parametrize("ports", ["", "6432"])
@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://a/gateway",
        "postgresql://a,b/gateway",
        "postgresql://a:1,b,c:3/gateway?target_session_attrs=read-write",
        "postgresql://gateway:a%2Cb@a:1,b/gateway?sslmode=require",
        "postgresql://[::1]:1,[fe80::1],10.0.0.1:3/gateway",
        "postgresql://%2Frun%2Fa,b:2/gateway",
        "postgresql:///gateway?host=/run/a,/run/b",
        "postgresql:///gateway?host=/run/a,b,c&port=1,2,3",
        "postgresql:///gateway?host=a,b&port=7",
        "postgresql:///gateway?host=a:1%2Cb",
        "postgresql:///gateway?host=a:1,b&port=7,8",
    ],
)
def test_hosts_are_those_that_asyncpg_reads(dsn: str, ports: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", ports)
    each = [read_by_asyncpg(dsn, host=host.name, port=host.port) for host in hosts_of(dsn, ports)]
    assert [address for addresses in each for address in addresses] == read_by_asyncpg(dsn)


def test_ports_of_the_environment_are_for_hosts_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1,2")
    dsn = "postgresql://a,b/gateway"
    assert hosts_of(dsn, "1,2") == read_by_asyncpg(dsn) == [("a", 1), ("b", 2)]


@pytest.mark.parametrize(
    "dsn", ["postgresql:///gateway", "postgresql://gateway@/gateway", "postgresql:///?service=main"]
)
def test_address_without_hosts_is_left_to_asyncpg(dsn: str) -> None:
    assert hosts_of(dsn, "") == []


@pytest.mark.parametrize(
    ("dsn", "fault"),
    [
        ("postgresql://a,/x", "a host is missing"),
        ("postgresql://a:x,b/x", "invalid literal"),
        ("postgresql:///x?host=a,b&port=1,2,3", "zip"),
        ("postgresql://a,[::1/x", "Invalid IPv6 URL"),
    ],
)
def test_address_that_cannot_be_read_is_a_fault_of_the_address(dsn: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        hosts_of(dsn, "")


def attempts() -> int:
    """How many attempts to connect have not ended."""
    return sum(task.get_name() == "store-host" for task in asyncio.all_tasks())


async def holds_sessions(database: str, number: int) -> None:
    """Wait until the server has so many of ours."""
    asked = "select from pg_stat_activity where application_name = $1 and datname = current_database()"

    async def has() -> bool:
        return len(await fetch(database, asked, NAME)) == number

    await until(has)


@pytest.mark.parametrize("wanted", [{}, {"target_session_attrs": "read-write"}, {"target_session_attrs": "any"}])
async def test_silent_first_host_leaves_time_for_the_next(database: str, wanted: dict[str, str]) -> None:
    async with silence() as silent:
        server = Server(naming(silent.dsn, database, **wanted))
        async with asyncio.timeout(DEADLINE):
            connections = [await server.connect(NAME)]
        await until(lambda: silent.accepted and not silent.open and not attempts())

        # The next connections go where the last one was.
        accepted = silent.accepted
        connections += await asyncio.gather(*(server.connect(NAME) for _ in range(3)))
        assert silent.accepted == accepted
        await holds_sessions(database, 4)
        for connection in connections:
            assert await connection.fetchval("select 1") == 1
            await connection.close()


async def test_hosts_whose_packets_are_dropped_leave_time_for_the_next(database: str) -> None:
    with dropping() as first, dropping() as second:
        pool = Database(partial(Server(naming(first, second, database)).connect, NAME), 4)
        assert await asyncio.gather(*(pool.value("ping") for _ in range(8))) == [1] * 8
        await until(lambda: not attempts())
        await pool.close()


async def test_host_that_falls_silent_is_left_for_another_with_the_next_connection(database: str) -> None:
    async with relaying(database) as relay:
        pool = Database(partial(Server(naming(relay.dsn, database)).connect, NAME), 2)
        assert await pool.value("ping") == 1
        assert relay.connections(NAME) == 1
        relay.hold(NAME)
        with pytest.raises(StoreUnavailable):
            async with pool.lend(0.2) as connection:
                await connection.fetchval("select 1")
        assert await pool.value("ping") == 1
        await until(lambda: not attempts())
        await pool.close()


async def test_connections_that_open_beside_the_chosen_one_are_ended(database: str) -> None:
    async with silence() as silent:
        for _ in range(5):
            connection = await Server(naming(silent.dsn, database, database, database)).connect(NAME)
            await holds_sessions(database, 1)
            assert await connection.fetchval("select 1") == 1
            await connection.close()
            await holds_sessions(database, 0)


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed: install the package pgbouncer")
async def test_pooler_behind_a_silent_host_is_known_for_one(database: str) -> None:
    """It refuses the settings that a connection begins with, which is no word of the other host's."""
    async with pooling(database, prepared=0) as dsn, silence() as silent:
        pooler = urlsplit(dsn)
        there = f"postgresql://gateway@{pooler.path}?host={pooler.hostname}&port={pooler.port}"
        async with asyncio.timeout(DEADLINE):
            connection = await Server(naming(silent.dsn, there)).connect(NAME)
        assert is_forgetful(connection)
        await connection.close()
        await until(lambda: silent.accepted and not silent.open and not attempts())


async def test_cancelled_caller_leaves_nothing_open(database: str) -> None:
    async with silence() as first, silence() as second:
        connecting = asyncio.create_task(Hosts(naming(first.dsn, second.dsn)).connect(timeout=30))
        await until(lambda: first.open and second.open)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await until(lambda: not attempts() and not first.open and not second.open)

        # At whatever moment that is.
        for moment in range(20):
            connecting = asyncio.create_task(Server(naming(first.dsn, database)).connect(NAME))
            await asyncio.wait([connecting], timeout=0.095 + moment * 0.001)
            connecting.cancel()
            for connection in await asyncio.gather(connecting, return_exceptions=True):
                if isinstance(connection, asyncpg.Connection):
                    connection.terminate()
        await holds_sessions(database, 0)
        await until(lambda: not attempts() and not first.open)


async def test_hosts_that_are_all_silent_are_an_outage_at_the_deadline() -> None:
    async with silence() as first, silence() as second:
        pool = Database(partial(Server(naming(first.dsn, second.dsn)).connect, NAME), 1)
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            async with pool.lend(0.5):
                pass
        await until(lambda: not attempts() and not first.open and not second.open)
        await pool.close()


async def test_server_that_refuses_beside_a_silent_one_is_told_of_in_its_own_words(database: str) -> None:
    absent = urlsplit(database)._replace(path="/absent").geturl()
    async with silence() as silent:
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            async with asyncio.timeout(DEADLINE):
                await Server(naming(silent.dsn, absent)).connect(NAME)
        await until(lambda: not attempts() and not silent.open)


async def test_hosts_where_nobody_listens_are_told_of_at_once() -> None:
    with refusing() as first, refusing() as second, pytest.raises(ConnectionRefusedError):
        await Server(naming(first, second)).connect(NAME)


async def test_first_change_of_a_log_is_heard_beside_silent_hosts(store: Store, database: str) -> None:
    """A log has an end from its migration on, after which the first change that is ever written comes."""
    assert [row["kind"] for row in await fetch(database, "select kind from changes")] == ["all"]
    async with store.changes.feed(lambda: None) as feed:
        newest = (await feed.read()).newest
    assert newest is not None
    assert await store.tokens.revoke((await (await Rig.build(store)).tokens()).access_token, None)
    async with silence() as silent:
        with dropping() as gone:
            replicas = Replicas([naming(silent.dsn, gone, database)])

            async def hears() -> bool:
                last, changes = await replicas.changes(newest)
                return bool(changes) and last.number > newest.number

            async with asyncio.timeout(DEADLINE):
                await until(hears)
            await replicas.close()
        await until(lambda: not attempts() and not silent.open)
