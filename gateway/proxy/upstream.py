"""Connections to upstreams: a fresh one for each exchange."""

import asyncio
import ssl
from typing import Protocol, cast

from gateway.http1 import ResponseReader
from gateway.proxy.limits import Limits
from gateway.routing import Origin, Route


class Owner(Protocol):
    """Whoever a connection to an upstream works for."""

    def upstream_received(self) -> None:
        """Bytes came in and stand in the connection's reader, or in `raw` once it is a tunnel's."""

    def upstream_closed(self) -> None:
        """Nothing more will come."""

    def upstream_writable(self, writable: bool) -> None:
        """The write buffer fell below its low mark, or rose above its high one."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to an upstream. What comes is put into `reader`; once `tunnelled`, into `raw`."""

    def __init__(self, owner: Owner, reader: ResponseReader, limits: Limits) -> None:
        self.owner: Owner | None = owner
        self.reader = reader
        self.tunnelled = False
        self.raw: list[bytes] = []
        self.closed = False
        self.writable = True
        self._limits = limits
        self._transport: asyncio.Transport | None = None

    # -- the owner's side -------------------------------------------------------------------------------------

    def write(self, *parts: bytes) -> None:
        if self._transport is not None and not self.closed:
            self._transport.writelines(parts)

    def write_eof(self) -> None:
        if self._transport is not None and not self.closed and self._transport.can_write_eof():
            self._transport.write_eof()

    def pause(self) -> None:
        if self._transport is not None and not self.closed and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self.closed and not self._transport.is_reading():
            self._transport.resume_reading()

    def release(self) -> None:
        """The exchange is over, or given up: the connection ends, whatever is still on its way."""
        self.owner = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """End the connection once what was written has gone out."""
        self.owner = None
        if self._transport is not None:
            self._transport.close()

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=self._limits.buffer)
        if self.owner is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.owner is None:
            return
        if self.tunnelled:
            self.raw.append(data)
        else:
            self.reader.receive(data)
        self.owner.upstream_received()

    def eof_received(self) -> bool:
        self._end()
        return self.tunnelled  # a tunnel may go on the other way

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self.closed = True
        self._end()

    def pause_writing(self) -> None:
        self.writable = False
        if self.owner is not None:
            self.owner.upstream_writable(False)

    def resume_writing(self) -> None:
        self.writable = True
        if self.owner is not None:
            self.owner.upstream_writable(True)

    def _end(self) -> None:
        if self.owner is not None:
            self.owner.upstream_closed()


class UpstreamUnreachable(Exception):
    """No upstream of the route took a connection; `timed_out` where the last one did not answer at all."""

    def __init__(self, cause: str, timed_out: bool) -> None:
        super().__init__(cause)
        self.timed_out = timed_out


class Upstreams:
    """Where the exchanges' connections come from; a route's upstreams are taken in turn."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turns: dict[Route, int] = {}
        self._tls = ssl.create_default_context()
        self._tls.set_alpn_protocols(["http/1.1"])

    async def connect(self, route: Route, owner: Owner, reader: ResponseReader) -> UpstreamConnection:
        """A connection to the first upstream of the route that takes one. Raises UpstreamUnreachable."""
        turn = self._turns.get(route, 0)
        self._turns[route] = (turn + 1) % len(route.upstreams)
        cause, timed_out = "", False
        for step in range(len(route.upstreams)):
            origin = route.upstreams[(turn + step) % len(route.upstreams)]
            connection = UpstreamConnection(owner, reader, self._limits)
            try:
                async with asyncio.timeout(self._limits.connect):
                    await self._open(origin, connection)
            except TimeoutError:
                cause, timed_out = f"{origin.host}:{origin.port} did not take the connection", True
            except OSError as exc:  # an SSLError is one
                cause, timed_out = f"{origin.host}:{origin.port}: {exc}", False
            else:
                return connection
            connection.release()
        raise UpstreamUnreachable(cause, timed_out)

    async def _open(self, origin: Origin, connection: UpstreamConnection) -> None:
        loop = asyncio.get_running_loop()
        if origin.path is not None:
            await loop.create_unix_connection(lambda: connection, origin.path)
            return
        tls = self._tls if origin.tls else None
        name = origin.host if origin.tls else None
        await loop.create_connection(lambda: connection, origin.host, origin.port, ssl=tls, server_hostname=name)
