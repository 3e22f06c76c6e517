"""What workers know of upstreams outlives a reload, and a worker that dies; and so do idle connections a reload."""

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.several import OK, Server
from tests.serving import Gateway, serving, until
from tests.supervisor.test_metrics import call, get, samples, value
from tests.supervisor.test_reload import reloaded, rewrite


async def test_upstream_that_is_out_stays_out_over_a_reload_and_a_worker_s_death(tmp_path: Path, database: str) -> None:
    a, b = Server("a"), Server("b")
    ill = True

    async def checked(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await server.read(reader)
            if request.target == "/healthz" and ill:
                writer.write(b"HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n")
            else:
                writer.write(OK + server.name.encode())

    a.behaviour = checked
    await a.start()
    await b.start()
    try:
        health = {"path": "/healthz", "interval": "1s", "unhealthy": 1, "healthy": 100}
        route = {"name": "all", "path": "/", "auth": "none", "upstreams": [a.url, b.url], "health": health}
        async with serving(tmp_path, dsn=database, routes=[route]) as gateway:

            async def out() -> bool:
                found = await samples(gateway)
                return (
                    value(found, "gateway_upstream_out", upstream=a.place) == 2
                    and value(found, "gateway_upstream_out", upstream=b.place) == 0
                )

            async def passed_by() -> None:
                asked = len(a.asked("GET"))
                bodies = {(await call(gateway, get("/x")))[-1:] for _ in range(20)}
                assert bodies == {b"b"}
                assert "/x" not in a.asked()[asked:]

            await until(out)
            ill = False  # only workers that were told of it know that it was
            await passed_by()
            rewrite(gateway, '"all"', '"everything"')
            await reloaded(gateway)
            await passed_by()
            await until(out)
            [first, _] = gateway.workers
            first.send_signal(signal.SIGKILL)
            await gateway.replaced(first)
            await passed_by()
            await until(out)
    finally:
        await a.kill()
        await b.kill()


# -- changed by a reload -----------------------------------------------------------------------------------------------


async def running(stack: AsyncExitStack, *names: str) -> list[Server]:
    servers = [Server(name) for name in names]
    for server in servers:
        stack.push_async_callback(server.kill)
        await server.start()
    return servers


async def out_with(gateway: Gateway, *servers: Server) -> bool:
    """Whether these are the upstreams that some worker leaves out."""
    found = await samples(gateway)
    known = {dict(labels)["upstream"] for name, labels in found if name == "gateway_upstream_out"}
    return {one for one in known if value(found, "gateway_upstream_out", upstream=one)} == {
        one.place for one in servers
    }


@pytest.mark.parametrize("by", ["calls", "checks"])
async def test_upstreams_that_stay_keep_their_health_where_others_are_added_changed_and_removed(
    by: str, tmp_path: Path, database: str
) -> None:
    """One worker, whose knowledge is what the next one begins with."""
    ill = True

    async def sick(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await server.read(reader)
            if ill and (by == "calls" or request.target == "/healthz"):
                writer.write(
                    b"HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n" if by == "checks" else b"\0garbage\r\n\r\n"
                )
                if by == "calls":
                    return
            else:
                writer.write(OK + server.name.encode())

    health = (
        {"health": {"path": "/healthz", "interval": "1s", "unhealthy": 1, "healthy": 100}} if by == "checks" else {}
    )
    async with AsyncExitStack() as stack:
        a, b, c, d = await running(stack, *"abcd")
        a.behaviour = sick
        route: dict[str, Any] = {
            "name": "all",
            "path": "/",
            "auth": "none",
            "upstreams": [b.url, a.url, c.url],
            **health,
        }
        gateway = await stack.enter_async_context(serving(tmp_path, dsn=database, routes=[route], workers=1))

        async def is_out() -> bool:
            if by == "calls":
                await call(gateway, get("/x"))
            return await out_with(gateway, a)

        await until(is_out)
        before = len(a.asked())
        rewrite(gateway, f'["{b.url}", "{a.url}", "{c.url}"]', f'["{a.url}", "{d.url}", "{c.url}"]')
        await reloaded(gateway)
        bodies = [(await call(gateway, get("/x")))[-1:] for _ in range(60)]
        assert {b"c", b"d"} <= set(bodies)
        assert b"b" not in bodies
        asked = [target for target in a.asked()[before:] if target == "/x"]
        assert len(asked) <= 8 if by == "calls" else not asked  # one at the end of each pause, which double
        await until(lambda: out_with(gateway, a))
        ill = False


async def test_idle_connections_to_upstreams_that_stay_outlive_a_reload(tmp_path: Path, database: str) -> None:
    async with AsyncExitStack() as stack:
        stays, changed, removed = await running(stack, "s", "c", "r")
        held = asyncio.Event()

        async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                request = await server.read(reader)
                if request.target == "/stays/slow":
                    await held.wait()
                writer.write(OK + server.name.encode())

        stays.behaviour = slow
        places = {
            "stays": stays.url,
            "named": stays.url.replace("127.0.0.1", "localhost"),
            "changed": changed.url,
            "removed": removed.url,
        }
        routes = [
            {"name": name, "path": f"/{name}", "auth": "none", "upstreams": [url], "connections": 10, "timeout": "1h"}
            for name, url in places.items()
        ]
        gateway = await stack.enter_async_context(serving(tmp_path, dsn=database, routes=routes, workers=1))

        async def asked(path: str) -> bytes:
            return (await call(gateway, get(path)))[-1:]

        assert [await asked(f"/{name}") for name in places] == [b"s", b"s", b"c", b"r"]
        late = asyncio.create_task(asked("/stays/slow"))
        await until(lambda: "/stays/slow" in stays.asked())
        before = stays.connections
        text = gateway.config.read_text()
        rewrite(gateway, f'"upstreams" = ["{removed.url}"]', f'"upstreams" = ["{changed.url}"]')
        rewrite(gateway, f'"upstreams" = ["{changed.url}"]\n"connections" = 10', f'"upstreams" = ["{changed.url}"]')
        assert gateway.config.read_text() != text
        gateway.process.send_signal(signal.SIGHUP)
        await until(lambda: any(line["event"] == "reloaded" for line in gateway.logs))
        assert not late.done()
        held.set()
        assert await late == b"s"
        await until(lambda: len(gateway.workers) == 1)
        await until(lambda: not removed._serving)
        assert changed.connections == 1
        await reloaded(gateway)
        for path, body in (("/stays", b"s"), ("/named", b"s"), ("/removed", b"c")):
            assert await asked(path) == body
        assert stays.connections == before  # that of the call which ended meanwhile, too
        assert changed.connections == 2  # on other terms it is another upstream
        assert [line for line in gateway.logs if line["level"] in ("error", "critical")] == []
