"""A bound on calls under way holds over all workers, and outlives none of them."""

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from tests.e2e.test_rates import port_of
from tests.serving import serving, until
from tests.streams import accepting

MOST, CALLS = 5, 40


async def test_bound_holds_over_two_workers_and_a_dead_one_gives_its_room_back(tmp_path: Path) -> None:
    under_way, most, go = 0, 0, asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal under_way, most
        while await reader.readuntil(b"\r\n\r\n"):
            under_way += 1
            most = max(most, under_way)
            try:
                going, gone = asyncio.ensure_future(go.wait()), asyncio.ensure_future(reader.read(1))
                await asyncio.wait((going, gone), return_when=asyncio.FIRST_COMPLETED)
                going.cancel()
                if gone.done():
                    return
                gone.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await gone
            finally:
                under_way -= 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def status(port: int) -> int:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /api HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return int((await reader.readuntil(b"\r\n")).split()[1])
            finally:
                writer.close()
        return 0

    async with accepting(answer) as upstream:
        route = {"name": "api", "path": "/api", "auth": "none", "upstreams": [f"http://127.0.0.1:{upstream}"]}
        async with serving(tmp_path, routes=[{**route, "concurrency": MOST}]) as gateway:
            port = port_of(gateway)
            calls = [asyncio.create_task(status(port)) for _ in range(CALLS)]
            await until(lambda: sum(call.done() for call in calls) == CALLS - MOST)
            await until(lambda: under_way == MOST)
            assert {call.result() for call in calls if call.done()} == {503}

            dead = gateway.workers[0]
            os.kill(dead.pid, signal.SIGKILL)
            await gateway.replaced(dead)
            left = sum(not call.done() for call in calls)
            await until(lambda: under_way == left)
            more = [asyncio.create_task(status(port)) for _ in range(CALLS)]
            await until(lambda: sum(call.done() for call in more) == CALLS - (MOST - left))
            await until(lambda: under_way == MOST)
            go.set()
            passed = [await call for call in (*calls, *more)].count(200)
            assert passed == most == MOST
