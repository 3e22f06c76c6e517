"""Upstreams that come and go, over two workers of a real gateway."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from gateway.routing.retrying import FLOOR, REGAINED, SHARE
from tests.counts import scaled
from tests.e2e.test_rates import port_of
from tests.proxy.rig import Connection
from tests.proxy.several import Server
from tests.proxy.test_upstreams import GET, Crew, saying
from tests.serving import Gateway, serving


async def connect(gateway: Gateway) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port_of(gateway)))


async def test_upstreams_killed_at_random_cost_no_call_and_double_none(tmp_path: Path) -> None:
    servers = [Server(name) for name in "abc"]
    async with AsyncExitStack() as stack:
        for server in servers:
            stack.push_async_callback(server.kill)
            await server.start()
        urls = [server.url for server in servers]
        route = {"name": "all", "path": "/", "auth": "none", "upstreams": urls, "retries": 2}
        gateway = await stack.enter_async_context(serving(tmp_path, routes=[route]))
        await Crew(partial(connect, gateway), scaled(15_000)).survive(servers)


async def test_repeats_of_all_workers_together_are_a_tenth_of_the_calls_and_a_few(tmp_path: Path) -> None:
    server, calls = Server("a"), 400
    server.behaviour = saying(b"")
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.kill)
        await server.start()
        route = {"name": "all", "path": "/", "auth": "none", "upstreams": [server.url], "retries": 10}
        gateway = await stack.enter_async_context(serving(tmp_path, routes=[route]))
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def call_often(count: int) -> None:
            for _ in range(count):
                connection = await connect(gateway)
                await connection.send(GET)
                assert (await connection.reply()).status == 502
                connection.close()

        await asyncio.gather(*(call_often(calls // 10) for _ in range(10)))
        repeats, seconds = len(server.requests) - calls, loop.time() - began
    assert FLOOR <= repeats <= SHARE * calls + 2 * (FLOOR + REGAINED * seconds) + 2
