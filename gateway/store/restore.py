"""A backup brought back, in one transaction: who uses the database sees it as it was, or as it is restored.

    what is there is locked, kept in a file as it was last, and moved aside into a schema of its own
    the tables are made anew as the backup's release made them, loaded, and migrated to this release
    what must not come back is ended (`gateway.store.revival`), and what was moved aside is dropped

So a process that is killed, a disk that is full, or a row that does not fit leaves everything as it was; and the
database may serve meanwhile. Its calls wait for the locks; where that takes longer than 2 s, they are answered 503.

Afterwards no worker relies on what it held: the change log goes on with a gap and an entry for everything. The nonces'
floor is past every timestamp that could have been accepted before, so that nothing that was signed passes twice.
"""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import asyncpg
from msgspec import Struct

from gateway.crypto import Keyring
from gateway.faults import FaultyConfiguration, OperatorError
from gateway.store import backup as backups
from gateway.store import migrations, revival
from gateway.store.acting import Recorder
from gateway.store.backup import Backup, Manifest, Table
from gateway.store.database import Row, Statements
from gateway.store.pool import Connection
from gateway.store.revival import Fate, Revival

ASIDE: Final = "gateway_replaced"  # exists within the transaction alone
_LOCK_TIMEOUT: Final = "5s"
_ATTEMPTS: Final = 6
_PAUSE: Final = 0.5

_LAYOUTS: Final = "insert into nonce_layouts select * from gateway_replaced.nonce_layouts"
_NAME: Final = "update nonce_database set name = (select name from gateway_replaced.nonce_database)"


class Order(Struct, frozen=True, kw_only=True):
    """What the operator decided."""

    fate: Fate | None = None  # None: carry over, where the replaced database can tell
    keep: Path | None = None  # where the replaced database is written to, as it was last
    discard: bool = False  # it need not be kept
    stood_still: bool = False  # nothing happened since the backup, by other proof than the operator's word


class Report(Struct, frozen=True, kw_only=True):
    """What was restored, and what that means for who held something of it."""

    backup: Manifest
    at: datetime
    floor: datetime  # what was signed before is refused
    fate: Fate
    carried_over: bool  # whether the replaced database told what was ended since the backup
    kept: Path | None
    revival: Revival


class _Target(Struct, frozen=True):
    """The database as it is found."""

    schema: str
    exists: bool
    holds: int  # people and clients
    lineage: str
    read_up_to: int  # the end of the change log
    floor: int
    grants: Sequence[str]


async def restore(dsn: str, backup: Backup, order: Order, *, keyring: Keyring, skew: float) -> Report:
    """Put the backup in the place of what the database holds. `skew` is `mac.skew`, in seconds.

    Raises OperatorError; then nothing has changed.
    """
    async with backups.opened(dsn, "gateway-restore") as connection:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with connection.transaction():
                    return await _restore(connection, backup, order, keyring, skew)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as exc:
                if attempt == _ATTEMPTS:
                    raise OperatorError(
                        "database.url: something holds a lock on the tables; nothing was changed; end the long "
                        "transactions on them, such as a backup (see pg_stat_activity), and run it again"
                    ) from exc
            await asyncio.sleep(_PAUSE)
    raise AssertionError("the last attempt returns or raises")


def require_key(backup: Backup, keyring: Keyring | None) -> None:
    """Pass if the backup's sealed keys and keyed checks can be read. Raises FaultyConfiguration."""
    needed = backup.manifest.master_key
    if needed is None or (keyring is not None and bytes.fromhex(needed) in keyring.key_ids):
        return
    found = "there is none" if keyring is None else f"it is {keyring.key_id.hex()}"
    raise FaultyConfiguration(
        f"keys.master: the backup was written with the master key {needed}, and {found}; put the file of that key in "
        "its place, or list it under keys.previous; nothing was restored"
    )


async def _restore(connection: Connection, backup: Backup, order: Order, keyring: Keyring, skew: float) -> Report:
    await connection.execute(backups.SPELLING)
    await connection.execute(f"set local lock_timeout = '{_LOCK_TIMEOUT}'")
    await Statements(connection).value("schema_lock", lock=migrations.LOCK)
    target = await _target(connection)
    same = target.lineage == backup.manifest.lineage
    fate = _fate(backup, order, target, same=same)
    keeping = nullcontext(None) if order.keep is None else backups.new_file(order.keep)
    with keeping as kept:  # it has its name before the transaction is committed
        if kept is not None:
            await backups.write(connection, kept)
        if target.exists:
            await _move_aside(connection, target)
        if same:
            await revival.look_at_replaced(connection, ASIDE, target.schema)
        await _load(connection, backup)
        async with _without_triggers(connection, await _tables(connection)):  # the change log says it once for all
            revived = await revival.keep_ended(
                connection, fate, ASIDE if same else None, nonces_known=order.stood_still
            )
        for grant in target.grants:
            await connection.execute(grant)
        floor = await _begin_anew(connection, target, skew)
        if target.exists:
            await _drop_aside(connection)
        at = await connection.fetchval("select clock_timestamp()")
        await _record(connection, backup.manifest, fate, Recorder(keyring))
    return Report(
        backup=backup.manifest, at=at, floor=floor, fate=fate, carried_over=same, kept=order.keep, revival=revived
    )


