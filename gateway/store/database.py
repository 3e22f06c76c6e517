"""A database: where it is, its named statements, and its transactions."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from gateway.faults import OperatorError
from gateway.store import poolers, queries
from gateway.store.acting import Recorder
from gateway.store.outages import outage_of
from gateway.store.pool import DEADLINE, Connection, Pool

Row: TypeAlias = asyncpg.Record
_Answer = TypeVar("_Answer")

ACT_DEADLINE: Final = 30.0  # an operator's act or the sweep, which may touch many rows
_CONNECT_TIMEOUT: Final = 5.0

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")


class Server:
    """A database server by its address, which opens connections and remembers whether a pooler stands in between
    (`gateway.store.poolers`)."""

    def __init__(self, dsn: str, *, standby: bool = False) -> None:
        """`standby` says to look for a standby, where several hosts are named."""
        self.dsn = dsn
        self._standby = standby
        self._way = poolers.Way(dsn)

    async def connect(self, name: str, *, statement_timeout: float = DEADLINE, **settings: str) -> Connection:
        """A new connection to the primary (or to a standby, where one is wanted), with `name` as its application_name
        and other `settings` of the server.

        A pooler in between may keep the settings from the server.
        """
        return await self._way.open_connection(
            {
                "application_name": name,
                "statement_timeout": f"{statement_timeout:.0f}s",
                "idle_in_transaction_session_timeout": poolers.IDLE_IN_TRANSACTION,
                "synchronous_commit": "on",  # a spent nonce or code stays spent after a crash
                "default_transaction_isolation": "read committed",  # what is read behind a lock must be new
                "jit": "off",  # short statements only
                # Planning a statement takes longer than it runs, and a join with an array would be planned every time.
                "plan_cache_mode": "force_generic_plan",
                **settings,
            },
            timeout=_CONNECT_TIMEOUT,
            target_session_attrs=self._wanted(),
        )

    def _wanted(self) -> asyncpg.connect_utils.SessionAttribute | None:
        """What a server must be; None where the address says it."""
        if self._standby:  # any other is found out by what it answers
            return asyncpg.connect_utils.SessionAttribute.prefer_standby
        return None if "target_session_attrs" in self.dsn else asyncpg.connect_utils.SessionAttribute.primary


async def connect(dsn: str, name: str, *, statement_timeout: float = DEADLINE, **settings: str) -> Connection:
    """A single connection: see `Server.connect`."""
    return await Server(dsn).connect(name, statement_timeout=statement_timeout, **settings)


def place(dsn: str) -> str:
    """Where a DSN leads, without the user and password in it.

    A password with unescaped marks, or without its `@`, makes half of it look like a host: then nothing is shown.
    """
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "the server"
    hosts = parts.netloc.rpartition("@")[2]
    if "@" in parts.path + parts.query + parts.fragment or not all(map(_HOST.fullmatch, hosts.split(","))):
        return "the server"
    return hosts or parse_qs(parts.query).get("host", ["the local server"])[0]


def cannot_reach(dsn: str, exc: BaseException) -> OperatorError:
    """The one line for an operator whose database did not answer at the start."""
    where = place(dsn)
    if isinstance(exc, ValueError):  # asyncpg's own words may quote the password
        return OperatorError(
            f"database.url: the address of {where} cannot be read; write it as postgresql://USER:PASSWORD@HOST:PORT/"
            "DATABASE with special characters percent-encoded"
        )
    reason, mend = outage_of(exc)
    return OperatorError(f"database.url: {where} cannot be used: {reason}; {mend}")


class Statements:
    """The named statements, on one connection, each with its parameters as keywords.

    Those that write an event get from the recorder what it is written with. Raises TypeError for a parameter that is
    missing or unknown.
    """

    def __init__(self, connection: Connection, recorder: Recorder | None = None) -> None:
        self._connection, self._recorder = connection, recorder

    async def row(self, name: str, /, **parameters: object) -> Row | None:
        """The first row, or None."""
        return await self._ask(self._connection.fetchrow, name, parameters)

    async def rows(self, name: str, /, **parameters: object) -> list[Row]:
        """All rows."""
        return await self._ask(self._connection.fetch, name, parameters)

    async def value(self, name: str, /, **parameters: object) -> Any:
        """The first column of the first row, or None."""
        return await self._ask(self._connection.fetchval, name, parameters)

    async def _ask(self, fetch: Callable[..., Awaitable[_Answer]], name: str, given: dict[str, object]) -> _Answer:
        query = queries.load()[name]
        if query.records and self._recorder is not None:
            given.update(self._recorder.parameters())
        arguments = query.arguments(given)
        if poolers.is_forgetful(self._connection) and not self._connection.is_in_transaction():
            async with self._connection.transaction():
                return await fetch(query.sql, *arguments)
        return await fetch(query.sql, *arguments)


class Database(Pool):
    """A pool to whose connections the named statements are put. Every method raises StoreUnavailable on an outage."""

    def __init__(
        self, connect_one: Callable[[], Awaitable[Connection]], size: int, recorder: Recorder | None = None
    ) -> None:
        super().__init__(connect_one, size)
        self._recorder = recorder

    async def row(self, name: str, /, **parameters: object) -> Row | None:
        """The first row of one statement that is a transaction by itself."""
        async with self.lend() as connection:
            return await Statements(connection, self._recorder).row(name, **parameters)

    async def rows(self, name: str, /, **parameters: object) -> list[Row]:
        """All rows of one statement that is a transaction by itself."""
        async with self.lend() as connection:
            return await Statements(connection, self._recorder).rows(name, **parameters)

    async def value(self, name: str, /, **parameters: object) -> Any:
        """The first column of one statement that is a transaction by itself."""
        async with self.lend() as connection:
            return await Statements(connection, self._recorder).value(name, **parameters)

    @asynccontextmanager
    async def transaction(self, deadline: float = DEADLINE) -> AsyncIterator[Statements]:
        """Statements that are written together or not at all; an exception inside undoes them."""
        async with self.lend(deadline) as connection:
            other = deadline > DEADLINE or poolers.is_pooled(connection)
            await connection.execute(poolers.beginning(connection, deadline if other else None))
            yield Statements(connection, self._recorder)
            await connection.execute("commit")
