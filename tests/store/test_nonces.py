"""The tables of nonces: each is spent once, whoever asks in whatever order, and expiry costs nobody anything."""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from gateway.errors import StoreUnavailable
from gateway.store import NonceTerms, Store
from gateway.store.database import connect
from gateway.store.nonces import MINUTE, WINDOW
from tests.counts import scaled
from tests.serving import crowding, until
from tests.store.rig import count, fetch

SLOTS = 32
LOCK = 0x6E6F6E63


def keys(number: int = 1) -> list[bytes]:
    return [os.urandom(16) for _ in range(number)]


async def begun(store: Store) -> NonceTerms:
    """Terms with room for the present."""
    await store.nonces.raise_floor(int(time.time()) - 300)
    return (await store.nonces.terms()).terms


@pytest.fixture
async def terms(store: Store) -> NonceTerms:
    return await begun(store)


@asynccontextmanager
async def session(database: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else's connection, with an open transaction that is committed at the end."""
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            yield connection
    finally:
        await connection.close()


async def is_blocked(database: str) -> bool:
    """Whether a connection waits for a lock in this database."""
    (row,) = await fetch(
        database,
        "select count(*) as n from pg_locks l join pg_stat_activity a using (pid) "
        "where a.datname = current_database() and not l.granted",
    )
    return bool(row["n"])


# -- once ----------------------------------------------------------------------------------------------------


async def test_nonce_is_spent_once(store: Store, terms: NonceTerms) -> None:
    now = int(time.time())
    one, two = keys(2)
    assert await store.nonces.spend([one], [now], terms) == ([one], True)
    assert await store.nonces.spend([one], [now], terms) == ([], True)
    assert await store.nonces.spend([two, one], [now, now], terms) == ([two], True)
    assert await store.nonces.spend([one, two], [now, now], terms) == ([], True)


async def test_all_of_a_batch_are_spent(store: Store, database: str, terms: NonceTerms) -> None:
    given, now = keys(100), int(time.time())
    assert await store.nonces.spend(given, [now - n for n in range(100)], terms) == (given, True)
    assert await count(database, "nonces") == 100


async def test_batch_with_one_that_was_spent_spends_all_others(store: Store, database: str, terms: NonceTerms) -> None:
    given, now = keys(100), int(time.time())
    seconds = [now - n for n in range(100)]
    for at in (0, 50, 99):  # wherever it stands in the batch
        first, rest = sorted(given)[at], [key for key in given if key != sorted(given)[at]]
        assert await store.nonces.spend([first], [seconds[given.index(first)]], terms) == ([first], True)
        spent, same = await store.nonces.spend(given, seconds, terms)
        assert same
        assert sorted(spent) == sorted(rest)
        assert await count(database, "nonces") == 100
        assert await store.nonces.spend(given, seconds, terms) == ([], True)
        await fetch(database, "truncate nonces")


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "undone"])
async def test_batch_waits_for_what_becomes_of_one_that_another_worker_spends(
    store: Store, database: str, terms: NonceTerms, committed: bool
) -> None:
    given, now = sorted(keys(3)), int(time.time())
    other = await asyncpg.connect(database)
    transaction = other.transaction()
    await transaction.start()
    await other.fetchval("select spend_nonces($1, $2, $3, $4)", given[1:2], [now], terms.floor, terms.timeline)
    waiting = asyncio.create_task(store.nonces.spend(given, [now] * 3, terms))
    await until(lambda: is_blocked(database))
    assert not waiting.done()
    await (transaction.commit() if committed else transaction.rollback())
    await other.close()
    spent, same = await waiting
    assert same
    assert sorted(spent) == ([given[0], given[2]] if committed else given)


async def test_nonce_of_a_token_is_spent_once(store: Store) -> None:
    later = store.now() + timedelta(minutes=2)
    one, two = keys(2)
    assert await store.nonces.spend_untimed([(one, later)]) == [one]
    assert await store.nonces.spend_untimed([(one, later), (two, later)]) == [two]
    assert await store.nonces.spend_untimed([(two, later)]) == []


@pytest.mark.long
@pytest.mark.parametrize("lasting", [False, True], ids=["timestamp", "token"])
async def test_batches_in_any_order_over_two_stores_never_deadlock_and_pass_once(
    store: Store, terms: NonceTerms, another: Callable[..., Awaitable[Store]], lasting: bool
) -> None:
    stores: tuple[Store, Store] = (await another(), await another())
    for one in stores:  # as many at once as a deadlock wants
        one._spends._slots = asyncio.Semaphore(8)
    at_once = asyncio.Semaphore(16)  # who waited for the others within the store might meet its deadline
    now, later, shuffled = int(time.time()), store.now() + timedelta(minutes=2), random.Random(4)
    for _ in range(scaled(10)):
        seconds = {key: now - n % 90 for n, key in enumerate(keys(200))}

        async def spend(number: int, seconds: dict[bytes, int] = seconds) -> list[bytes]:
            batch, spender = shuffled.sample(list(seconds), len(seconds)), stores[number % 2]
            async with at_once:
                if lasting:
                    return list(await spender.nonces.spend_untimed([(key, later) for key in batch]))
                spent, same = await spender.nonces.spend(batch, [seconds[key] for key in batch], terms)
            assert same
            return list(spent)

        passed = [key for spent in await asyncio.gather(*map(spend, range(80))) for key in spent]
        assert sorted(passed) == sorted(seconds)


