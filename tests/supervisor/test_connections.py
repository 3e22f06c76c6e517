"""Connections to the database: as many as are counted, and room for them, also while a reload doubles the workers."""

import asyncio
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from gateway import config
from gateway.config import Settings
from gateway.crypto import Keyring
from gateway.errors import StoreUnavailable
from gateway.faults import OperatorError
from gateway.store import Store
from gateway.supervisor import connections, embedded
from tests.serving import Gateway, serving
from tests.store.rig import fetch
from tests.supervisor.test_reload import events, refused, reloaded, rewrite


def settings_for(authorization_workers: int | None = None) -> Settings:
    stated = {} if authorization_workers is None else {"authorization_workers": authorization_workers}
    read = config.parse({"server": {"public_url": "https://api.example.com", **stated}})
    return Settings(read, Path("/nowhere/config.toml"), None, None, ())


@pytest.mark.parametrize("authorization", [None, 1, 64])
@pytest.mark.parametrize("workers", [1, 2, 5, 64, 256])
def test_a_database_has_room_for_three_generations_of_the_workers_that_it_is_started_for(
    workers: int, authorization: int | None
) -> None:
    settings = settings_for(authorization)
    started_for = connections.max_connections(settings, workers)
    assert 3 * connections.needed(settings, workers) <= connections.room_in(started_for)
    connections.require_room(settings, workers, started_for)


@pytest.mark.parametrize(("workers", "authorization"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_one_authorization_worker_is_enough_for_four_others(workers: int, authorization: int) -> None:
    assert connections.authorization_workers(settings_for(), workers) == authorization


def test_more_workers_than_fit_twice_are_refused_with_how_many_do() -> None:
    with pytest.raises(OperatorError, match=r"^server\.workers: 64 .* may hold 992 connections, twice .* at most 4$"):
        connections.require_room(settings_for(), 64, 200)
    with pytest.raises(OperatorError, match=r"restart$"):
        connections.require_room(settings_for(256), 2, 200)


async def test_a_worker_holds_no_more_connections_than_are_counted(database: str, keyring: Keyring) -> None:
    """Asked for everything at once, much more often than there are connections."""
    store = Store.over(database, keyring, size=connections.ACCESS_POOL)

    async def follow() -> None:
        async with store.changes.feed(lambda: None) as feed:
            await feed.read()
            await asyncio.Event().wait()

    async def ask(number: int) -> None:
        terms = (await store.nonces.terms()).terms
        await store.nonces.spend([bytes(15) + bytes([number])], [terms.floor], terms)
        await store.nonces.spend_untimed([(bytes(15) + bytes([number]), store.now())])

    following = asyncio.create_task(follow())
    try:
        asked = [ask(n) for n in range(20)] + [store.clients.find("c") for _ in range(20)]
        await asyncio.gather(*asked, *(store.access_tokens.find_many([bytes(32)]) for _ in range(20)))
        query = "select application_name from pg_stat_activity where application_name like 'gateway-%' and datname = "
        held = Counter(name for (name,) in await fetch(database, f"{query} current_database()"))
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError, StoreUnavailable):
            await following
        await store.close()
    assert held["gateway-pool"] == connections.ACCESS_POOL
    assert held.total() <= connections.needed(settings_for(1), 1) - connections.AUTHORIZATION_POOL


async def _max_connections(gateway: Gateway) -> int:
    async with embedded.running(gateway.data_dir) as dsn:
        (row,) = await fetch(dsn, "select current_setting('max_connections')::integer")
    return int(row[0])


async def test_a_reload_with_more_workers_than_the_database_can_hold_is_refused_in_words(tmp_path: Path) -> None:
    async with serving(tmp_path, workers=1, server={"authorization_workers": 6}) as gateway:
        assert await _max_connections(gateway) == 3 * (13 + 60) + 40
        rewrite(gateway, '"workers" = 1', '"workers" = 9')
        [fault] = await refused(gateway)
        assert fault.startswith("server.workers: 9 (with 6 for authorization) may hold 177 connections, twice while")
        assert fault.endswith("started for 259; restart, or ask for at most 3")
        rewrite(gateway, '"workers" = 9', '"workers" = 2')
        await reloaded(gateway)
        assert events(gateway, "reloaded")[-1]["workers"] == 2
