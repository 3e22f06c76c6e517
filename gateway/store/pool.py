"""Connections to Postgres, lent for one deadline at a time.

    idle ──lend──▶ lent ──done──▶ idle
                    └──anything went wrong, or the deadline──▶ terminated

A connection on which anything went wrong is never used again: not after an error, whose transaction would have to be
rolled back, nor after the deadline, since a graceful release waits for the server to confirm a cancellation, and a
hung server confirms nothing. The server gives up on its own (`statement_timeout`), so that no lock outlives its user.
The next one who asks opens a new connection, which is all the recovery that there is.

One timer watches over all connections that are lent, so that a statement on an idle one costs no timer of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from types import TracebackType
from typing import Final, TypeAlias

import asyncpg

from gateway.errors import StoreUnavailable
from gateway.figures import DATABASE_FAILURES, DATABASE_SECONDS
from gateway.store.outages import is_outage, outage_of

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

DEADLINE: Final = 2.0  # seconds, for acquiring a connection, all statements on it and giving it back
IDLE_LIMIT: Final = 60.0  # a connection silent for longer may have been dropped on the way


@asynccontextmanager
async def answering(deadline: float) -> AsyncIterator[None]:
    """Work on a connection, for `deadline` seconds at most. Raises StoreUnavailable on an outage."""
    try:
        async with asyncio.timeout(deadline):
            yield
    except Exception as exc:
        if is_outage(exc):
            raise _no_answer(exc) from exc
        raise


def _no_answer(exc: Exception) -> StoreUnavailable:
    """The error that an outage is raised as: with the database's own reason, and the mend."""
    DATABASE_FAILURES.add(1.0)
    reason, mend = outage_of(exc)
    return StoreUnavailable(f"the database gave no answer: {reason}; {mend}")


class Pool:
    """A bounded set of connections, opened when they are needed."""

    def __init__(self, connect_one: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect_one
        self._slots = asyncio.Semaphore(size)
        self._idle: list[tuple[Connection, float]] = []  # the last one used goes first
        self._lent: dict[Connection, float] = {}  # until when
        self._watch: asyncio.TimerHandle | None = None
        self._watch_at = 0.0  # by the loop; uvloop's timer does not tell when it is due at once
        self._closed = False
        self.waiting = 0  # who cannot be lent one yet

    @property
    def lent(self) -> int:
        """How many connections are in use now."""
        return len(self._lent)

    @property
    def idle(self) -> int:
        """How many connections wait for their next use."""
        return len(self._idle)

    def lend(self, deadline: float = DEADLINE) -> "Loan":
        """A connection for an `async with` of so many seconds at most. Raises StoreUnavailable on an outage."""
        return Loan(self, deadline)

    def adopt(self, connection: Connection) -> None:
        """Lend this connection, which the pool's own way of opening one has opened."""
        self._idle.append((connection, asyncio.get_running_loop().time()))

    async def take(self, deadline: float) -> Connection:
        """A connection to be given back, which ends at the deadline. Raises StoreUnavailable."""
        if self._closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + deadline
        connection = None if self._slots.locked() else self._fresh()
        if connection is None:
            async with answering(deadline):
                connection = await self._wait()
        else:
            await self._slots.acquire()  # which waits for nobody
        self._lent[connection] = ends_at
        self._look_at(ends_at)
        return connection

    def give_back(self, connection: Connection, *, sound: bool) -> bool:
        """Have it lent again if all went well, or terminate it; whether that was before the deadline."""
        now = asyncio.get_running_loop().time()
        in_time = now < self._lent.pop(connection)
        self._slots.release()
        if sound and not (self._closed or connection.is_closed() or connection.is_in_transaction()):
            self._idle.append((connection, now))
        else:
            connection.terminate()
        return in_time

    def renew(self) -> None:
        """End the idle connections: who asks next gets one to the server that is the primary now."""
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.terminate()

    async def close(self) -> None:
        """End every connection: the idle ones politely, the lent ones at once."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        for lent in list(self._lent):
            lent.terminate()
        idle, self._idle = [connection for connection, _ in self._idle], []
        await asyncio.gather(*(connection.close(timeout=1) for connection in idle), return_exceptions=True)

    async def _wait(self) -> Connection:
        """A connection as soon as one more may be lent."""
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        try:
            return self._fresh() or await self._opened()
        except BaseException:
            self._slots.release()
            raise

    def _fresh(self) -> "Connection | None":
        """An idle connection that is likely to be good."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.is_closed() and now - since < IDLE_LIMIT:
                return connection
            connection.terminate()
        return None

    async def _opened(self) -> Connection:
        connection = await self._connect()
        if self._closed:
            connection.terminate()
            raise _closed()
        return connection

    def _look_at(self, when: float) -> None:
        """Look then for what is beyond its deadline, unless that is going to happen earlier."""
        if self._watch is not None:
            if self._watch_at <= when:
                return
            self._watch.cancel()
        self._watch, self._watch_at = asyncio.get_running_loop().call_at(when, self._look), when

    def _look(self) -> None:
        """End what is beyond its deadline; look again when what is left will be, if anything is."""
        self._watch = None
        now = asyncio.get_running_loop().time()
        for connection, ends_at in self._lent.items():
            if ends_at <= now:
                connection.terminate()
        left = min((ends_at for ends_at in self._lent.values() if ends_at > now), default=None)
        if left is not None:
            self._look_at(left)


class Loan:
    """One use of a connection. What fails in it by an outage, or by its deadline, raises StoreUnavailable."""

    __slots__ = ("_began", "_connection", "_deadline", "_pool")

    def __init__(self, pool: Pool, deadline: float) -> None:
        self._pool, self._deadline = pool, deadline

    async def __aenter__(self) -> Connection:
        self._began = monotonic()
        self._connection = await self._pool.take(self._deadline)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        # On a connection that ends just then, asyncpg looks for a part of itself that is gone.
        ended = isinstance(exc, AttributeError) and self._connection.is_closed()
        in_time = self._pool.give_back(self._connection, sound=exc is None)
        DATABASE_SECONDS.observe(monotonic() - self._began)
        if isinstance(exc, Exception) and (ended or is_outage(exc)):
            cause = exc if in_time else TimeoutError()
            raise _no_answer(cause) from cause


def _closed() -> StoreUnavailable:
    return StoreUnavailable("the store is closed")
