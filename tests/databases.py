"""Databases for tests: clones of one template, each of which serves one test after another.

Making a clone and dropping it takes ten times the CPU of emptying one, and much of a run's. So a database whose test
has ended becomes what it was when it was new, and is used again:

  * nobody else is connected to it;
  * its tables have the template's rows, and its sequences go on from where the template's stand;
  * its catalogs say that nothing else has changed: no table, function, right or setting, and no statistics. Where they
    say otherwise it is dropped, and so is one that has been used `_MOST_USES` times.

Each process of a run has its own, and to each of them one connection of ours, which knows the catalogs already and
outlives the loops of the tests: a new one takes four times the CPU of all that it would be asked. `made` is for tests
whose matter is a new database.
"""

import asyncio
import contextlib
import itertools
import os
import threading
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import asyncpg

_MOST_USES: Final = 50  # what is deleted leaves dead rows, which nobody vacuums here
_LARGE: Final = 65536  # bytes of a table whose rows are not left dead: it is truncated, which takes longer
_PATIENCE: Final = 60.0
_numbers = itertools.count(1)
_Answer = TypeVar("_Answer")

_EMPTY: Final = f"""
do $$
declare used record;
begin
    set local session_replication_role = replica; -- no trigger notes what is removed, and rows may go in any order
    for used in select oid::regclass as name, pg_relation_size(oid) as size, relispartition from pg_class
        where relkind = 'r' and relnamespace = 'public'::regnamespace and pg_relation_size(oid) > 0
    loop
        if used.relispartition or used.size > {_LARGE} then -- whether a slot is empty is told by its size
            execute format('truncate %s cascade', used.name);
        else
            execute format('delete from %s', used.name);
        end if;
    end loop;
end
$$;
"""
# TRUNCATE, which is part of what the program does, changes only what is left out here of pg_class.
_RELATION: Final = (
    "oid, relname, relnamespace, relowner, relkind, relpersistence, relacl, reloptions, relhasindex, relhastriggers, "
    "relhasrules, relrowsecurity, relforcerowsecurity, relreplident, case when relkind = 'r' then reltuples end"
)
_CATALOGS: Final = (
    ("pg_attribute", "attrelid"),
    ("pg_constraint", "oid"),
    ("pg_default_acl", "oid"),
    ("pg_depend", "objid"),
    ("pg_event_trigger", "oid"),
    ("pg_index", "indexrelid"),
    ("pg_proc", "oid"),
    ("pg_statistic", "starelid"),
    ("pg_trigger", "oid"),
    ("pg_type", "oid"),
)
_OURS: Final = 16384  # the first number of an object that the server did not come with
_VERSION: Final = "count(*), max(catalog.xmin::text::bigint)"
FINGERPRINT: Final = f"""
select concat_ws(' ',
    {" ".join(f"(select ({_VERSION})::text from {name} as catalog where {key} >= {_OURS})," for name, key in _CATALOGS)}
    (select ({_VERSION})::text from pg_namespace as catalog),
    (select ({_VERSION})::text from pg_database as catalog where datname = current_database()),
    (select ({_VERSION})::text from pg_db_role_setting as catalog
        where setdatabase = (select oid from pg_database where datname = current_database())),
    (select md5(string_agg(({_RELATION})::text, '' order by oid)) from pg_class where oid >= {_OURS}))
"""
_END_OTHERS: Final = (
    "select count(pg_terminate_backend(pid)) from pg_stat_activity "
    "where datname = current_database() and pid <> pg_backend_pid()"
)


@dataclass
class _Database:
    """A database, and what tells how it was when it was new."""

    name: str
    connection: asyncpg.Connection  # ours, of `_loop`
    fill: str  # SQL that gives it the template's rows
    fingerprint: str
    uses: int = 0


_free: dict[str, list[_Database]] = {}  # by template
_loop: asyncio.AbstractEventLoop | None = None  # of our connections, in a thread of its own


async def _ours(doing: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Have something done on the loop of our connections."""
    global _loop  # noqa: PLW0603 -- begins with the first
    if _loop is None:
        _loop = asyncio.new_event_loop()
        threading.Thread(target=_loop.run_forever, name="databases", daemon=True).start()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(doing, _loop))


async def disconnect() -> None:
    """End our connections: before the server goes."""
    kept = [database for free in _free.values() for database in free]
    _free.clear()
    for database in kept:
        await _ours(database.connection.close())


def in_database(server: str, name: str) -> str:
    """The same server's DSN for another database."""
    return server.replace("/gateway?", f"/{name}?", 1)


@contextlib.asynccontextmanager
async def made(server: str, template: str) -> AsyncIterator[str]:
    """A new database, which is dropped at its end; gives its DSN."""
    name = await _create(server, template)
    try:
        yield in_database(server, name)
    finally:
        await _execute(server, f"drop database if exists {name} with (force)")


@contextlib.asynccontextmanager
async def cloned(server: str, template: str) -> AsyncIterator[str]:
    """A database that is as new; gives its DSN."""
    free = _free.setdefault(template, [])
    database = free.pop() if free else await _ours(_new_clone(server, template))
    try:
        yield in_database(server, database.name)
    finally:
        database.uses += 1
        if database.uses < _MOST_USES and await _ours(_is_as_new_again(database)):
            free.append(database)
        else:
            await _ours(database.connection.close())
            await _execute(server, f"drop database if exists {database.name} with (force)")


async def _create(server: str, template: str) -> str:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    await _execute(server, f"create database {name} template {template} strategy file_copy")
    return name


async def _execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def _new_clone(server: str, template: str) -> _Database:
    name = await _create(server, template)
    connection = await asyncpg.connect(in_database(server, name))
    return _Database(name, connection, await _filling(connection), await connection.fetchval(FINGERPRINT))


async def _filling(connection: asyncpg.Connection) -> str:
    """SQL that fills an emptied database with what this one holds, and sets its sequences."""
    statements = []
    tables = "select oid::regclass::text from pg_class where relkind = 'r' and pg_relation_size(oid) > 0 and oid >= $1"
    for (name,) in await connection.fetch(tables, _OURS):
        rows = await connection.fetchval(f"select quote_literal(json_agg(t)) from {name} as t")
        if rows is not None:
            statements.append(
                f"insert into {name} overriding system value "
                f"select * from json_populate_recordset(null::{name}, {rows})"
            )
    for (name,) in await connection.fetch("select oid::regclass::text from pg_class where relkind = 'S'"):
        call = f"select format('select setval(%L, %s, %L)', '{name}', last_value, is_called) from {name}"
        statements.append(await connection.fetchval(call))
    return "".join(f"{statement};\n" for statement in statements)


async def _is_as_new_again(database: _Database) -> bool:
    """Make a used database new; False where that cannot be."""
    connection = database.connection
    try:
        async with asyncio.timeout(_PATIENCE):
            while await connection.fetchval(_END_OTHERS):
                await asyncio.sleep(0.002)
        await connection.execute(_EMPTY + database.fill)
        return bool(await connection.fetchval(FINGERPRINT) == database.fingerprint)
    except (asyncpg.PostgresError, asyncpg.InterfaceError):  # tables or columns are others, or the database is gone
        return False
