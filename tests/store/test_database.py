"""Connections: one deadline for everything, nothing reused that went wrong, recovery by itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from time import monotonic

import asyncpg
import pytest
import uvloop

from gateway.crypto import Keyring
from gateway.errors import StoreUnavailable
from gateway.store import Conflict, NonceTerms, Store
from gateway.store.database import Database, connect
from gateway.store.outages import is_outage
from gateway.store.pool import DEADLINE, Connection
from gateway.supervisor import embedded
from tests.serving import PATIENCE, crowding, holds_within, until
from tests.store.rig import PASSWORD_HASH, Rig, fetch

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

    started = monotonic()
    with pytest.raises(StoreUnavailable):
        await endless()
    assert monotonic() - started < LIMIT
    assert await pool.value("ping") == 1


async def test_exception_undoes_a_transaction_and_ends_its_connection(pool: Database, database: str) -> None:
    async def broken() -> None:
        async with pool.transaction() as statements:
            await statements.row("master_key_note", key_id=b"fake")
            raise ZeroDivisionError

    await pool.value("ping")
    before = await backends(database)
    with pytest.raises(ZeroDivisionError):
        await broken()
    assert await fetch(database, "select * from settings") == []
    await pool.value("ping")
    assert await backends(database) != before


async def test_cancelled_caller_leaves_no_connection_in_use(pool: Database, database: str) -> None:
    await asyncio.gather(pool.value("ping"), pool.value("ping"))
    with stopped(await backends(database)):
        waiting = [asyncio.create_task(pool.value("ping")) for _ in range(4)]
        await asyncio.sleep(0.01)
        for task in waiting:
            task.cancel()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert await asyncio.gather(*(pool.value("ping") for _ in range(4))) == [1] * 4


async def test_connection_on_which_a_statement_failed_is_not_used_again(pool: Database, database: str) -> None:
    await pool.value("ping")
    before = await backends(database)
    with pytest.raises(asyncpg.DataError):
        await pool.value("nonces_floor_raise", floor="no number")
    assert await pool.value("ping") == 1
    assert await backends(database) != before


async def test_statement_that_comes_meanwhile_waits_for_no_other(pool: Database, database: str) -> None:
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("lock table nonce_floor in access exclusive mode")
        blocked = asyncio.create_task(pool.value("nonces_floor_raise", floor=1))
        await asyncio.sleep(0)
        assert await pool.value("ping") == 1
        assert not blocked.done()
    await other.close()
    await blocked


async def test_deadline_counts_from_the_statement_not_from_those_before_it(pool: Database, database: str) -> None:
    await pool.value("ping")
    (only,) = await backends(database)
    started = monotonic()
    while monotonic() - started < DEADLINE + 0.3:
        assert await pool.value("ping") == 1
        await asyncio.sleep(0.01)
    assert await backends(database) == [only]


async def test_each_use_has_a_deadline_of_its_own(pool: Database, database: str) -> None:
    """Also the one of an operator's act, which is longer than those that come and go meanwhile."""
    started = monotonic()
    async with pool.transaction(30) as statements:
        with pytest.raises(StoreUnavailable):
            async with pool.lend(0.2) as connection:
                await connection.execute("select pg_sleep(30)")
        assert monotonic() - started < 0.2 + 0.5
        await until(lambda: monotonic() - started > DEADLINE + 0.1)
        assert await statements.value("ping") == 1


def test_wait_that_took_all_of_the_deadline_harms_no_other_in_the_loop_of_the_workers(database: str) -> None:
    """In uvloop a timer that is due at once is none."""

    async def used() -> None:
        pool = Database(lambda: connect(database, NAME), 1)
        try:
            for deadline in (0.0, DEADLINE):
                connection = await pool.take(DEADLINE)
                pool.give_back(connection, sound=True)
                connection = await pool.take(deadline)
                pool.give_back(connection, sound=True)
            assert await pool.value("ping") == 1
        finally:
            await pool.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(used())


async def test_nothing_watches_over_what_is_idle(database: str) -> None:
    pool = Database(lambda: connect(database, NAME), 2)
    assert await pool.value("ping") == 1
    assert pool._watch is not None
    await until(lambda: pool._watch is None)
    await pool.close()


async def test_terminated_connection_is_replaced(pool: Database, database: str) -> None:
    await pool.value("ping")
    (pid,) = await backends(database)
    await fetch(database, "select pg_terminate_backend($1, 2000)", pid)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                assert await pool.value("ping") == 1
                break
            except StoreUnavailable:  # it was noticed on the way
                continue
    assert pid not in await backends(database)


@pytest.mark.parametrize(("ends", "fault"), [(True, StoreUnavailable), (False, AttributeError)])
async def test_statement_whose_connection_ends_just_then_has_no_answer(
    ends: bool, fault: type[Exception], pool: Database
) -> None:
    """Between two of its looks at the connection, asyncpg fails with an AttributeError; others of them are ours."""

    async def asked() -> None:
        async with pool.lend() as connection:
            if ends:
                connection.terminate()
            raise AttributeError("'NoneType' object has no attribute 'bind_execute'")

    with pytest.raises(fault):
        await asked()
    await pool.value("ping")


async def test_closed_pool_refuses(pool: Database, database: str) -> None:
    await pool.value("ping")
    await pool.close()
    with pytest.raises(StoreUnavailable):
        await pool.value("ping")


