"""The schema's history: numbered SQL files, applied forward only, each exactly once.

Every file of `sql/migrations/` is one transaction, taken under an advisory lock, so that processes that start at once
apply it once. The database remembers the checksum of each; a file that was changed or lost afterwards stops the
start, since nobody could say any more what the schema is.

A file that says `-- gateway: no transaction` holds one statement that Postgres runs outside of a transaction only
(CREATE INDEX CONCURRENTLY). It may run twice when the process dies at the wrong moment: write it so that it can.
"""

import asyncio
import hashlib
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache
from typing import Final

import asyncpg
from msgspec import Struct

from gateway.faults import OperatorError
from gateway.resources import folder
from gateway.store.database import Statements, cannot_reach, connect
from gateway.store.outages import is_outage
from gateway.store.pool import Connection

OLDEST_SERVER: Final = 15
_FILE: Final = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_MADE: Final = re.compile(
    r"^[ \t]*create (?:or replace )?(?:unlogged )?(?:table|view|function)(?: if not exists)? (\w+)", re.MULTILINE
)
_CONCURRENTLY: Final = re.compile(r"\bconcurrently\b", re.IGNORECASE)
_NO_TRANSACTION: Final = "-- gateway: no transaction"
LOCK: Final = 0x67617465  # the advisory lock's key: "gate"
_LOCK_TIMEOUT: Final = "5s"
_ATTEMPTS: Final = 6
_PAUSE: Final = 1.0
_STATEMENT_TIMEOUT: Final = 3600.0

_TABLE: Final = """
create table if not exists schema_migrations (
    name text primary key,
    checksum text not null,
    applied_at timestamptz not null default clock_timestamp()
)"""


