"""Revocation between the processes of a real gateway. Nothing listens behind the route: what passes gets a 502."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from gateway.guard.ledger import LEASE
from gateway.model import Client
from gateway.store import Store
from tests.counts import scaled
from tests.guard.conftest import new_client
from tests.serving import PATIENCE, Gateway, holds_within, is_past, serving, until

ROUTE = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]}
PASSES, REFUSED = 502, 401


class Caller:
    """One keep-alive connection, and so one worker."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def call(self, token: str = "") -> tuple[int, str]:
        """The status, and the worker that answered."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self._session.get(f"{self._url}/notes/1", headers=headers) as answer:
            await answer.read()
            return answer.status, answer.headers["X-Request-Id"][:16]

    async def refused(self, token: str, within: float) -> None:
        """See that a call is refused that comes so many seconds from now, and that none passes after the first."""

        async def is_refused() -> bool:
            status, _ = await self.call(token)
            assert status in (PASSES, REFUSED)
            return status == REFUSED

        await holds_within(within, is_refused)
        assert (await self.call(token))[0] == REFUSED


@asynccontextmanager
async def callers(gateway: Gateway) -> AsyncIterator[list[Caller]]:
    """A connection to each worker."""
    async with AsyncExitStack() as stack:
        found: dict[str, Caller] = {}
        async with asyncio.timeout(PATIENCE):
            while len(found) < gateway.count:
                session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
                await stack.enter_async_context(session)
                caller = Caller(session, gateway.url)
                found.setdefault((await caller.call())[1], caller)
        yield list(found.values())


async def issued(store: Store, client: Client) -> str:
    tokens = await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)
    return tokens.access_token


@pytest.mark.long
async def test_token_revoked_over_http_is_refused_by_every_worker_within_a_second(
    tmp_path: Path, store: Store, database: str
) -> None:
    client, secret = await store.clients.create(new_client())
    client_fields = {"client_id": client.client_id, "client_secret": str(secret)}
    async with serving(tmp_path, dsn=database, routes=[ROUTE]) as gateway, callers(gateway) as workers:
        for _ in range(scaled(100)):
            token = await issued(store, client)
            for worker in workers:
                for _ in range(2):
                    assert (await worker.call(token))[0] == PASSES
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{gateway.url}/oauth2/revoke", data=client_fields | {"token": token}) as answer,
            ):
                assert answer.status == 200
            await asyncio.gather(*(worker.refused(token, 1) for worker in workers))


async def test_worker_that_was_stopped_passes_nothing_that_was_revoked_meanwhile(
    tmp_path: Path, store: Store, database: str
) -> None:
    client, _ = await store.clients.create(new_client())
    async with serving(tmp_path, dsn=database, routes=[ROUTE], workers=1) as gateway, callers(gateway) as (caller,):
        (worker,) = gateway.workers
        for _ in range(2):
            token = await issued(store, client)
            assert (await caller.call(token))[0] == PASSES
            worker.send_signal(signal.SIGSTOP)
            lapses_at = time.monotonic() + LEASE
            try:
                assert await store.tokens.revoke(token, None)
                await until(partial(is_past, lapses_at))
                asked = asyncio.create_task(caller.call(token))
                await asyncio.sleep(0)
            finally:
                worker.send_signal(signal.SIGCONT)
            assert (await asked)[0] == REFUSED
