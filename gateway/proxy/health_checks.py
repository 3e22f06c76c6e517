"""Health checks: each worker asks an upstream time and again, on a connection of its own, and hears of the answer."""

import asyncio
from collections.abc import Callable
from random import random
from typing import Final

from gateway import __version__
from gateway.faults import OperatorError
from gateway.http1 import End, Malformed, ResponseHead
from gateway.proxy.upstream import Pool, UpstreamConnection
from gateway.routing import HealthCheck
from gateway.routing.health import WELL

_MOST: Final = 64 * 1024  # bytes of an answer that are read
_SPREAD: Final = 0.1  # of the interval, so that workers do not all ask at once

Heard = Callable[[str], None]
"""Hears of each check: nothing where the upstream is well, else what is wrong with it."""


class Checks:
    """The checks of one upstream, from now on until they are ended."""

    def __init__(self, pool: Pool, check: HealthCheck, host: bytes, heard: Heard) -> None:
        self._pool, self._check, self._heard = pool, check, heard
        self._request = b"GET %b HTTP/1.1\r\nHost: %b\r\nUser-Agent: gateway-health/%b\r\nConnection: close\r\n\r\n" % (
            check.path,
            host,
            __version__.encode(),
        )
        self._task = asyncio.get_running_loop().create_task(self._go_on())

    def end(self) -> None:
        """Ask no more."""
        self._task.cancel()

    async def _go_on(self) -> None:
        await asyncio.sleep(_SPREAD * random())  # noqa: S311  # no secret
        while True:
            self._heard(await self._fault())
            await asyncio.sleep(self._check.interval * (1.0 - _SPREAD * random()))  # noqa: S311  # no secret

    async def _fault(self) -> str:
        """What is wrong with the upstream, as far as one check can tell; nothing where it is well."""
        question = _Question()
        try:
            async with asyncio.timeout(self._check.timeout):
                connection = await self._pool.open_apart()
                try:
                    question.ask(connection, self._request)
                    await question.over
                finally:
                    connection.close()
        except TimeoutError:
            if not question.status:
                return f"gave no answer in {self._check.timeout:g}s"
        except (OSError, OperatorError) as exc:
            return str(exc)
        return "" if question.status in WELL else f"answered {question.status}"


class _Question:
    """One question, and the `status` of its answer, which is read to its end so that it ends well on the other side."""

    def __init__(self) -> None:
        self.status = 0  # until there is one
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection: UpstreamConnection | None = None
        self._read = 0

    def ask(self, connection: UpstreamConnection, request: bytes) -> None:
        self._connection = connection
        connection.ask(self, b"GET", None, request)
        if connection.closed:
            self.upstream_closed()

    def upstream_received(self, data: bytes) -> None:
        connection = self._connection
        if connection is None or self.over.done():
            return
        self._read += len(data)
        connection.reader.receive(data)
        try:
            while not self.over.done() and (event := connection.reader.next_event()) is not None:
                if isinstance(event, ResponseHead) and event.status >= 200:
                    self.status = event.status
                elif isinstance(event, End) or (self.status and self._read > _MOST):
                    self.over.set_result(None)
        except Malformed as malformed:
            self.over.set_exception(OSError(f"its answer is malformed: {malformed.description}"))

    def upstream_closed(self) -> None:
        if self.over.done():
            return
        if self.status:
            self.over.set_result(None)
        else:
            self.over.set_exception(OSError("it ended the connection without an answer"))

    def upstream_writable(self, writable: bool) -> None:
        """The question is small."""
