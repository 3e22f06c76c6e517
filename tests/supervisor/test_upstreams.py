"""What workers know of upstreams outlives a reload, and a worker that dies."""

import asyncio
import signal
from pathlib import Path

from tests.proxy.several import OK, Server
from tests.serving import serving, until
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