async def test_nonce_is_on_the_disk_before_it_counts_whatever_the_connection_was_set_to(
    store: Store, database: str, terms: NonceTerms
) -> None:
    for statement in (
        "select spend_nonces(array[$1::bytea], array[$2::bigint], 0, '')",
        "select spend_token_nonces(array[$1::bytea], array[to_timestamp($2::bigint)])",
    ):
        connection = await asyncpg.connect(database, server_settings={"synchronous_commit": "off"})
        async with connection.transaction():
            await connection.fetchval(statement, *keys(), int(time.time()))
            assert await connection.fetchval("show synchronous_commit") == "on"  # that counts at the commit
        assert await connection.fetchval("show synchronous_commit") == "off"
        await connection.close()


async def test_nonces_have_connections_of_their_own(store: Store, database: str, terms: NonceTerms) -> None:
    await store.nonces.spend(keys(), [int(time.time())], terms)
    rows = await fetch(
        database,
        "select application_name from pg_stat_activity where datname = current_database() and query like '%nonces%' "
        "and pid <> pg_backend_pid()",
    )
    assert {row["application_name"] for row in rows} == {"gateway-nonces"}


# -- the floor -----------------------------------------------------------------------------------------------


async def test_terms_that_no_longer_hold_are_told_with_what_was_spent(store: Store, terms: NonceTerms) -> None:
    now = int(time.time())
    one, two, three = keys(3)
    assert await store.nonces.spend([one], [now], terms) == ([one], True)
    await store.nonces.raise_floor(terms.floor + 100)
    assert await store.nonces.spend([one], [now], terms) == ([], False)
    assert await store.nonces.spend([two], [now], terms) == ([two], False)
    assert await store.nonces.spend([one, three], [now, now], terms) == ([three], False)
    found = await store.nonces.terms()
    assert found.terms == NonceTerms(terms.floor + 100, terms.timeline)
    assert await store.nonces.spend([three], [now], found.terms) == ([], True)


@pytest.mark.parametrize("single", [True, False], ids=["one", "two"])
async def test_another_timeline_is_told(store: Store, database: str, terms: NonceTerms, single: bool) -> None:
    given, now = keys(1 if single else 2), int(time.time())
    await fetch(database, "update nonce_floor set timeline = '0000BEEF'")
    for known in (terms, NonceTerms(terms.floor, "0000BEEF")):
        assert (await store.nonces.spend(given, [now] * len(given), known))[1] is False
    found = await store.nonces.terms()
    assert (found.terms.timeline, found.timeline) == ("0000BEEF", terms.timeline)
    await store.nonces.raise_floor(0)
    assert (await store.nonces.terms()).terms == terms


async def test_floor_never_goes_down(store: Store, terms: NonceTerms) -> None:
    for floor in (0, terms.floor - 1, terms.floor):
        await store.nonces.raise_floor(floor)
        assert (await store.nonces.terms()).terms == terms


