"""WebSockets between a client and an upstream: what passes as it came, and how either side learns why it ends."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from gateway.config import ConfigError, parse
from gateway.proxy import Limits
from gateway.store import Store
from tests.http1.test_websocket import frame
from tests.proxy.rig import DEADLINE, Connection, RawUpstream, Rig, eventually, rig
from tests.proxy.test_endings import everything

MOST = 4096
ROUTES: list[dict[str, Any]] = [
    {"name": "all", "path": "/", "auth": "none", "websocket": {"max_message": "4KiB"}},
    {
        "name": "pages",
        "path": "/pages",
        "auth": "none",
        "websocket": {"origins": ["https://app.example.com", "http://localhost:3000"]},
    },
]
HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
HELLO = frame(0x81, b"hello")
CLOSED = {code: b"\x88\x02" + code.to_bytes(2, "big") for code in (1001, 1002, 1008, 1009, 1011)}
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Server:
    """An upstream that agrees to every handshake, and then does as told."""

    upstream: RawUpstream
    heard: bytes = b""
    ended: bool = False
    more: bytes = b""
    first: bytes = b""
    writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.upstream.raw += head
        key = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n%b\r\n%b" % (accept, self.more, self.first)
        )
        self.writer = writer
        try:
            while data := await reader.read(65536):
                self.heard += data
        finally:
            self.ended = True


@pytest.fixture
async def running(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, no_database, routes=ROUTES, limits=Limits(tick=0.02)) as made:
        yield made


@pytest.fixture
def server(running: Rig) -> Server:
    server = Server(running.upstream)
    running.upstream.handler = server.serve
    return server


async def opened(running: Rig, *fields: bytes, path: bytes = b"/") -> Connection:
    """A connection that has changed its protocol."""
    connection = await running.connect()
    await connection.send(HANDSHAKE % path + b"".join(b"%b\r\n" % field for field in fields) + b"\r\n")
    assert b" 101 " in await asyncio.wait_for(connection.reader.readuntil(b"\r\n\r\n"), DEADLINE)
    return connection


def unmasked(data: bytes) -> bytes:
    """The payload of a close frame that went up."""
    assert data[:2] == b"\x88\x82"
    return bytes(byte ^ data[2 + at % 4] for at, byte in enumerate(data[6:8]))


# -- what passes ---------------------------------------------------------------------------------------------


async def test_frames_pass_both_ways_as_they_came(running: Rig, server: Server) -> None:
    server.first = b"\x81\x02hi"
    connection = await opened(running)
    frames = frame(0x01, b"he") + frame(0x89, b"?") + frame(0x80, b"llo") + frame(0x82, bytes(MOST))
    await connection.send(frames, bytewise=True)
    await eventually(lambda: server.heard == frames)
    assert server.writer is not None
    server.writer.write(b"\x8a\x01?" + b"\x88\x05\x03\xe8bye")
    assert await connection.reader.readexactly(4 + 3 + 7) == b"\x81\x02hi\x8a\x01?\x88\x05\x03\xe8bye"
    closing = frame(0x88, b"\x03\xe8bye")
    await connection.send(closing)
    await eventually(lambda: server.heard == frames + closing)
    connection.close()
    await eventually(lambda: server.ended and not running.proxy.fronts)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def test_clients_and_servers_of_others_talk_through_it(tmp_path: Path, no_database: Store) -> None:
    # Subprotocol, compression, fragments, ping and close codes, as aiohttp has them at both ends.
    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("chat.v2",), compress=True)
        await socket.prepare(request)
        async for message in socket:
            if message.data == "bye":
                await socket.close(code=4001, message=b"as you wish")
            else:
                await socket.send_str(message.data.upper())
        return socket

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    routes = [{**ROUTES[0], "upstreams": [f"http://127.0.0.1:{port}"]}]
    try:
        async with (
            rig(tmp_path, no_database, routes=routes) as running,
            aiohttp.ClientSession() as session,
            session.ws_connect(
                f"http://127.0.0.1:{running.port}/", protocols=("chat.v1", "chat.v2"), compress=15
            ) as ws,
        ):
            assert (ws.protocol, ws.compress) == ("chat.v2", 15)
            for text in ("hello", "x" * 3000):
                await ws.send_str(text)
                assert (await ws.receive_str()) == text.upper()
            await ws.send_str("bye")
            assert (await ws.receive()).type is WSMsgType.CLOSE
            assert ws.close_code == 4001
    finally:
        await runner.cleanup()


async def test_offers_of_other_extensions_do_not_reach_the_upstream(running: Rig, server: Server) -> None:
    connection = await opened(running, b"Sec-WebSocket-Extensions: x-webkit-deflate-frame, permessage-deflate; a=1")
    connection.close()
    lines = bytes(running.upstream.raw).split(b"\r\n")
    assert [line for line in lines if line.lower().startswith(b"sec-websocket-ext")] == [
        b"Sec-WebSocket-Extensions: permessage-deflate; a=1"
    ]


@pytest.mark.parametrize(("agreed", "passes"), [(b"permessage-deflate", True), (b"", False)])
async def test_reserved_bit_passes_where_compression_was_agreed_on(
    agreed: bytes, passes: bool, running: Rig, server: Server
) -> None:
    server.more = b"Sec-WebSocket-Extensions: %b\r\n" % agreed if agreed else b""
    connection = await opened(running, b"Sec-WebSocket-Extensions: permessage-deflate")
    await connection.send(frame(0xC1, b"x"))
    if passes:
        await eventually(lambda: server.heard == frame(0xC1, b"x"))
    else:
        assert await everything(connection) == (CLOSED[1002], False)
    connection.close()


async def test_upstream_that_agrees_to_what_was_not_offered_is_refused(running: Rig, server: Server) -> None:
    server.more = b"Sec-WebSocket-Extensions: x-other\r\n"
    reply = await running.talk(HANDSHAKE % b"/" + b"\r\n")
    assert reply.status == 502


# -- what does not -------------------------------------------------------------------------------------------

WRONG = {
    "unmasked": (frame(0x81, b"hello", mask=b""), 1002),
    "reserved bits": (frame(0xA1, b"x"), 1002),
    "a ping in fragments": (frame(0x09), 1002),
    "an opcode that is none": (frame(0x8F), 1002),
    "a close code that is none": (frame(0x88, b"\x03\xed"), 1002),
    "too long": (frame(0x82, bytes(MOST + 1)), 1009),
    "too long in fragments": (frame(0x02, bytes(MOST)) + frame(0x80, b"x"), 1009),
}


@pytest.mark.parametrize("what", WRONG)
async def test_wrong_frames_of_the_client_end_it_with_a_code_on_both_sides(
    what: str, running: Rig, server: Server
) -> None:
    data, code = WRONG[what]
    good = data[: len(frame(0x02, bytes(MOST)))] if what == "too long in fragments" else b""
    connection = await opened(running)
    await connection.send(HELLO + data + HELLO)
    assert await everything(connection) == (CLOSED[code], False)
    await eventually(lambda: server.ended)
    assert server.heard.startswith(HELLO + good)
    rest = server.heard[len(HELLO + good) :]
    assert int.from_bytes(unmasked(rest), "big") == code
    assert len(rest) == 8
    connection.close()
    await eventually(lambda: not running.proxy.fronts)


@pytest.mark.parametrize(
    ("data", "code"),
    [(HELLO, 1011), (b"\x83\x00", 1011), (b"\x82\x7e\x10\x01" + bytes(MOST + 1), 1009), (b"\x88\x02\x03\xed", 1011)],
)
async def test_wrong_frames_of_the_upstream_are_no_fault_of_the_client(
    data: bytes, code: int, running: Rig, server: Server
) -> None:
    server.first = b"\x81\x02hi" + data
    connection = await opened(running)
    assert await everything(connection) == (b"\x81\x02hi" + CLOSED[code], False)
    await eventually(lambda: server.ended)
    connection.close()


async def test_frame_that_is_on_its_way_to_the_client_ends_before_it_is_told(running: Rig, server: Server) -> None:
    server.first = b"\x82\x0a12345"
    connection = await opened(running)
    assert await connection.reader.readexactly(7) == server.first
    await connection.send(frame(0x8F))
    await eventually(lambda: server.heard[:2] == b"\x88\x82")
    assert server.writer is not None
    server.writer.write(b"67890" + b"\x81\x02no")
    assert await everything(connection) == (b"67890" + CLOSED[1002], False)
    connection.close()


async def test_frame_that_does_not_end_is_cut(running: Rig, server: Server) -> None:
    server.first = b"\x82\x0a12345"
    connection = await opened(running)
    assert await connection.reader.readexactly(7) == server.first
    await connection.send(frame(0x8F))
    assert await everything(connection) == (b"", True)
    connection.close()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"), 426),
        ((b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"X: y"), 400),
        ((b"GET", b"PUT"), 400),
    ],
)
async def test_handshake_that_is_none_does_not_reach_the_upstream(
    change: tuple[bytes, bytes], status: int, running: Rig, server: Server
) -> None:
    reply = await running.talk((HANDSHAKE % b"/" + b"\r\n").replace(*change))
    assert (reply.status, running.upstream.connections) == (status, 0)
    calls: Any = running.proxy.recall(reply.one("x-request-id"))["calls"]
    assert [step["step"] for step in calls[0]["steps"] if step["outcome"] == "refused"] == ["head"]
    if status == 426:
        assert (reply.one("upgrade"), reply.one("sec-websocket-version")) == ("websocket", "13")


@pytest.mark.parametrize(
    ("origins", "passes"),
    [
        ((b"https://app.example.com",), True),
        ((b"http://localhost:3000",), True),
        ((), True),
        ((b"https://evil.example",), False),
        ((b"https://app.example.com.evil.example",), False),
        ((b"null",), False),
        ((b"",), False),
        ((b"https://app.example.com", b"https://app.example.com"), False),
    ],
)
async def test_pages_of_other_origins_open_no_websocket(
    origins: tuple[bytes, ...], passes: bool, running: Rig, server: Server
) -> None:
    if passes:
        (await opened(running, *(b"Origin: " + one for one in origins), path=b"/pages")).close()
        return
    lines = b"".join(b"Origin: %b\r\n" % one for one in origins)
    reply = await running.talk(HANDSHAKE % b"/pages" + lines + b"\r\n")
    assert (reply.status, running.upstream.connections) == (403, 0)
    assert b"forbidden_origin" in reply.body
    plain = b"GET /pages HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n"
    running.upstream.handler = None
    assert (await running.talk(plain)).status == 200  # what is no WebSocket is another rule's


@pytest.mark.parametrize(
    ("rules", "path", "message"),
    [
        ({"origins": ["*"]}, "origins", "leave origins out"),
        ({"origins": ["null"]}, "origins[0]", "any page can have"),
        ({"origins": ["app.example.com"]}, "origins[0]", "must be an origin"),
        ({"max_message": "4 megabytes"}, "max_message", "size"),
        ({"max_messages": "4MiB"}, "max_messages", "did you mean max_message"),
    ],
)
def test_rules_that_say_nothing_are_a_fault(rules: dict[str, Any], path: str, message: str) -> None:
    route = {"name": "r", "path": "/a", "auth": "none", "upstreams": ["http://x"], "websocket": rules}
    with pytest.raises(ConfigError) as raised:
        parse({"server": {"public_url": "http://gateway.test"}, "routes": [route]})
    [fault] = raised.value.faults
    assert fault.path == f"routes[0].websocket.{path}"
    assert message in fault.message


async def test_idle_websocket_is_told_that_it_ends(tmp_path: Path, no_database: Store) -> None:
    async with rig(tmp_path, no_database, routes=ROUTES, limits=Limits(tick=0.02, stream_idle=0.3)) as running:
        server = Server(running.upstream)
        running.upstream.handler = server.serve
        connection = await opened(running)
        assert await everything(connection) == (CLOSED[1001], False)
        await eventually(lambda: server.ended)
        connection.close()
