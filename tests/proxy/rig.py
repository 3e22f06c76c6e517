"""A proxy between raw sockets: what the client got and what reached the upstream, byte for byte.

The upstream is judged by h11, an independent reader: whatever the gateway forwards must mean the same to it.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11

from gateway.config import Settings, compile_routes, parse
from gateway.crypto import Keyring
from gateway.guard import Guard
from gateway.proxy import Handover, Limits, Proxy
from gateway.refusals import RefusedVisit
from gateway.store import Store
from tests.streams import Handler, accepting

KEYRING = Keyring(b"obviously-a-fake-key-for-tests!!")
DEADLINE = 30.0  # below what a gateway's own limits are where a test does not shorten them


@dataclass
class Received:
    """One request as the upstream's h11 read it."""

    method: str
    target: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = False

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.fields if given == name.lower()]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value


@dataclass
class RawUpstream:
    """A server that reads each request with h11, records it, and answers as told."""

    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    handler: Handler | None = None
    path: str | None = None
    tls: ssl.SSLContext | None = None
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    ended: int = 0
    raw: bytearray = field(default_factory=bytearray)
    faults: list[str] = field(default_factory=list)
    port: int = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["RawUpstream"]:
        async with accepting(self._connected, path=self.path, tls=self.tls) as self.port:
            yield self

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await (self.handler or self._serve)(reader, writer)
        finally:
            self.ended += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.read_request(reader)
        writer.write(self.answer)
        await writer.drain()

    async def read_request(self, reader: asyncio.StreamReader) -> Received:
        """Read one request; it is in `requests` from its head on, `complete` at its end."""
        parser = h11.Connection(h11.SERVER)
        request: Received | None = None
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as fault:
                self.faults.append(str(fault))
                raise ConnectionError(str(fault)) from fault
            if event is h11.NEED_DATA:
                data = await reader.read(65536)
                self.raw += data
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                fields = [(name.decode().lower(), value.decode("latin-1")) for name, value in event.headers]
                request = Received(event.method.decode(), event.target.decode("latin-1"), fields)
                self.requests.append(request)
            elif isinstance(event, h11.Data) and request is not None:
                request.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                request.trailers = [(n.decode().lower(), v.decode("latin-1")) for n, v in event.headers]
                request.complete = True
                return request
            else:
                raise ConnectionError("the gateway went away")


@dataclass
class Reply:
    """One answer as the client's h11 read it."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    trailers: list[tuple[str, str]]
    complete: bool

    def all(self, name: str) -> list[str]:
        return [value for given, value in self.fields if given == name.lower()]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value


@dataclass
class Rig:
    """A running proxy with its upstream and its (recorded) authorization plane."""

    proxy: Proxy
    port: int
    upstream: RawUpstream
    plane: RawUpstream

    async def connect(self) -> "Connection":
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port))

    async def talk(self, data: bytes, *, bytewise: bool = False, method: str = "GET") -> Reply:
        """One request on a fresh connection, and its answer."""
        connection = await self.connect()
        try:
            await connection.send(data, bytewise=bytewise)
            return await connection.reply(method)
        finally:
            connection.close()

    async def waiting(self, data: bytes) -> "Connection":
        """A connection whose request the upstream has, which is silent."""
        asked = asyncio.Event()

        async def silent(*_: object) -> None:
            asked.set()
            await asyncio.Event().wait()

        self.upstream.handler = silent
        connection = await self.connect()
        await connection.send(data)
        await asked.wait()
        return connection

    async def left(self, data: bytes) -> bytes:
        """The identifier of a request whose client leaves while the upstream is silent."""
        connection = await self.waiting(data)
        (front,) = self.proxy.fronts
        assert front.exchange is not None
        request_id = front.exchange.request_id
        connection.writer.transport.abort()
        return request_id


class Connection:
    """A client's connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._unread = b""
        self.interim: list[int] = []

    async def send(self, data: bytes, *, bytewise: bool = False) -> None:
        try:
            if not bytewise:
                self.writer.write(data)
            else:
                for index in range(len(data)):
                    self.writer.write(data[index : index + 1])
                    await asyncio.sleep(0)
            await self.writer.drain()
        except ConnectionError:
            pass  # the gateway may have had enough already; its answer is what counts

    async def reply(self, method: str = "GET") -> Reply:
        """The next final answer; interim ones are noted in `interim`. Incomplete where the connection broke."""
        async with asyncio.timeout(DEADLINE):
            parser = h11.Connection(h11.CLIENT)
            parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
            parser.send(h11.EndOfMessage())
            if self._unread:
                parser.receive_data(self._unread)
            reply = Reply(0, [], b"", [], False)
            while True:
                try:
                    event = parser.next_event()
                except h11.RemoteProtocolError:
                    return reply
                if event is h11.NEED_DATA:
                    try:
                        data = await self.reader.read(65536)
                    except ConnectionError:
                        data = b""
                    parser.receive_data(data)
                elif isinstance(event, h11.InformationalResponse):
                    self.interim.append(event.status_code)
                elif isinstance(event, h11.Response):
                    reply.status = event.status_code
                    reply.fields = [(n.decode().lower(), v.decode("latin-1")) for n, v in event.headers]
                elif isinstance(event, h11.Data):
                    reply.body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    reply.trailers = [(n.decode().lower(), v.decode("latin-1")) for n, v in event.headers]
                    reply.complete = True
                    self._unread = parser.trailing_data[0]
                    return reply
                else:
                    return reply

    async def closed(self, within: float = DEADLINE) -> bool:
        """Whether the gateway ends the connection, with nothing more on it."""
        try:
            async with asyncio.timeout(within):
                return await self.reader.read(1) == b"" and not self._unread
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def close(self) -> None:
        self.writer.close()