async def test_nonce_that_comes_while_its_slot_is_emptied_is_told_of_the_floor(
    store: Store, database: str, terms: NonceTerms
) -> None:
    second, (key,) = terms.floor + 1, keys()
    await store.nonces.spend([key], [second], terms)
    await store.nonces.raise_floor(terms.floor + 2 * MINUTE)
    async with session(database) as emptying:
        assert await emptying.fetchval("select empty_nonce_slot($1)", second // MINUTE % SLOTS)
        replay = asyncio.create_task(store.nonces.spend([key], [second], terms))
        await until(lambda: is_blocked(database))
    spent, same = await replay
    assert list(spent) == [key]  # it was forgotten
    assert not same  # so it does not count
    assert (await store.nonces.terms()).terms.floor > second


async def test_slot_into_which_somebody_writes_is_not_emptied(store: Store, database: str, terms: NonceTerms) -> None:
    second, (key,) = terms.floor + 1, keys()
    async with session(database) as writing:
        await writing.fetchval("select spend_nonces($1, $2, $3, $4)", [key], [second], terms.floor, terms.timeline)
        await store.nonces.raise_floor(terms.floor + 2 * MINUTE)
        assert await store.nonces.empty_slots() == 0
    assert await store.nonces.empty_slots() == 1
    assert await count(database, "nonces") == 0


# -- the ring ------------------------------------------------------------------------------------------------


async def filled(database: str) -> set[int]:
    rows = await fetch(database, "select distinct slot from nonces")
    return {row["slot"] for row in rows}


async def fill(database: str) -> None:
    await fetch(
        database,
        "insert into nonces select slot, decode(lpad(to_hex(slot), 32, '0'), 'hex') from generate_series(0, 31) slot "
        "on conflict do nothing",
    )


async def test_ring_has_a_slot_for_each_minute_of_the_window_and_more(database: str) -> None:
    slots = await fetch(
        database, "select inhrelid::regclass::text from pg_inherits where inhparent = 'nonces'::regclass"
    )
    assert {row["inhrelid"] for row in slots} == {f"nonces_{slot}" for slot in range(SLOTS)}
    assert WINDOW // MINUTE < SLOTS


async def test_no_slot_of_the_window_is_ever_emptied_and_all_others_are(store: Store, database: str) -> None:
    for minute, second in ((0, 0), (0, 59), (1, 0), (8, 0), (23, 59), (24, 0), (31, 59), (32, 0), (29_000_000, 30)):
        await fill(database)
        await store.nonces.raise_floor(minute * MINUTE + second)
        terms = (await store.nonces.terms()).terms
        window = {at // MINUTE % SLOTS for at in range(terms.floor, terms.ceiling)}
        assert len(window) == WINDOW // MINUTE
        for slot in window:
            (row,) = await fetch(database, "select empty_nonce_slot($1) as emptied", slot)
            assert row["emptied"] is False
        assert await store.nonces.empty_slots() == SLOTS - len(window)
        assert await filled(database) == window
        assert await store.nonces.empty_slots() == 0


async def test_slot_that_a_backup_holds_is_left_for_later_and_blocks_nobody(
    store: Store, database: str, terms: NonceTerms
) -> None:
    await fill(database)
    behind = (terms.floor // MINUTE - 1) % SLOTS
    async with session(database) as backup:
        await backup.execute("lock table nonces in access share mode")
        async with asyncio.timeout(5):
            assert await store.nonces.empty_slots() == 0
        assert not await is_blocked(database)
        given = keys()
        assert await store.nonces.spend(given, [int(time.time())], terms) == (given, True)
        await backup.execute("commit; begin")
        await backup.execute(f"lock table nonces_{behind} in access share mode")
        assert await store.nonces.empty_slots() == SLOTS - WINDOW // MINUTE - 1
    assert await store.nonces.empty_slots() == 1


async def test_slots_are_emptied_by_one_at_a_time(store: Store, database: str, terms: NonceTerms) -> None:
    await fill(database)
    async with session(database) as other:
        await other.execute("select pg_advisory_xact_lock($1)", LOCK)
        assert await store.nonces.empty_slots() == 0
        raising = asyncio.create_task(store.nonces.raise_floor(terms.floor + MINUTE))
        await until(lambda: is_blocked(database))
        assert not raising.done()
    await raising
    assert await store.nonces.empty_slots() == SLOTS - WINDOW // MINUTE


async def test_what_is_emptied_leaves_no_trace(store: Store, database: str, terms: NonceTerms) -> None:
    async def size() -> int:
        (row,) = await fetch(
            database,
            "select sum(pg_total_relation_size(inhrelid))::bigint as n from pg_inherits "
            "where inhparent = 'nonces'::regclass",
        )
        return int(row["n"])

    before, now = await size(), int(time.time())
    await store.nonces.spend(keys(5000), [now - n % 200 for n in range(5000)], terms)
    assert await size() > before + 400_000
    await store.nonces.raise_floor(now + 3 * MINUTE)
    assert await store.nonces.empty_slots() in (4, 5)
    assert await size() == before


# -- sweeping ------------------------------------------------------------------------------------------------


async def test_nonces_of_ended_tokens_are_swept(store: Store, database: str, clock: Any) -> None:
    later = store.now() + timedelta(seconds=40)
    await store.nonces.spend_untimed([(key, later) for key in keys(5)])
    assert await store.upkeep.sweep() == 0
    clock.advance(50)
    assert await store.upkeep.sweep() == 0  # this worker's clock is ahead: others still accept what it takes for ended
    await fetch(database, "update token_nonces set expires_at = expires_at - interval '3 minutes'")
    assert await store.upkeep.sweep() == 5
    assert await count(database, "token_nonces") == 0


async def test_blocked_spend_ends_at_the_deadline_with_its_connection(
    store: Store, database: str, terms: NonceTerms
) -> None:
    other = await connect(database, "gateway-test-other")
    async with other.transaction():
        await other.execute("lock table nonces in access exclusive mode")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await store.nonces.spend(keys(), [int(time.time())], terms)
        assert time.monotonic() - started < 2.5 * crowding()
    await other.close()
    given = keys()
    assert await store.nonces.spend(given, [int(time.time())], terms) == (given, True)
