"""Poolers between us and the server: none, or a pooler that lends a session for one transaction at a time.

    direct       the server took the settings that a connection begins with
    Pooled       they were refused, or swallowed: each transaction brings its own
    Forgetful    what was prepared in one session is unknown in the next, too: nothing happens outside a transaction

PgBouncer keeps prepared statements from 1.21 on, where `max_prepared_statements` allows it. Notifications get lost in
any of them, which costs the followers of the change log some speed (`gateway.guard.follower`), and locks by session
are not used at all.

Whatever the way, what arrays are made of is known here and not asked for on each connection: the driver's question is
long, and where a pooler keeps `jit` from the server it is compiled there first, for seconds on a busy one. After a
failover, when all connections are new, that was most of what calls had to wait for.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import asyncpg

from gateway.faults import OperatorError
from gateway.store.hosts import Hosts

if TYPE_CHECKING:  # a class of that name takes no argument while it runs
    _Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    _Connection = asyncpg.Connection

# No round number: the probe below must not meet a server that has it of its own.
IDLE_IN_TRANSACTION: Final = "30001ms"

_TOOK_SETTINGS: Final = f"select where current_setting('idle_in_transaction_session_timeout') = '{IDLE_IN_TRANSACTION}'"
# asked in a transaction, so of one session: does it know the statement by the name that the driver gave it?
_IS_RENAMED: Final = r"select not exists (select from pg_prepared_statements where name like '\_\_asyncpg\_%')"

# What a server behind a pooler may not be set to, what it is to be set to instead, and why.
_UNFIT: Final = {
    "synchronous_commit": (("off",), "on", "what was revoked or spent could come back after a crash"),
    "default_transaction_isolation": (
        ("repeatable read", "serializable"),
        "read committed",
        "rows read under a lock could be out of date",
    ),
}


class Array(NamedTuple):
    """A type of arrays: its number, its own name, and the number and the name of what it is made of. All of these are
    the same in every server (src/include/catalog/pg_type.dat)."""

    oid: int
    name: str
    of: int
    of_name: str


ARRAYS: Final = {
    array.oid: array
    for array in (
        Array(1000, "_bool", 16, "bool"),
        Array(1001, "_bytea", 17, "bytea"),
        Array(1005, "_int2", 21, "int2"),
        Array(1007, "_int4", 23, "int4"),
        Array(1016, "_int8", 20, "int8"),
        Array(1022, "_float8", 701, "float8"),
        Array(1182, "_date", 1082, "date"),
        Array(1185, "_timestamptz", 1184, "timestamptz"),
        Array(1187, "_interval", 1186, "interval"),
        Array(2951, "_uuid", 2950, "uuid"),
        Array(3807, "_jsonb", 3802, "jsonb"),
    )
}


class _Unasked(NamedTuple):
    """In the place of the statement that asked: none was sent, so that none took another one's place."""

    name: str = "none"


class Informed(_Connection):
    """A connection that knows the types of `ARRAYS`."""

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float | None) -> tuple[Any, Any]:  # noqa: ASYNC109
        """What the driver asks of types that it does not know (asyncpg 0.32, `Connection._get_statement`)."""
        types = list(typeoids)
        if not all(oid in ARRAYS for oid in types):
            return await super()._introspect_types(types, timeout)  # type: ignore[misc,no-any-return]  # the driver's own
        return [_described(ARRAYS[oid]) for oid in types], _Unasked()


def _described(array: Array) -> dict[str, object]:
    """A type of arrays, as the driver's question is answered (`asyncpg.introspection.INTRO_LOOKUP_TYPES`)."""
    nothing = dict.fromkeys(
        ("basetype", "range_subtype", "attrtypoids", "attrnames", "basetype_name", "range_subtype_name")
    )
    own: dict[str, object] = {"oid": array.oid, "ns": "pg_catalog", "name": array.name, "kind": "b", "elemdelim": ","}
    return {**nothing, **own, "elemtype": array.of, "elemtype_name": array.of_name}


class Pooled(Informed):
    """A connection whose settings hold for one transaction only."""


class Forgetful(Pooled):
    """A pooled connection whose prepared statements hold for one transaction only, too."""


def is_pooled(connection: _Connection) -> bool:
    """Whether settings hold for one transaction only (asyncpg takes any connection for an instance of any class)."""
    return issubclass(type(connection), Pooled)


def is_forgetful(connection: _Connection) -> bool:
    """Whether prepared statements hold for one transaction only."""
    return type(connection) is Forgetful


class Way:
    """The way to one server, and what stands in it, as the first connection finds it."""

    def __init__(self, dsn: str) -> None:
        self._hosts = Hosts(dsn)
        self._kind: type[Pooled] | None = None  # while no pooler was noticed

    async def open_connection(self, settings: dict[str, str], **options: Any) -> _Connection:
        """A connection, as `asyncpg.connect` makes it, of the kind that fits what is between us and the server."""
        if self._kind is None and (direct := await self._open_direct(settings, options)) is not None:
            return direct
        options["server_settings"] = {"application_name": settings["application_name"]}
        if self._kind is None:
            self._kind = await _kind(await self._hosts.connect(**options))
        if self._kind is Forgetful:
            options["statement_cache_size"] = 0
        connection: _Connection = await self._hosts.connect(connection_class=self._kind, **options)
        return connection

    async def _open_direct(self, settings: dict[str, str], options: dict[str, Any]) -> _Connection | None:
        """A connection to a server that took the settings; None where a pooler keeps them from it."""
        try:
            connection: _Connection = await self._hosts.connect(
                connection_class=Informed, server_settings=settings, **options
            )
        except asyncpg.ProtocolViolationError:
            return None
        took = False
        try:
            took = await connection.execute(_TOOK_SETTINGS) == "SELECT 1"
        finally:
            if not took:
                connection.terminate()
        return connection if took else None


async def _kind(connection: _Connection) -> type[Pooled]:
    try:
        async with connection.transaction():
            return Pooled if await connection.fetchval(_IS_RENAMED) else Forgetful
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        return Forgetful
    finally:
        connection.terminate()


def beginning(connection: _Connection, seconds: float | None) -> str:
    """The SQL that begins a transaction of at most `seconds` a statement; None: what the connection began with."""
    parts = ["begin"]
    if seconds is not None:
        parts.append(f"set local statement_timeout = '{seconds:.0f}s'")
    if is_pooled(connection):
        parts.append(f"set local idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION}'")
    return "; ".join(parts)


async def require_settings(connection: _Connection) -> None:
    """Pass only where what is committed outlives a crash, and what is read is new. Raises OperatorError."""
    for name, (unfit, mend, otherwise) in _UNFIT.items():
        async with connection.transaction():
            found = await connection.fetchval(f"show {name}")
        if found in unfit:
            raise OperatorError(
                f"database.url: {name} is {found} there, and the pooler in between keeps us from setting it; "
                f"{otherwise}; ALTER ROLE … SET {name} = '{mend}'"
            )
