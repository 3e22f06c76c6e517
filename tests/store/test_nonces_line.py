"""The connection that nonces are spent on: one statement at a time, one deadline, nothing reused that went wrong."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.errors import StoreUnavailable
from gateway.store.database import DEADLINE, Connection, connect
from gateway.store.line import Line, Lines
from tests.serving import until
from tests.store.rig import fetch

NAME = "gateway-test-line"
OURS = f"application_name = '{NAME}' and datname = current_database()"


class Opened:
    """Lines on a database, and how many connections they opened."""

    def __init__(self, database: str) -> None:
        self.count = 0
        self.may_end = asyncio.Event()  # the opening of a connection
        self.may_end.set()
        self._database = database
        self.lines = Lines(self._one)

    @property
    def line(self) -> Line:
        return self.lines.timed

    async def _one(self) -> Connection:
        self.count += 1
        connection = await connect(self._database, NAME)
        await self.may_end.wait()
        return connection


@pytest.fixture
async def opened(database: str) -> AsyncIterator[Opened]:
    made = Opened(database)
    yield made
    await made.lines.close()


async def backends(database: str) -> int:
    (row,) = await fetch(database, f"select count(*) as n from pg_stat_activity where {OURS}")
    return int(row["n"])


async def test_statements_that_follow_each_other_share_a_connection(opened: Opened) -> None:
    for _ in range(5):
        assert await opened.line.value("ping") == 1
    assert opened.count == 1


async def test_statement_that_comes_meanwhile_waits_for_no_other(opened: Opened, database: str) -> None:
    assert await opened.line.value("ping") == 1
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("lock table nonce_floor in access exclusive mode")
        blocked = asyncio.create_task(opened.line.value("nonces_floor_raise", floor=1))
        await asyncio.sleep(0)
        assert await opened.line.value("ping") == 1
        assert not blocked.done()
    await other.close()
    await blocked
    assert opened.count == 2


async def test_deadline_ends_the_statement_and_its_connection(opened: Opened, database: str) -> None:
    assert await opened.line.value("ping") == 1
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("lock table nonce_floor in access exclusive mode")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await opened.line.value("nonces_floor_raise", floor=1)
        assert DEADLINE - 0.1 < time.monotonic() - started < DEADLINE + 0.5
    await other.close()
    assert await opened.line.value("ping") == 1
    assert opened.count == 2


async def test_deadline_counts_from_the_statement_not_from_those_before_it(opened: Opened) -> None:
    started = time.monotonic()
    while time.monotonic() - started < DEADLINE + 0.3:
        assert await opened.line.value("ping") == 1
        await asyncio.sleep(0.01)
    assert opened.count == 1


async def test_nothing_watches_over_what_is_idle(opened: Opened) -> None:
    assert await opened.line.value("ping") == 1
    assert opened.line._watch is not None
    await until(lambda: opened.line._watch is None)


async def test_connection_on_which_a_statement_failed_is_not_used_again(opened: Opened, database: str) -> None:
    with pytest.raises(asyncpg.DataError):
        await opened.line.value("nonces_floor_raise", floor="no number")
    assert await opened.line.value("ping") == 1
    assert opened.count == 2


async def test_connection_of_who_gave_up_is_not_used_again(opened: Opened, database: str) -> None:
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("lock table nonce_floor in access exclusive mode")
        asked = asyncio.create_task(opened.line.value("nonces_floor_raise", floor=1))
        await until(lambda: opened.line._watch is not None)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert await opened.line.value("ping") == 1
    await other.close()
    assert opened.count == 2


async def test_connection_that_the_server_ended_is_replaced(opened: Opened, database: str) -> None:
    assert await opened.line.value("ping") == 1
    await fetch(database, f"select pg_terminate_backend(pid) from pg_stat_activity where {OURS}")

    async def answers() -> bool:
        try:
            return bool(await opened.line.value("ping"))
        except StoreUnavailable:
            return False

    await until(answers)
    assert opened.count == 2


async def test_closed_line_answers_nothing_and_leaves_no_connection(opened: Opened, database: str) -> None:
    assert await opened.line.value("ping") == 1
    opened.may_end.clear()
    opening = asyncio.create_task(opened.lines.lasting.value("ping"))
    await until(lambda: opened.count == 2)
    await opened.lines.close()
    opened.may_end.set()
    for attempt in (opening, opened.line.value("ping"), opened.line.value("ping")):
        with pytest.raises(StoreUnavailable):
            await attempt

    async def is_gone() -> bool:
        return await backends(database) == 0

    await until(is_gone)
