"""The database dies, hangs, comes back: the gateway stays up, says so, and recovers by itself."""

import asyncio
import time
from functools import partial
from pathlib import Path

from gateway.store.pool import DEADLINE
from gateway.supervisor.supervisor import DRAIN
from tests.serving import Gateway, crowding, holds_within, hung, serving, until
from tests.supervisor.conftest import is_gone


async def timed_status(gateway: Gateway, path: str) -> tuple[int, float]:
    started = time.monotonic()
    status = await gateway.status(path, admin=True)
    return status, time.monotonic() - started


async def test_a_killed_embedded_database_is_replaced_and_the_gateway_is_ready_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        for _ in range(2):
            workers = {worker.pid for worker in gateway.workers}
            dead = gateway.postgres
            dead.kill()
            await until(partial(is_gone, dead))
            await until(partial(_another_postgres, gateway, dead.pid))  # backends outlive it, and answer, for a moment
            await until(gateway.is_ready)
            assert {worker.pid for worker in gateway.workers} == workers
        assert [line["event"] for line in gateway.logs].count("the embedded database ended and is started again") == 2


def _another_postgres(gateway: Gateway, than: int) -> bool:
    return any(server.pid != than for server in gateway.postgres_if_any)


async def test_readyz_is_503_in_time_while_the_database_hangs(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        with hung(gateway.postgres):
            status, seconds = await timed_status(gateway, "/readyz")
            assert status == 503
            assert seconds < 2.5 * crowding()
            status, seconds = await timed_status(gateway, "/healthz")
            assert status == 200
            assert seconds < DEADLINE  # it does not wait for the database
        await holds_within(5 * crowding(), gateway.is_ready)


async def test_a_worker_that_starts_while_the_database_is_down_comes_up_and_recovers(tmp_path: Path) -> None:
    route = {"name": "closed", "path": "/", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]}
    async with serving(tmp_path, routes=[route]) as gateway:
        with hung(gateway.postgres):
            before = {worker.pid for worker in gateway.workers}
            for worker in gateway.workers:
                worker.kill()
            await until(lambda: len({worker.pid for worker in gateway.workers} - before) == 2)

            async def serves() -> bool:
                return await gateway.status("/") == 401  # what needs no database is answered

            await until(serves)
            after = {worker.pid for worker in gateway.workers}
            assert (await timed_status(gateway, "/readyz"))[0] == 503
        await holds_within(5 * crowding(), gateway.is_ready)
        assert {worker.pid for worker in gateway.workers} == after


async def test_stopping_while_the_database_is_dead_ends_in_order(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        family = gateway.children
        gateway.postgres.kill()
        assert await asyncio.wait_for(gateway.stop(), DRAIN) == 0
        await until(lambda: all(map(is_gone, family)))


async def test_the_admin_listener_has_nothing_else(tmp_path: Path, database: str) -> None:
    async with serving(tmp_path, dsn=database) as gateway:
        for path in ("/", "/readyz/", "/metrics/x", "/oauth2/login"):
            assert await gateway.status(path, admin=True) == 404
        assert await gateway.status("/healthz") == 404
        assert await gateway.status("/readyz") == 404
