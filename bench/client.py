"""Our own load, where wrk cannot: large bodies, a steady rate, idle connections. Every answer is checked."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

_BUFFER: Final = 256 * 1024
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_PATIENCE: Final = 30.0


class Wrong(Exception):
    """An answer that is not the one that was wanted."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Bytes to send, and what must come back: a status, and `repeat` times the body `part` (None: any body)."""

    request: bytes
    status: int
    part: bytes | None
    repeat: int = 1

    @property
    def length(self) -> int:
        return len(self.part or b"") * self.repeat


class _Connection(asyncio.BufferedProtocol):
    """One keep-alive connection with one exchange at a time."""

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # the name is the protocol's
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self._take(bytes(self._view[:nbytes]))
        except Wrong as exc:
            self._fail(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(Wrong(f"connection lost: {exc}"))

    async def run(self, exchange: Exchange) -> None:
        """Send it and wait for the whole answer. Raises Wrong."""
        if self.transport.is_closing():
            raise Wrong("the connection was closed")
        self._exchange = exchange
        self._head: bytes | None = b""
        self._at = self._length = 0
        self._done = asyncio.get_running_loop().create_future()
        self.transport.write(exchange.request)
        async with asyncio.timeout(_PATIENCE):
            await self._done

    def _take(self, data: bytes) -> None:
        if self._head is not None:
            self._head, mark, data = (self._head + data).partition(b"\r\n\r\n")
            if not mark:
                return
            self._begin(self._head)
            self._head = None
        self._check(data)
        self._at += len(data)
        if self._at == self._length and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _begin(self, head: bytes) -> None:
        found = _LENGTH.search(head)
        status = int(head[9:12])
        if status != self._exchange.status or found is None:
            raise Wrong(f"{self._exchange.status} with Content-Length is wanted, not {head[:200]!r}")
        self._length = int(found[1])
        if self._exchange.part is not None and self._length != self._exchange.length:
            raise Wrong(f"{self._exchange.length} bytes are wanted, not {self._length}")

    def _check(self, data: bytes) -> None:
        part = self._exchange.part
        if self._at + len(data) > self._length:
            raise Wrong("more came than the answer's length")
        if not part or not data:
            return
        start = self._at % len(part)
        count = -(-(start + len(data)) // len(part))
        if (part * count)[start : start + len(data)] != data:
            raise Wrong("the body is another")

    def _fail(self, exc: Wrong) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc)


async def _connect(port: int) -> _Connection:
    _, protocol = await asyncio.get_running_loop().create_connection(_Connection, "127.0.0.1", port)
    return protocol


@asynccontextmanager
async def connections(port: int, count: int) -> AsyncIterator[list[_Connection]]:
    """Open connections, closed at the end."""
    opened: list[_Connection] = []
    try:
        for _ in range(count):
            opened.append(await _connect(port))  # noqa: PERF401  # those that are open must be closed
        yield opened
    finally:
        for connection in opened:
            connection.transport.abort()


async def each(port: int, exchanges: list[Exchange], count: int) -> None:
    """Every exchange once, over that many connections. Raises Wrong."""
    waiting = iter(exchanges)

    async def work(connection: _Connection) -> None:
        for exchange in waiting:
            await connection.run(exchange)

    async with connections(port, count) as opened:
        await asyncio.gather(*map(work, opened))


async def repeated(port: int, exchange: Exchange, count: int, seconds: float) -> tuple[int, float]:
    """One exchange again and again over that many connections: how often in how many seconds. Raises Wrong.

    None is begun after `seconds`; those in flight are waited for.
    """
    async with connections(port, count) as opened:
        start = time.monotonic()

        async def work(connection: _Connection) -> int:
            done = 0
            while not done or time.monotonic() - start < seconds:
                await connection.run(exchange)
                done += 1
            return done

        totals = await asyncio.gather(*map(work, opened))
        return sum(totals), time.monotonic() - start


async def paced(port: int, exchange: Exchange, count: int, rate: float, seconds: float) -> list[float]:
    """Latencies, sorted, of requests that are due at a steady rate, each from when it was due. Raises Wrong.

    One that finds no free connection waits, and its wait counts.
    """
    latencies: list[float] = []
    async with connections(port, count) as opened:
        free: asyncio.Queue[_Connection] = asyncio.Queue()
        for connection in opened:
            free.put_nowait(connection)

        async def one(due: float) -> None:
            connection = await free.get()
            await connection.run(exchange)
            latencies.append(time.monotonic() - due)
            free.put_nowait(connection)

        start = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = start + number / rate
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                group.create_task(one(due))
    return sorted(latencies)


async def idle(port: int, exchange: Exchange, count: int, look: Callable[[], int]) -> float:
    """What `look` grows by for each of `count` connections that have had one answer and wait. Raises Wrong."""
    async with connections(port, 1) as warm:
        await warm[0].run(exchange)
        before = look()
        async with connections(port, count) as opened:
            for connection in opened:
                await connection.run(exchange)
            return (look() - before) / count
