"""Workers are replaced again and again, and faulty files refused, under two hundred calls a second, of kept and new
connections, with uploads that come in parts, streams and WebSockets: none fails."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from gateway.store import Store
from tests.counts import scaled
from tests.guard.conftest import new_client
from tests.serving import PATIENCE, serving, until
from tests.supervisor.test_reload import refused

PACE = scaled(200)  # calls a second
PARTS = 8  # of an upload, and of a stream
PAUSE = 0.1  # seconds between two of them
PART = b"p" * 8000


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    """An API that is called, sent to, listened to and talked with."""

    async def call(_: web.Request) -> web.Response:
        return web.Response(text="whole")

    async def upload(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(PARTS):
            await response.write(b"data: %d\n\n" % number)
            await asyncio.sleep(PAUSE)
        return response

    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for message in response:
            await response.send_str(message.data)
        return response

    app = web.Application(client_max_size=2**20)
    app.router.add_get("/api/call", call)
    app.router.add_post("/api/upload", upload)
    app.router.add_get("/api/events", events)
    app.router.add_get("/api/socket", socket)
    runner = web.AppRunner(app, shutdown_timeout=0.1, keepalive_timeout=600.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def parts() -> AsyncIterator[bytes]:
    for _ in range(PARTS):
        yield PART
        await asyncio.sleep(PAUSE)


class Load:
    """Calls of all kinds at a steady pace, each of which has to come out whole. `done` counts those that did, by their
    kind, and `failed` says how the others did not."""

    def __init__(self, kept: aiohttp.ClientSession, fresh: aiohttp.ClientSession, url: str) -> None:
        self._kept, self._fresh, self._url = kept, fresh, url
        self.done = Counter[str]()
        self.failed: list[str] = []
        self._running = set[asyncio.Task[None]]()

    async def until(self, ends: asyncio.Event) -> None:
        """Call at the pace, and then wait for those under way."""
        kinds: list[Callable[[], Awaitable[bool]]] = [self._upload, self._events, self._socket, *[self._call] * 17]
        loop, number = asyncio.get_running_loop(), 0
        begun = loop.time()
        while not ends.is_set():
            task = loop.create_task(self._one(kinds[number % len(kinds)]))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            number += 1
            await asyncio.sleep(max(0.0, begun + number / PACE - loop.time()))
        while self._running:
            await asyncio.wait(set(self._running))

    async def _one(self, kind: Callable[[], Awaitable[bool]]) -> None:
        name = kind.__name__
        try:
            whole = await kind()
        except (aiohttp.ClientError, TimeoutError, OSError, AssertionError) as exc:
            self.failed.append(f"{name}: {exc!r}")
            return
        if whole:
            self.done[name] += 1
        else:
            self.failed.append(f"{name}: not what it should be")

    async def _call(self) -> bool:
        session = self._fresh if sum(self.done.values()) % 5 == 0 else self._kept
        async with session.get(f"{self._url}/api/call") as answer:
            return (answer.status, await answer.text()) == (200, "whole")

    async def _upload(self) -> bool:
        async with self._kept.post(f"{self._url}/api/upload", data=parts()) as answer:
            return (answer.status, await answer.text()) == (200, str(PARTS * len(PART)))

    async def _events(self) -> bool:
        async with self._kept.get(f"{self._url}/api/events") as answer:
            return (await answer.text()).count("data: ") == PARTS

    async def _socket(self) -> bool:
        async with self._kept.ws_connect(f"{self._url}/api/socket") as ws:
            for number in range(PARTS):
                await ws.send_str(f"message {number}")
                message = await ws.receive()
                if (message.type, message.data) != (WSMsgType.TEXT, f"message {number}"):
                    return False
                await asyncio.sleep(PAUSE)
        return True


@pytest.mark.long
async def test_no_call_of_two_hundred_a_second_fails_while_workers_are_replaced(
    tmp_path: Path, store: Store, database: str, upstream: str
) -> None:
    client, _ = await store.clients.create(new_client())
    issued = await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)
    route = {"name": "api", "path": "/api", "auth": ["bearer"], "upstreams": [upstream], "connections": 500}
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(serving(tmp_path, dsn=database, routes=[route], workers=2))
        connectors = (
            aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0),
            aiohttp.TCPConnector(limit=0, force_close=True),
        )
        kept, fresh = [
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=connector,
                    headers={"Authorization": f"Bearer {issued.access_token}"},
                    timeout=aiohttp.ClientTimeout(total=PATIENCE),
                )
            )
            for connector in connectors
        ]
        kept._retry_connection = False  # one that is cut shows
        load, ends = Load(kept, fresh, gateway.url), asyncio.Event()
        calling = asyncio.create_task(load.until(ends))
        good = gateway.config.read_text()
        for number in range(scaled(20)):
            gateway.config.write_text(good.replace('"auth" = ', '"auht" = '))
            assert any("auht" in fault for fault in await refused(gateway))
            gateway.config.write_text(good)
            gateway.process.send_signal(signal.SIGHUP)
            await until(lambda: len([line for line in gateway.logs if line["event"] == "reloaded"]) > number)  # noqa: B023  # it is awaited here
            served = sum(load.done.values())
            await until(lambda: sum(load.done.values()) >= served + PACE)  # noqa: B023  # likewise
        ends.set()
        await asyncio.wait_for(calling, PATIENCE)
        assert load.failed == []
        assert {"_call", "_upload", "_events", "_socket"} == set(load.done)
        assert {line["event"] for line in gateway.logs if line["level"] in ("error", "critical")} <= {
            "reload refused",
            "reload refused, the previous configuration stays in force",
        }
