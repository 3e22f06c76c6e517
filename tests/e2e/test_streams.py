"""Streams over two workers end within a second of their token's end, and no other stream does."""

import asyncio
import contextlib
import itertools
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from gateway.store import Store
from tests.counts import scaled
from tests.guard.conftest import new_client
from tests.proxy.test_websocket import HANDSHAKE
from tests.serving import PATIENCE, Gateway, crowding, serving, until
from tests.streams import accepting

ENDED = 500  # streams, beside as many that go on
LIVES = 8.0  # seconds, of tokens that expire


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """An API that speaks WebSocket and answers without an end."""

    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_str(message.data)
        return response

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: hello\n\n")
        await asyncio.Event().wait()
        return response

    app = web.Application()
    app.router.add_get("/api/socket", socket)
    app.router.add_get("/api/events", events)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


class Stream:
    """One stream of a client's own, and when and how it ended."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.began = asyncio.Event()
        self.ended_at = 0.0
        self.code: int | None = None
        self.worker = ""

    async def socket(self, session: aiohttp.ClientSession, url: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with session.ws_connect(f"{url}/api/socket", headers=headers) as ws:
            self.worker = ws._response.headers["X-Request-Id"][:16]
            await ws.send_str("hello")
            assert await ws.receive_str() == "hello"
            self.began.set()
            assert (await ws.receive()).type is WSMsgType.CLOSE
            self.ended_at, self.code = time.monotonic(), ws.close_code

    async def events(self, session: aiohttp.ClientSession, url: str) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with session.get(f"{url}/api/events", headers=headers) as answer:
            self.worker = answer.headers["X-Request-Id"][:16]
            assert await answer.content.readline() == b"data: hello\n"
            self.began.set()
            try:
                while await answer.content.readany():
                    pass
                raise AssertionError("the answer looked whole")
            except aiohttp.ClientPayloadError:
                self.ended_at = time.monotonic()


async def _figure(gateway: Gateway, name: str, labels: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name) and labels in line)


async def _open_on_both(
    stack: AsyncExitStack, gateway: Gateway, tokens: Callable[[], Awaitable[str]], count: int
) -> tuple[list[Stream], list[asyncio.Task[None]]]:
    """So many streams and some more, WebSockets and events by turns, until both workers have some."""
    session = await stack.enter_async_context(
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True), timeout=aiohttp.ClientTimeout(total=None)
        )
    )
    streams = [Stream(await tokens()) for _ in range(count)]
    tasks = list[asyncio.Task[None]]()

    async def end() -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stack.push_async_callback(end)

    async def are_spread() -> bool:
        for one in streams[len(tasks) :]:
            streaming = one.socket if len(tasks) % 2 else one.events
            tasks.append(asyncio.create_task(streaming(session, gateway.url)))
        await asyncio.gather(*(one.began.wait() for one in streams))
        if len({one.worker for one in streams}) > 1:
            return True
        streams.extend([Stream(await tokens()) for _ in range(4)])
        return False

    await until(are_spread, pause=0.0)
    return streams, tasks


@pytest.mark.parametrize("how", ["one by one", "with their client"])
async def test_streams_end_within_a_second_of_their_token_and_no_others(
    how: str, tmp_path: Path, store: Store, database: str, upstream: str
) -> None:
    """Of twice as many, every other pair: a WebSocket and an answer without an end."""
    clients = [(await store.clients.create(new_client()))[0] for _ in range(2)]
    route = {"name": "api", "path": "/api", "upstreams": [upstream], "auth": ["bearer"], "connections": 3 * ENDED}
    made = itertools.count()

    async def token() -> str:
        client = clients[next(made) // 2 % 2]
        return (await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)).access_token

    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving(tmp_path, dsn=database, routes=[route], workers=2))
        streams, tasks = await _open_on_both(stack, gateway, token, 2 * scaled(ENDED))
        ending, others = [one for n, one in enumerate(streams) if n % 4 < 2], [*streams[2::4], *streams[3::4]]
        at = dict[Stream, float]()
        if how == "one by one":
            for one in ending:
                assert await store.tokens.revoke(one.token, None)
                at[one] = time.monotonic()
        else:
            await store.clients.disable(clients[0].client_id)
            at = dict.fromkeys(ending, time.monotonic())
        await until(lambda: all(one.ended_at for one in ending), 60)
        late = max(one.ended_at - at[one] for one in ending)
        assert late < 1.0 * crowding(), f"{late:.2f} s"
        assert {one.code for n, one in enumerate(streams) if n % 4 == 1} == {1008}
        await asyncio.sleep(1.0)  # a beat more
        assert [one for one in others if one.ended_at] == []
        assert not any(task.done() for one, task in zip(streams, tasks, strict=True) if one in others)
        cause = "revoked token" if how == "one by one" else "token of a disabled client"
        await until(lambda: _counts(gateway, cause, len(ending)))


async def test_streams_end_when_their_token_expires_and_not_before(
    tmp_path: Path, store: Store, database: str, upstream: str
) -> None:
    client, _ = await store.clients.create(new_client())
    route = {"name": "api", "path": "/api", "upstreams": [upstream], "auth": ["bearer"]}
    until_when = dict[str, float]()

    async def token() -> str:
        issued = await store.tokens.issue(client.client_id, None, frozenset({"read"}), LIVES, None)
        until_when[issued.access_token] = time.monotonic() + LIVES
        return issued.access_token

    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving(tmp_path, dsn=database, routes=[route], workers=2))
        streams, _ = await _open_on_both(stack, gateway, token, 8)
        await until(lambda: all(one.ended_at for one in streams), 60)
        late = [one.ended_at - until_when[one.token] for one in streams]
        # It is told in whole seconds of the database's clock.
        assert -1.0 <= min(late) <= max(late) < 1.0 * crowding(), late
        assert {one.code for one in streams[1::2]} == {1008}
        await until(lambda: _counts(gateway, "expired token", len(streams)))


def _frame(size: int) -> bytes:
    """A frame of an upstream's."""
    return b"\x82\x7f" + size.to_bytes(8, "big") + b"x" * size


SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n"
# What an upstream begins with, and goes on with for ever.
FLOODS = {
    "websocket": (SWITCHING % b"websocket", _frame(70_000)),
    "websocket within a frame": (SWITCHING % b"websocket", _frame(3_000_000)),
    "other protocol": (SWITCHING % b"x", b"x" * 10_000),
    "answer in chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n%b\r\n" % (b"x" * 1000)),
    "answer with a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", b"x" * 10_000),
}


async def test_streams_whose_client_takes_nothing_end_as_soon(tmp_path: Path, store: Store, database: str) -> None:
    """In whatever buffer what comes is stuck: the upstream's connection ends within a second."""
    begun, ended_at = dict[str, bytes](), dict[str, float]()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        kind = [*FLOODS][int(head.split(b" ")[1].rpartition(b"/")[2])]
        begun[kind] = head
        beginning, more = FLOODS[kind]
        writer.write(beginning)

        async def on_and_on() -> None:
            while True:
                writer.write(more)
                await writer.drain()

        flooding = asyncio.create_task(on_and_on())
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                pass
        ended_at[kind] = time.monotonic()
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)

    client, _ = await store.clients.create(new_client())
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(accepting(flood))
        route = {"name": "api", "path": "/api", "upstreams": [f"http://127.0.0.1:{port}"], "auth": ["bearer"]}
        gateway = await stack.enter_async_context(serving(tmp_path, dsn=database, routes=[route], workers=2))
        tokens = dict[str, str]()
        for number, kind in enumerate(FLOODS):
            issued = await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)
            tokens[kind] = issued.access_token
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", int(gateway.url.rpartition(":")[2])))
            head = HANDSHAKE if kind.startswith("websocket") else b"GET %b HTTP/1.1\r\nHost: a\r\n"
            head += b"Upgrade: x\r\nConnection: Upgrade\r\n" if kind == "other protocol" else b""
            credential = b"Authorization: Bearer %b\r\n\r\n" % issued.access_token.encode()
            sock.sendall(head % (b"/api/%d" % number) + credential)
        await until(lambda: len(begun) == len(FLOODS))
        await asyncio.sleep(0.5)  # so that all are stuck
        assert ended_at == {}
        revoked_at = dict[str, float]()
        for kind, token in tokens.items():
            await store.tokens.revoke(token, None)
            revoked_at[kind] = time.monotonic()
        await until(lambda: len(ended_at) == len(FLOODS), 60)
        late = {kind: round(ended_at[kind] - at, 2) for kind, at in revoked_at.items()}
        assert max(late.values()) < 1.0 * crowding(), late


async def _counts(gateway: Gateway, cause: str, ended: int) -> bool:
    return await _figure(gateway, "gateway_refusals_total", f'cause="{cause}"') == ended


async def test_streams_stay_over_a_reload_for_as_long_as_their_route_says(
    tmp_path: Path, store: Store, database: str, upstream: str
) -> None:
    routes = [
        {"name": name, "path": f"/{name}", "strip_prefix": f"/{name}", "upstreams": [upstream], "auth": "none", **more}
        for name, more in (("brief", {"drain": "1s"}), ("long", {"drain": "10m"}))
    ]
    async with (
        serving(tmp_path, dsn=database, routes=routes, workers=1) as gateway,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{gateway.url}/brief/api/socket") as brief,
        session.ws_connect(f"{gateway.url}/long/api/socket") as long,
    ):
        [before] = gateway.workers
        gateway.process.send_signal(signal.SIGHUP)
        assert (await brief.receive(timeout=PATIENCE)).type is WSMsgType.CLOSE
        assert brief.close_code == 1001
        await long.send_str("still here")
        assert await long.receive_str(timeout=PATIENCE) == "still here"
        assert before in gateway.workers
        assert await gateway.status("/nowhere") == 404  # which the new ones answer
        await long.close()
        await until(lambda: before not in gateway.workers)
