"""Connections to Postgres, lent for one deadline at a time.

    idle ──lend──▶ lent ──done──▶ idle
                    └──anything went wrong──▶ terminated

A connection on which anything went wrong is never used again: not after an error, whose transaction would have to be
rolled back, nor after the deadline, since a graceful release waits for the server to confirm a cancellation, and a
hung server confirms nothing. The server gives up on its own (`statement_timeout`), so that no lock outlives its user.
The next one who asks opens a new connection, which is all the recovery that there is.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from gateway.errors import OperatorError, StoreUnavailable
from gateway.store import poolers, queries
from gateway.store.outages import is_outage, why

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Row: TypeAlias = asyncpg.Record
_Answer = TypeVar("_Answer")

DEADLINE: Final = 2.0  # seconds, for acquiring a connection, all statements on it and giving it back
ACT_DEADLINE: Final = 30.0  # an operator's act or the sweep, which may touch many rows
_CONNECT_TIMEOUT: Final = 5.0
IDLE_LIMIT: Final = 60.0  # a connection silent for longer may have been dropped on the way

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?")


@asynccontextmanager
async def answering(deadline: float) -> AsyncIterator[None]:
    """Work on a connection, for `deadline` seconds at most. Raises StoreUnavailable on an outage."""
    try:
        async with asyncio.timeout(deadline):
            yield
    except Exception as exc:
        if is_outage(exc):
            raise no_answer(exc) from exc
        raise


def no_answer(exc: Exception) -> StoreUnavailable:
    """What an outage is told as: with the database's own reason, and the mend."""
    reason, mend = why(exc)
    return StoreUnavailable(f"the database gave no answer: {reason}; {mend}")


async def connect(dsn: str, name: str, *, statement_timeout: float = DEADLINE, **settings: str) -> Connection:
    """A new connection to the primary, with `name` as its application_name and other `settings` of the server.

    A pooler in between may keep the settings from the server (`gateway.store.poolers`).
    """
    return await poolers.open_connection(
        dsn,
        {
            "application_name": name,
            "statement_timeout": f"{statement_timeout:.0f}s",
            "idle_in_transaction_session_timeout": poolers.IDLE_IN_TRANSACTION,
            "synchronous_commit": "on",  # a spent nonce or code stays spent after a crash
            "default_transaction_isolation": "read committed",  # what is read behind a lock must be new
            "jit": "off",  # short statements only
            **settings,
        },
        timeout=_CONNECT_TIMEOUT,
        target_session_attrs=None if "target_session_attrs" in dsn else asyncpg.connect_utils.SessionAttribute.primary,
    )


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
    reason, mend = why(exc)
    return OperatorError(f"database.url: {where} cannot be used: {reason}; {mend}")


class Statements:
    """The named statements, on one connection, each with its parameters as keywords.

    Raises TypeError for a parameter that is missing or unknown.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

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
        arguments = query.arguments(given)
        if poolers.is_forgetful(self._connection) and not self._connection.is_in_transaction():
            async with self._connection.transaction():
                return await fetch(query.sql, *arguments)
        return await fetch(query.sql, *arguments)


class Database:
    """A bounded set of connections to one database. Every method raises StoreUnavailable on an outage."""

    def __init__(self, connect_one: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect_one
        self._slots = asyncio.Semaphore(size)
        self._idle: list[tuple[Connection, float]] = []  # the last one used goes first
        self._lent: set[Connection] = set()
        self._closed = False

    async def row(self, name: str, /, **parameters: object) -> Row | None:
        """The first row of one statement that is a transaction by itself."""
        async with self._lend(DEADLINE) as connection:
            return await Statements(connection).row(name, **parameters)

    async def rows(self, name: str, /, **parameters: object) -> list[Row]:
        """All rows of one statement that is a transaction by itself."""
        async with self._lend(DEADLINE) as connection:
            return await Statements(connection).rows(name, **parameters)

    async def value(self, name: str, /, **parameters: object) -> Any:
        """The first column of one statement that is a transaction by itself."""
        async with self._lend(DEADLINE) as connection:
            return await Statements(connection).value(name, **parameters)

    @asynccontextmanager
    async def transaction(self, deadline: float = DEADLINE) -> AsyncIterator[Statements]:
        """Statements that are written together or not at all; an exception inside undoes them."""
        async with self._lend(deadline) as connection:
            other = deadline > DEADLINE or poolers.is_pooled(connection)
            await connection.execute(poolers.beginning(connection, deadline if other else None))
            yield Statements(connection)
            await connection.execute("commit")

    def renew(self) -> None:
        """End the idle connections: who asks next gets one to the server that is the primary now."""
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.terminate()

    async def close(self) -> None:
        """End every connection: the idle ones politely, the lent ones at once."""
        self._closed = True
        for lent in list(self._lent):
            lent.terminate()
        idle, self._idle = [connection for connection, _ in self._idle], []
        await asyncio.gather(*(connection.close(timeout=1) for connection in idle), return_exceptions=True)

    @asynccontextmanager
    async def _lend(self, deadline: float) -> AsyncIterator[Connection]:
        async with answering(deadline), self._slots:
            connection = await self._take()
            self._lent.add(connection)
            try:
                yield connection
            except BaseException:
                connection.terminate()
                raise
            finally:
                self._lent.discard(connection)
            self._give_back(connection)

    async def _take(self) -> Connection:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.is_closed() and now - since < IDLE_LIMIT:
                return connection
            connection.terminate()
        return await self._connect()

    def _give_back(self, connection: Connection) -> None:
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append((connection, asyncio.get_running_loop().time()))