# -- what is there -----------------------------------------------------------------------------------------------


async def _target(connection: Connection) -> _Target:
    """What is there, locked until the end."""
    statements = Statements(connection)
    found = await statements.row("schema_owner")
    if found is None:
        return _Target(await connection.fetchval("select quote_ident(current_schema())"), False, 0, "", 0, 0, ())
    applied = await migrations.history(connection)
    if len(applied) < len(migrations.migrations()):
        raise OperatorError(
            "database.url: the database that is to be replaced is older than this version; run `gateway migrate` first"
        )
    await connection.execute(f"set local role {found['owner']}")  # whose the new tables are to be
    await connection.execute(f"set local search_path to {found['schema']}")
    await _require_schemas(connection)
    ours = await _objects(connection, found["schema"])
    tables = ", ".join(row["name"] for row in ours if row["kind"] == "table")
    await connection.execute(f"lock table {tables} in access exclusive mode")
    grants = await statements.rows("schema_grants", schema=found["schema"], names=migrations.made())
    return _Target(
        found["schema"],
        True,
        await connection.fetchval("select (select count(*) from users) + (select count(*) from clients)"),
        await backups.lineage(connection),
        await connection.fetchval("select max(id) from changes") or 0,
        await connection.fetchval("select floor from nonce_floor"),
        [row[0] for row in grants],
    )


async def _objects(connection: Connection, schema: str) -> Sequence[Row]:
    """Our views, tables and functions in a schema, each by its `kind` and `name`."""
    return await Statements(connection).rows("schema_objects", schema=schema, names=migrations.made())


async def _require_schemas(connection: Connection) -> None:
    """Pass if the owner of the tables may make a schema. Raises OperatorError."""
    row = await Statements(connection).row("schema_may_be_made")
    if row is not None and not row["may"]:
        raise OperatorError(
            f"database.url: the owner of the tables, {row['role']}, may not make a schema, which a restore needs "
            "on its way; nothing was changed; as the owner of the database run:",
            statements=(f"GRANT CREATE ON DATABASE {row['database']} TO {row['role']};",),
        )


def _fate(backup: Backup, order: Order, target: _Target, *, same: bool) -> Fate:
    """What becomes of tokens and sessions, where the operator's order settles that. Raises OperatorError."""
    if target.holds and order.keep is None and not order.discard:
        raise OperatorError(
            f"database.url: the database holds {target.holds} people and clients, which the backup would replace; "
            "--keep OLD.backup writes them to a file first, --discard does without; nothing was changed"
        )
    if order.fate is not None:
        return order.fate
    if same:
        return Fate.CARRY_OVER
    age = datetime.now(UTC) - backup.manifest.at
    raise backup.fault(
        f"is from {backup.manifest.at:%Y-%m-%d %H:%M:%S}Z ({_age(age.total_seconds())} ago), and no database is here "
        "that knows what was revoked since: that would live again; --end-all ends all tokens and sessions in it, "
        "--trust keeps them, as after a move; nothing was changed"
    )


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


# -- its place ---------------------------------------------------------------------------------------------------


async def _move_aside(connection: Connection, target: _Target) -> None:
    """Nothing is copied by that. The ring of nonces goes at once, since nothing in it can be accepted any more."""
    await connection.execute(f"create schema {ASIDE}")
    await connection.execute("drop table nonces")
    for row in await _objects(connection, target.schema):
        await connection.execute(f"alter {row['kind']} {row['name']} set schema {ASIDE}")


async def _drop_aside(connection: Connection) -> None:
    """What somebody else built upon our tables keeps them from going, and is named."""
    ours = await _objects(connection, ASIDE)
    try:
        for kind in ("view", "table", "function"):
            names = ", ".join(f"{ASIDE}.{row['name']}" for row in ours if row["kind"] == kind)
            await connection.execute(f"drop {kind} {names}")
        await connection.execute(f"drop schema {ASIDE}")
    except asyncpg.DependentObjectsStillExistError as exc:
        detail = " ".join(str(exc.detail or exc.args[0]).split())
        raise OperatorError(
            f"database.url: something that is not Gateway's rests on its tables ({detail.replace(f'{ASIDE}.', '')}); "
            "nothing was changed; drop it, and make it again afterwards"
        ) from exc


