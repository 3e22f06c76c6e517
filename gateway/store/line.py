"""One connection for one statement at a time, which is asked so often that lending it each time would cost too much.

    idle ──value──▶ in flight ──answer──▶ idle
                        └──error, cancelled, or the deadline──▶ terminated; the next statement opens another

The same rules as for `Database`, to which it leaves what comes while its own statement is in flight. One timer watches
over all statements: it runs on while they follow each other, and each of them costs nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from gateway.errors import StoreUnavailable
from gateway.store import poolers, queries
from gateway.store.database import DEADLINE, IDLE_LIMIT, Connection, Database, Statements, answering, no_answer
from gateway.store.outages import is_outage

_NEVER: Final = float("inf")
_SELDOM: Final = 2
MOST: Final = 2 + _SELDOM  # connections of `Lines`


class Line:
    """A connection of its own, opened when it is needed, beside the `others`."""

    def __init__(self, connect_one: Callable[[], Awaitable[Connection]], others: Database) -> None:
        self._connect = connect_one
        self._others = others
        self._open: _Open | None = None
        self._used_at = -_NEVER
        self._ends_at = _NEVER  # the deadline of the statement in flight
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False

    async def value(self, name: str, /, **parameters: object) -> Any:
        """The first column of one statement that is a transaction by itself. Raises StoreUnavailable on an outage."""
        if self._ends_at < _NEVER:
            return await self._others.value(name, **parameters)
        now = asyncio.get_running_loop().time()
        self._ends_at = now + DEADLINE
        try:
            found = self._open
            if found is None or found.connection.is_closed() or now - self._used_at > IDLE_LIMIT:
                found = await self._opened()
            if self._watch is None:
                self._look()
            answer = await found.value(queries.load()[name], parameters)
        except BaseException as exc:
            self._terminate()
            if isinstance(exc, Exception) and is_outage(exc):
                raise no_answer(exc) from exc
            raise
        finally:
            self._ends_at = _NEVER
        self._used_at = now
        return answer

    async def close(self) -> None:
        """End the connection: politely if it is idle, else at once."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._open is not None and self._ends_at == _NEVER:
            await asyncio.gather(self._open.connection.close(timeout=1), return_exceptions=True)
        self._terminate()

    async def _opened(self) -> "_Open":
        self._terminate()
        async with answering(DEADLINE):
            connection = await self._connect()
        self._open = _Open(connection)
        if self._closed:
            raise StoreUnavailable("the store is closed")
        return self._open

    def _terminate(self) -> None:
        found, self._open = self._open, None
        if found is not None:
            found.connection.terminate()

    def _look(self) -> None:
        """End what is beyond its deadline; look again when what is in flight, if anything, will be."""
        self._watch = None
        if self._ends_at == _NEVER:
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._ends_at:
            self._watch = loop.call_at(self._ends_at, self._look)
        elif self._open is not None:
            self._open.connection.terminate()


class _Open:
    """A connection, and the statements that were asked on it before, prepared. A pooler may forget them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}
        self._statements = Statements(connection)

    async def value(self, query: queries.Query, parameters: Mapping[str, object]) -> Any:
        """The first column of the first row of a statement's answer, or None."""
        if poolers.is_pooled(self.connection):
            return await self._statements.value(query.name, **parameters)
        prepared = self.prepared.get(query.name)
        if prepared is None:
            prepared = self.prepared[query.name] = await self.connection.prepare(query.sql)
        return await prepared.fetchval(*query.arguments(parameters))


class Lines:
    """What nonces are spent on: a line for those with a timestamp, one for those of a token, and what is seldom."""

    def __init__(self, connect_one: Callable[[], Awaitable[Connection]]) -> None:
        self.seldom = Database(connect_one, _SELDOM)
        self.timed = Line(connect_one, self.seldom)
        self.lasting = Line(connect_one, self.seldom)

    async def close(self) -> None:
        """End every connection."""
        await asyncio.gather(self.timed.close(), self.lasting.close(), self.seldom.close())