async def test_connection_that_opens_while_its_pool_is_closed_is_left_to_nobody(database: str) -> None:
    opening, may_end = asyncio.Event(), asyncio.Event()

    async def slowly() -> Connection:
        connection = await connect(database, NAME)
        opening.set()
        await may_end.wait()
        return connection

    pool = Database(slowly, 2)
    asked = asyncio.create_task(pool.value("ping"))
    await opening.wait()
    await pool.close()
    may_end.set()
    with pytest.raises(StoreUnavailable):
        await asked

    async def is_gone() -> bool:
        return await backends(database) == []

    await until(is_gone)


async def test_lock_that_is_held_ends_in_unavailable_not_in_a_wait(store: Store, database: str) -> None:
    holder = await asyncpg.connect(database)
    async with holder.transaction():
        await holder.execute("lock table users in access exclusive mode")
        started = monotonic()
        with pytest.raises(StoreUnavailable):
            await store.users.find("ada")
        assert monotonic() - started < LIMIT
    await holder.close()
    assert await store.users.find("ada") is None


async def test_fault_of_the_data_is_no_outage(store: Store) -> None:
    await store.users.create("ada", None, None, PASSWORD_HASH)
    with pytest.raises(Conflict):
        await store.users.create("ADA", None, None, PASSWORD_HASH)
    assert await store.users.find("ada") is not None


# What PostgreSQL raises where a table or an index finds no room any more (class 53, insufficient resources).
NO_ROOM = """
    create function no_room() returns trigger language plpgsql as $$
    begin
        raise exception using errcode = '53100', message = 'could not extend file "base/1/2": No space left on device';
    end
    $$;
"""


async def test_full_disk_under_the_database_refuses_what_is_to_be_written_and_nothing_else(
    store: Store, database: str, rig: Rig
) -> None:
    tokens = await rig.tokens()
    server = await asyncpg.connect(database)
    await server.execute(NO_ROOM)
    written = ("access_tokens", "events", "changes", "nonces")
    for table in written:
        await server.execute(f"create trigger no_room before insert on {table} for each row execute function no_room()")
    terms = (await store.nonces.terms()).terms
    spent = ([b"k" * 16], [max(terms.floor, 1)], terms)
    for attempt in (rig.tokens(), store.tokens.revoke(tokens.access_token, None), store.nonces.spend(*spent)):
        with pytest.raises(StoreUnavailable, match=r"No space left on device; make room on the database's disk"):
            await attempt
    assert await store.access_tokens.find(tokens.access_token) is not None  # no half of the revocation
    for table in written:
        await server.execute(f"drop trigger no_room on {table}")
    await server.close()
    assert await store.nonces.spend(*spent) == (spent[0], True)  # nor was the nonce spent
    await store.tokens.revoke(tokens.access_token, None)
    assert (await rig.tokens()).access_token


@pytest.mark.parametrize(
    ("exc", "outage"),
    [
        (TimeoutError(), True),
        (ConnectionRefusedError(111, "refused"), True),
        (asyncpg.AdminShutdownError(""), True),
        (asyncpg.CannotConnectNowError(""), True),
        (asyncpg.QueryCanceledError(""), True),
        (asyncpg.TooManyConnectionsError(""), True),
        (asyncpg.DeadlockDetectedError(""), True),
        (asyncpg.LockNotAvailableError(""), True),
        (asyncpg.ReadOnlySQLTransactionError(""), True),
        (asyncpg.ConnectionDoesNotExistError(""), True),
        (asyncpg.DiskFullError(""), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.UniqueViolationError(""), False),
        (asyncpg.UndefinedTableError(""), False),
        (asyncpg.CharacterNotInRepertoireError(""), False),
        (asyncpg.exceptions._base.DataError("an argument that does not fit"), False),
        (ValueError(), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_outages_are_told_from_faults_of_ours(exc: Exception, outage: bool) -> None:
    assert is_outage(exc) is outage


async def test_store_recovers_by_itself_when_the_database_returns(
    durable_server: embedded.Server, keyring: Keyring
) -> None:
    store = await Store.open(durable_server.dsn, keyring)

    async def answers() -> bool:
        try:
            await store.ping()
        except StoreUnavailable:
            return False
        return True

    killed = durable_server.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    # The backends of a killed postmaster outlive it for a moment, and answer; how long it is away is for nobody to see.
    await until(lambda: durable_server.pid not in (None, killed))
    await holds_within(5 * crowding(), answers)
    await store.users.create("ada", None, None, PASSWORD_HASH)
    await store.close()


async def test_every_method_says_unavailable_when_nothing_listens(tmp_path: object, keyring: Keyring) -> None:
    store = Store.over(f"postgresql://nobody@/none?host={tmp_path}", keyring)
    for attempt in (
        store.ping(),
        store.users.find("ada"),
        store.clients.find("c1"),
        store.access_tokens.find(keyring.new_token("gwa_")),
        store.tokens.revoke(keyring.new_token("gwr_"), None),
        store.nonces.spend([b"k" * 16], [1], NonceTerms(0, "")),
        store.nonces.spend_untimed([(b"k" * 16, store.now())]),
        store.nonces.terms(),
        store.nonces.raise_floor(1),
        store.nonces.empty_slots(),
        store.upkeep.sweep(),
    ):
        with pytest.raises(StoreUnavailable):
            await attempt
    assert await store.access_tokens.find("gwa_invented") is None