async def _load(connection: Connection, backup: Backup) -> None:
    """The schema of the backup's release, its rows, and the migrations since."""
    manifest = backup.manifest
    await migrations.begin_within(connection, manifest.migrations)
    tables = await _in_order(connection, backup)
    names = [table.name for table in tables]
    async with _without_triggers(connection, names):  # they were at work when the rows were first written
        await connection.execute(f"truncate {', '.join(names)} cascade")  # what a migration put there is in the backup
        for table in tables:
            await _load_table(connection, backup, table)
    await migrations.continue_within(connection)
    await connection.execute(f"analyze {', '.join(names)}")


async def _load_table(connection: Connection, backup: Backup, table: Table) -> None:
    try:
        status = await connection.copy_to_table(
            table.name, source=backup.rows(table), columns=table.columns, timeout=backups.PATIENCE
        )
    except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as exc:
        raise backup.fault(
            f"the rows of {table.name} do not fit the database: {exc.args[0]}; nothing was changed"
        ) from exc
    if backups.copied(status) != table.rows:
        raise backup.fault(f"the rows of {table.name} are not complete; nothing was changed")


@asynccontextmanager
async def _without_triggers(connection: Connection, tables: Sequence[str]) -> AsyncIterator[None]:
    """A time in which our triggers are not called; the checks of references are."""
    for table in tables:
        await connection.execute(f"alter table {table} disable trigger user")
    yield
    for table in tables:
        await connection.execute(f"alter table {table} enable trigger user")


async def _tables(connection: Connection) -> list[str]:
    """Our tables, but for the ring of nonces."""
    ours = await _objects(connection, await connection.fetchval("select current_schema()"))
    return [row["name"] for row in ours if row["kind"] == "table" and row["name"] != "nonces"]


async def _in_order(connection: Connection, backup: Backup) -> list[Table]:
    """The backup's tables, each after those that it refers to. Raises OperatorError where one is none of ours."""
    left = {table.name: table for table in backup.manifest.tables}
    known, statements = set(migrations.made()) - backups.LEFT_OUT, Statements(connection)
    for table in left.values():
        columns = [] if table.name not in known else await statements.rows("table_columns", name=table.name)
        if {row[0] for row in columns} != set(table.columns):
            raise backup.fault(f"the table {table.name} in it is not Gateway's; nothing was changed")
    references = [(row["name"], row["to"]) for row in await statements.rows("schema_references")]
    ordered: list[Table] = []
    while left:
        ready = [name for name in left if not any(one == name and to in left for one, to in references)]
        ordered += [left.pop(name) for name in ready]
    return ordered


# -- the beginning of another life -------------------------------------------------------------------------------


async def _begin_anew(connection: Connection, target: _Target, skew: float) -> datetime:
    """Let nothing count that workers hold, and nothing that was signed; the moment from which signatures do.

    A timestamp may be ahead by `skew` and be accepted: so much later than now is the first that nobody can have spent.
    """
    now = max(time.time(), await connection.fetchval("select extract(epoch from clock_timestamp())::float8"))
    statements = Statements(connection)
    floor = await statements.value("nonce_floor_raise", floor=math.floor(now + skew) + 1, before=target.floor)
    if target.exists:  # workers go on to spend nonces by what the layouts have been
        await connection.execute(_LAYOUTS)
        await connection.execute(_NAME)
    await connection.execute("delete from changes")
    await statements.value("changes_skip", id=target.read_up_to)
    await _number_on(connection)
    await connection.execute("select pg_notify('gateway_changes', '')")
    return datetime.fromtimestamp(floor, UTC)


async def _number_on(connection: Connection) -> None:
    """Let each identity column go on after what was loaded into it."""
    for row in await Statements(connection).rows("schema_identities"):
        await connection.execute(
            f"select setval(pg_get_serial_sequence('{row['name']}', '{row['column']}'), max({row['column']})) "  # noqa: S608
            f"from {row['name']} having max({row['column']}) is not null"
        )


async def _record(connection: Connection, manifest: Manifest, fate: Fate, recorder: Recorder) -> None:
    detail = {"backup": manifest.at.isoformat(timespec="seconds"), "tokens": fate.value}
    await Statements(connection, recorder).value("restore_record", detail=json.dumps(detail))