class Migration(Struct, frozen=True):
    """One file: `0002_users` and its text."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, whatever the line ends of the checkout."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()

    @property
    def transactional(self) -> bool:
        return _NO_TRANSACTION not in self.sql.splitlines()


@cache
def migrations() -> tuple[Migration, ...]:
    """The migrations of this version, in order."""
    found = []
    for file in sorted((folder("sql") / "migrations").glob("*.sql")):
        if _FILE.fullmatch(file.name) is None:
            raise OperatorError(f"{file}: a migration is named NNNN_what_it_does.sql")
        found.append(Migration(file.stem, file.read_text(encoding="utf-8")))
    numbers = [migration.name[:4] for migration in found]
    if len(set(numbers)) < len(numbers):
        raise OperatorError(f"sql/migrations: two files have the same number among {', '.join(numbers)}")
    return tuple(found)


@cache
def made() -> list[str]:
    """The names of what the migrations make, but for partitions."""
    return ["schema_migrations", *(name for migration in migrations() for name in _MADE.findall(migration.sql))]


def unreleased(known: tuple[Migration, ...], applied: Collection[str]) -> bool:
    """Whether what was applied is of a version from before 0.1.0: its first migration had another name."""
    return bool(known and applied) and known[0].name not in applied


def pending(known: tuple[Migration, ...], applied: Mapping[str, str]) -> list[Migration]:
    """The migrations that are yet to be applied, given the checksums of those that were.

    Raises OperatorError when the history is not the beginning of what this version knows.
    """
    if unreleased(known, applied):
        raise OperatorError(
            "database.url: the database was made by an unreleased version, from before 0.1.0, which this one cannot "
            "continue; nothing in it was changed; make a new database, or name another database.data_dir for an "
            "embedded one"
        )
    by_name = {migration.name: migration for migration in known}
    newest = known[-1].name if known else ""
    for name, checksum in sorted(applied.items()):
        if name not in by_name and name > newest:
            raise OperatorError(
                f"database.url: the database is newer than this version: {name} was applied to it; install the version "
                "that applied it, or a later one"
            )
        if name not in by_name:
            raise OperatorError(f"sql/migrations: {name}.sql was applied to this database but is missing; restore it")
        if by_name[name].checksum != checksum:
            raise OperatorError(
                f"sql/migrations: {name}.sql was changed after it had been applied; restore the file, and make the "
                "change in a new one"
            )
    left = [migration for migration in known if migration.name not in applied]
    if left and applied and left[0].name < max(applied):
        raise OperatorError(f"sql/migrations: {left[0].name}.sql comes before {max(applied)}, which is applied already")
    return left


async def migrate(dsn: str) -> list[str]:
    """Apply what is missing; the names of what this call applied. Raises OperatorError."""
    applied: list[str] = []
    connection = await _open(dsn)
    try:
        while (name := await _apply_next(connection, dsn)) is not None:
            applied.append(name)
    except asyncpg.InsufficientPrivilegeError as exc:
        raise OperatorError(
            f"database.url: this role may not change the schema ({exc.args[0]}); run `gateway migrate` as the owner of "
            "the tables, or for the first time of the database (docs/database.md)"
        ) from exc
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        if is_outage(exc):
            raise cannot_reach(dsn, exc) from exc
        raise OperatorError(f"database.url: the migration failed: {exc.args[0]}") from exc
    finally:
        connection.terminate()
    return applied


async def status(dsn: str) -> list[tuple[str, datetime | None]]:
    """Every migration of this version, and when it was applied. Raises OperatorError."""
    connection = await _open(dsn)
    try:
        async with connection.transaction():
            if not await _has_table(connection):
                return [(migration.name, None) for migration in migrations()]
            rows = await connection.fetch("select name, checksum, applied_at from schema_migrations")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        raise cannot_reach(dsn, exc) from exc
    finally:
        connection.terminate()
    pending(migrations(), {row["name"]: row["checksum"] for row in rows})
    times = {row["name"]: row["applied_at"] for row in rows}
    return [(migration.name, times.get(migration.name)) for migration in migrations()]


async def begin_within(connection: Connection, names: Collection[str]) -> None:
    """In the open transaction, make the schema as those of the migrations that are named make it.

    The history of it is for the caller to write.
    """
    await connection.execute(_TABLE)
    for migration in migrations():
        if migration.name in names:
            await _apply_within(connection, migration)


async def continue_within(connection: Connection) -> None:
    """In the open transaction, apply what the history says is missing. Raises OperatorError."""
    for migration in pending(migrations(), await _applied(connection)):
        await _apply_within(connection, migration)
        await _record(connection, migration)


async def history(connection: Connection) -> Mapping[str, str]:
    """The checksums of what was applied, by name; none where there is no schema. Raises OperatorError.

    A history that this version does not know is a fault; one that is not complete is none.
    """
    applied = await _applied(connection) if await _has_table(connection) else {}
    pending(migrations(), applied)
    return applied


async def require_current(connection: Connection) -> None:
    """Pass only when the schema is exactly the one that this version knows. Raises OperatorError."""
    async with connection.transaction():
        if not await _has_table(connection):
            mend = "run `gateway migrate` as the owner of its tables"
            raise OperatorError(f"database.url: the database is not migrated; {mend}")
        applied = await _applied(connection)
    left = pending(migrations(), applied)
    if left:
        raise OperatorError(
            f"database.url: the database is older than this version: {left[0].name} is not applied; run "
            "`gateway migrate` as the owner of its tables"
        )


def require_server(connection: Connection) -> None:
    """Pass only on a server that the schema can live on. Raises OperatorError."""
    major = connection.get_server_version().major
    if major < OLDEST_SERVER:
        raise OperatorError(f"database.url: PostgreSQL {major} is too old; {OLDEST_SERVER} or newer is needed")
    encoding = getattr(connection.get_settings(), "server_encoding", "UTF8")
    if encoding != "UTF8":
        raise OperatorError(f"database.url: the database's encoding is {encoding}; create it with encoding UTF8")


async def _open(dsn: str) -> Connection:
    try:
        connection = await connect(dsn, "gateway-migrate", statement_timeout=_STATEMENT_TIMEOUT)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError) as exc:
        raise cannot_reach(dsn, exc) from exc
    try:
        require_server(connection)
    except OperatorError:
        connection.terminate()
        raise
    return connection


async def _apply_next(connection: Connection, dsn: str) -> str | None:
    """Apply the first pending migration; its name, or None when nothing is left."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with connection.transaction():
                await connection.execute(f"set local statement_timeout = '{_STATEMENT_TIMEOUT:.0f}s'")
                await connection.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
                await connection.execute("set local idle_in_transaction_session_timeout = 0")
                await Statements(connection).value("schema_lock", lock=LOCK)
                if not await _has_table(connection):
                    await connection.execute(_TABLE)
                left = pending(migrations(), await _applied(connection))
                if not left:
                    return None
                await _apply(connection, left[0], dsn)
                return left[0].name
        except asyncpg.LockNotAvailableError as exc:
            if attempt == _ATTEMPTS:
                raise OperatorError(
                    "database.url: something holds a lock that the migration needs; nothing was changed; end the long "
                    "transactions on it (see pg_stat_activity) and run it again"
                ) from exc
            await asyncio.sleep(_PAUSE)
    raise AssertionError("the last attempt returns or raises")


async def _apply(connection: Connection, migration: Migration, dsn: str) -> None:
    if migration.transactional:
        await connection.execute(migration.sql)
    else:
        # The lock stays with the first connection, whose open transaction holds no snapshot that this could wait for.
        other = await connect(dsn, "gateway-migrate", statement_timeout=_STATEMENT_TIMEOUT, lock_timeout=_LOCK_TIMEOUT)
        try:
            await other.execute(migration.sql)
        finally:
            other.terminate()
    await _record(connection, migration)


async def _apply_within(connection: Connection, migration: Migration) -> None:
    """A table that nobody else sees yet needs no index that is made concurrently, which no transaction can."""
    await connection.execute(migration.sql if migration.transactional else _CONCURRENTLY.sub("", migration.sql))


async def _record(connection: Connection, migration: Migration) -> None:
    await Statements(connection).value("migration_note", name=migration.name, checksum=migration.checksum)


async def _has_table(connection: Connection) -> bool:
    return await connection.fetchval("select to_regclass('schema_migrations') is not null") is True


async def _applied(connection: Connection) -> dict[str, str]:
    return {row["name"]: row["checksum"] for row in await connection.fetch("select * from schema_migrations")}
