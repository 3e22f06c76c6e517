"""A test finds its database as new, whatever another did in it before."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.crypto import Keyring
from gateway.store import Store
from tests import databases
from tests.store.rig import Rig, everything, fetch

CHANGES = (
    "create table more ()",
    "create schema more",
    "create type more as enum ('one')",
    "create function more() returns int language sql return 1",
    "create index more on users (username)",
    "create or replace function empty_nonce_slot(slot int) returns boolean language sql return true",
    "alter table users add column more int",
    "alter table users alter column email set not null",
    "alter table users drop constraint users_pkey cascade",
    "alter table users disable trigger users_emptied",
    "alter table users set (fillfactor = 50)",
    "alter table users enable row level security",
    "alter table users rename to people",
    "alter table changes alter column at set default 'yesterday'",
    "drop view living_sessions",
    "drop table nonces_3",
    "drop index grants_subject",
    "grant select on users to public",
    "grant select (username) on users to public",
    "revoke execute on function empty_nonce_slot from public",
    "grant create on schema public to public",
    "do $$ begin execute format('alter database %I set work_mem = ''1MB''', current_database()); end $$",
    "do $$ begin execute format('grant create on database %I to public', current_database()); end $$",
    "do $$ begin execute format('alter database %I with connection limit 7', current_database()); end $$",
    "alter default privileges grant select on tables to public",
    "analyze",
)


@pytest.fixture(autouse=True)
async def none_was_used(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(databases, "_free", {})
    yield
    await databases.disconnect()


async def state(dsn: str) -> tuple[object, ...]:
    """Every row, where the sequences stand, and what the program looks at besides: how large the slots are."""
    sequences = await fetch(dsn, "select sequencename, last_value from pg_sequences order by 1")
    slots = await fetch(
        dsn, "select relname, pg_relation_size(oid) from pg_class where relispartition and relkind = 'r' order by 1"
    )
    return await everything(dsn), [*map(tuple, sequences)], [*map(tuple, slots)]


async def test_used_database_is_as_new(server: str, template: str, keyring: Keyring) -> None:
    async with databases.cloned(server, template) as dsn:
        new = await state(dsn)
        store = await Store.open(dsn, keyring, size=4, name="gateway-test")
        rig = await Rig.build(store)
        assert await rig.lives(await rig.tokens())
        await store.close()
        await fetch(dsn, "insert into nonces select n % 32, int8send(n) from generate_series(1, 3000) as n")
        await fetch(dsn, "insert into changes (kind, key) select 'user', '' from generate_series(1, 3000)")
        await fetch(dsn, "update nonce_floor set floor = 8642")
        assert await state(dsn) != new
        left_open = await asyncpg.connect(dsn)
        await left_open.execute("begin; lock table users")
    async with databases.cloned(server, template) as again:
        assert again == dsn
        assert await state(again) == new
    await left_open.close()


async def test_two_at_a_time_are_two(server: str, template: str) -> None:
    async with databases.cloned(server, template) as one, databases.cloned(server, template) as other:
        assert one != other


async def test_database_in_which_more_was_changed_than_rows_is_dropped(server: str, template: str) -> None:
    async with databases.cloned(server, template) as changed:
        await fetch(changed, CHANGES[0])
    async with databases.cloned(server, template) as another:
        assert another != changed
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(changed)


async def test_every_kind_of_change_is_noticed(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        before, unnoticed = await connection.fetchval(databases.FINGERPRINT), []
        await connection.execute("truncate nonces_0, users cascade")  # as the program itself does
        assert await connection.fetchval(databases.FINGERPRINT) == before
        for change in CHANGES:
            await connection.execute(f"begin; {change}")
            if await connection.fetchval(databases.FINGERPRINT) == before:
                unnoticed.append(change)
            await connection.execute("rollback")
        assert unnoticed == []
    finally:
        await connection.close()