async def eventually(condition: Callable[[], bool], within: float = DEADLINE) -> None:
    """Wait for a condition without sleeping longer than it takes."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def rig(
    tmp_path: Path,
    store: Store,
    *,
    routes: list[dict[str, Any]] | None = None,
    server: dict[str, Any] | None = None,
    mac: dict[str, Any] | None = None,
    upstream: RawUpstream | None = None,
    limits: Limits | None = None,
    plane_socket: str | None = None,
    issuers: list[dict[str, Any]] | None = None,
) -> AsyncIterator[Rig]:
    """A proxy over a raw upstream; without `routes`, one public route at "/"."""
    plane = RawUpstream(path=str(tmp_path / "plane.sock"))
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context((upstream or RawUpstream()).serving())
        await stack.enter_async_context(plane.serving())
        tables = {
            "server": {"public_url": "http://gateway.test", **(server or {})},
            "mac": mac or {},
            "issuers": issuers or [],
            "routes": [
                {"upstreams": [f"http://127.0.0.1:{upstream.port}"], **route}
                for route in routes or [{"name": "all", "path": "/", "auth": "none"}]
            ],
        }
        config = parse(tables)
        settings = Settings(config, tmp_path / "config.toml", None, KEYRING, ())
        proxy = Proxy(
            routes=compile_routes(config),
            config=config,
            guard=Guard(store, settings),
            authorization_socket=plane_socket or plane.path or "",
            refusal_page=_page,
            limits=limits or Limits(),
        )
        listening = await asyncio.get_running_loop().create_server(proxy.front, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        try:
            yield Rig(proxy, port, upstream, plane)
        finally:
            listening.close()
            proxy.close()
            if issuers:
                await proxy.guard.close()


class Queue:
    """The queue by which connections go to workers that follow, with nobody at its other end."""

    def __init__(self) -> None:
        give, self._take = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.handover = Handover(give, self._take)

    @property
    def is_empty(self) -> bool:
        """Whether no connection was given."""
        try:
            return not self._take.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True


@asynccontextmanager
async def queue_of_successors() -> AsyncIterator[Queue]:
    queue = Queue()
    try:
        yield queue
    finally:
        queue.handover.close()


def _page(visit: RefusedVisit) -> tuple[dict[str, str], bytes]:
    text = f"<h1>{visit.refused.status}</h1>{visit.request_id} {visit.again}"
    return {"Content-Type": "text/html; charset=utf-8"}, text.encode()
