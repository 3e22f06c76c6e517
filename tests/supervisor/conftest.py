"""An upstream that holds its answers until the test lets them go."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest
from aiohttp import web


class SlowUpstream:
    """Answers `/slow` when `release` is set, everything else at once; `waiting` counts by worker."""

    def __init__(self) -> None:
        self.url = ""
        self.release = asyncio.Event()
        self.waiting: Counter[str] = Counter()

    def more_than(self, count: int) -> bool:
        """Whether more than `count` requests wait."""
        return self.waiting.total() > count

    def route(self) -> dict[str, object]:
        return {"name": "slow", "path": "/", "upstreams": [self.url], "auth": "none", "timeout": "60s"}

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/slow":
            worker = worker_of(request.headers["X-Request-Id"])
            self.waiting[worker] += 1
            try:
                await self.release.wait()
            finally:
                self.waiting[worker] -= 1
        await request.read()  # who answers before the request is up may end the connection
        return web.Response(text="whole answer")


def worker_of(request_id: str) -> str:
    """What tells the worker apart that gave a request its id."""
    return request_id[:16]


def is_gone(process: psutil.Process) -> bool:
    """Whether it has ended, waited for or not."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@asynccontextmanager
async def slow_upstream() -> AsyncIterator[SlowUpstream]:
    """One that answers for as long as the context lasts."""
    slow = SlowUpstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", slow.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    slow.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield slow
    finally:
        slow.release.set()
        await runner.cleanup()


@pytest.fixture
async def upstream() -> AsyncIterator[SlowUpstream]:
    async with slow_upstream() as slow:
        yield slow
