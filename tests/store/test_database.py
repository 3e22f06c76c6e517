"""Connections: one deadline for everything, nothing reused that went wrong, recovery by itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from gateway.crypto import Keyring
from gateway.errors import StoreUnavailable
from gateway.store import Store
from gateway.store.database import DEADLINE, Database, connect
from tests.serving import until
from tests.store.rig import PASSWORD_HASH, fetch

NAME = "gateway-test-database"
LIMIT = DEADLINE + 0.5


@pytest.fixture
async def pool(database: str) -> AsyncIterator[Database]:
    made = Database(lambda: connect(database, NAME), 2)
    yield made
    await made.close()


async def backends(dsn: str) -> list[int]:
    rows = await fetch(
        dsn,
        "select pid from pg_stat_activity where application_name = $1 and datname = current_database() order by pid",
        NAME,
    )
    return [row["pid"] for row in rows]


@contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Servers that hang: they hold their connections and say nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_connection_is_used_again_and_names_its_use(pool: Database, database: str) -> None:
    for _ in range(5):
        await pool.value("ping")
    assert len(await backends(database)) == 1


async def test_connections_are_bounded_and_those_who_wait_get_their_turn(pool: Database, database: str) -> None:
    answers = await asyncio.gather(*(pool.value("ping") for _ in range(50)))
    assert answers == [1] * 50
    assert len(await backends(database)) == 2


async def test_hung_server_is_given_up_at_the_deadline_and_its_connection_dropped(
    pool: Database, database: str
) -> None:
    await pool.value("ping")
    before = await backends(database)
    started = monotonic()
    with stopped(before):
        with pytest.raises(StoreUnavailable) as failure:
            await pool.value("ping")
        assert monotonic() - started < LIMIT
        assert isinstance(failure.value.__cause__, TimeoutError)
        assert await pool.value("ping") == 1  # on a new connection, while the old one still hangs


async def test_deadline_covers_the_wait_for_a_connection(pool: Database, database: str) -> None:
    await asyncio.gather(pool.value("ping"), pool.value("ping"))
    hung = await backends(database)
    assert len(hung) == 2
    with stopped(hung):
        started = monotonic()
        outcomes = await asyncio.gather(*(pool.value("ping") for _ in range(6)), return_exceptions=True)
        assert monotonic() - started < LIMIT
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert await pool.value("ping") == 1


async def test_deadline_covers_a_whole_transaction(pool: Database, database: str) -> None:
    async def endless() -> None:
        async with pool.transaction() as statements:
            while True:
                await statements.value("ping")

    async def answers() -> bool:
        try:
            await store.ping()
        except StoreUnavailable:
            return False
        return True

    async def is_away() -> bool:
        return not await answers()

    await until(is_away, 5)  # the backends of a killed postmaster outlive it for a moment
    await until(answers, 5)
    await store.create_user("ada", None, None, PASSWORD_HASH)
    await store.close()


async def test_every_method_says_unavailable_when_nothing_listens(tmp_path: object, keyring: Keyring) -> None:
    store = Store.over(f"postgresql://nobody@/none?host={tmp_path}", keyring)
    for attempt in (
        store.ping(),
        store.user("ada"),
        store.client("c1"),
        store.access_token(keyring.new_token("gwa_")),
        store.revoke_token(keyring.new_token("gwr_"), None),
        store.spend_nonces([(b"k" * 16, store.now())]),
        store.sweep(),
    ):
        with pytest.raises(StoreUnavailable):
            await attempt
    assert await store.access_token("gwa_invented") is None
