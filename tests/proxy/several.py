"""Upstreams that a test starts, kills and starts again at one address, and a gateway with a route to several."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from gateway.proxy import Limits
from gateway.store import Store
from tests.proxy.rig import RawUpstream, Received, Rig, rig

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
Behaviour = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def well(server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request with the server's name, and keep the connection."""
    while True:
        await server.read(reader)
        writer.write(OK + server.name.encode())
        await writer.drain()


class Server:
    """One upstream: it keeps what it was asked, and answers with its one letter unless it is to behave otherwise."""

    def __init__(self, name: str, host: str = "127.0.0.1") -> None:
        self.name, self.host, self.port = name, host, 0
        self.behaviour: Behaviour = well
        self._raw = RawUpstream()
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def requests(self) -> list[Received]:
        """What came of requests, each from its head on."""
        return self._raw.requests

    def asked(self, method: str = "GET") -> list[str]:
        """The targets of the requests of a method, in the order in which they came."""
        return [request.target for request in self.requests if request.method == method]

    async def read(self, reader: asyncio.StreamReader) -> Received:
        return await self._raw.read_request(reader)

    async def start(self) -> None:
        """Take connections, at the address of the last time."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:  # it was killed while this one was on its way from the kernel
            writer.transport.abort()
            return
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.behaviour(self, reader, writer)
        finally:
            writer.close()

    async def kill(self) -> None:
        """End with all connections, as a process that is killed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        serving = dict(self._serving)
        for task, writer in serving.items():
            writer.transport.abort()
            task.cancel()
        if serving:
            await asyncio.wait(serving)


@asynccontextmanager
async def several(
    tmp_path: Path,
    store: Store,
    *servers: Server,
    limits: Limits | None = None,
    weights: tuple[int, ...] = (),
    running: bool = True,
    **route: Any,
) -> AsyncIterator[Rig]:
    """A gateway whose one public route leads to all of these."""
    async with AsyncExitStack() as stack:
        for server in servers:
            stack.push_async_callback(server.kill)
            await server.start()
        urls: list[Any] = [server.url for server in servers]
        if weights:
            urls = [{"url": url, "weight": weight} for url, weight in zip(urls, weights, strict=True)]
        routes = [{"name": "all", "path": "/", "auth": "none", "upstreams": urls, **route}]
        if not running:
            for server in servers:
                await server.kill()
        yield await stack.enter_async_context(rig(tmp_path, store, routes=routes, limits=limits))
