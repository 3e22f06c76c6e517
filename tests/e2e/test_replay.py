"""A signed request passes once: whatever the workers, however often it is sent, and whoever is killed meanwhile."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from gateway.credentials import mac
from gateway.crypto import Keyring
from gateway.store import Store
from gateway.store.records import IssuedTokens
from gateway.supervisor import embedded
from tests.counts import LONG, scaled
from tests.guard.conftest import new_client
from tests.serving import PATIENCE, Gateway, crowding, holds_within, hung, serving, until
from tests.streams import accepting

PASSED, REFUSED, OUTAGE, LOST = 200, 401, 503, 0


@dataclass
class Upstream:
    """Answers everything with 200, and counts by target what reached it."""

    port: int = 0
    reached: Counter[str] = field(default_factory=Counter)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            self.reached[head.split(b" ", 2)[1].decode()] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@asynccontextmanager
async def an_upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    async with accepting(upstream.answer) as upstream.port:
        yield upstream


@dataclass
class Client:
    """Signs requests, each for a target of its own, and sends the same bytes as often as it is asked."""

    port: int
    tokens: IssuedTokens
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    workers: set[str] = field(default_factory=set)  # that answered

    def signed(self, target: str) -> bytes:
        """The bytes of a request, with a nonce that no other has."""
        attributes = {"nonce": f"n{next(self.numbers)}", "ts": str(int(time.time())), "ext": None}
        covered = mac.Covered(method="GET", target=target.encode(), host="127.0.0.1", port=self.port)
        text = mac.normalized_string(covered, bodyhash=None, **attributes)  # type: ignore[arg-type]  # nonce is a str
        assert self.tokens.mac_key is not None
        signature = mac.sign(self.tokens.mac_key.encode(), "hmac-sha-256", text)
        return (
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\nAuthorization: MAC "
            f'id="{self.tokens.access_token}", ts="{attributes["ts"]}", nonce="{attributes["nonce"]}", '
            f'mac="{signature}"\r\n\r\n'
        ).encode()

    async def send(self, request: bytes) -> int:
        """The status of the answer, on a connection of its own; LOST where there was none."""
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(request)
                    head = (await reader.readuntil(b"\r\n\r\n")).decode()
                    self.workers.add(head.lower().partition("\r\nx-request-id: ")[2][:16])
                    return int(head.split()[1])
                finally:
                    writer.close()
        except (OSError, asyncio.IncompleteReadError):
            return LOST


@dataclass
class Site:
    """A gateway with its upstream and a client, perhaps on a database that can be killed."""

    gateway: Gateway
    upstream: Upstream
    client: Client
    database: embedded.Server | None

    async def stop_database(self) -> None:
        """`pg_ctl stop -m immediate`, and wait until there is a server in its place."""
        database = self.database
        assert database is not None
        stopped = database.pid
        assert stopped is not None
        os.kill(stopped, signal.SIGQUIT)
        await until(lambda: database.pid not in (None, stopped))

    async def refuses(self, request: bytes) -> None:
        """See that a request is refused as one that passed before: at once, or where an outage is being mended."""

        async def is_refused() -> bool:
            status = await self.client.send(request)
            assert status in (REFUSED, OUTAGE)
            return status == REFUSED

        await holds_within(5 * crowding(), is_refused)

    async def kill_worker(self) -> None:
        """kill -9 for one of the workers."""
        workers = self.gateway.workers
        if workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                random.choice(workers).kill()


@asynccontextmanager
async def a_site(folder: Path, dsn: str, keyring: Keyring, database: embedded.Server | None) -> AsyncIterator[Site]:
    store = await Store.open(dsn, keyring)
    client, _ = await store.clients.create(new_client("mac"))
    tokens = await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)
    await store.close()
    async with an_upstream() as upstream:
        route = {"name": "mac", "path": "/mac", "upstreams": [f"http://127.0.0.1:{upstream.port}"], "auth": ["mac"]}
        async with serving(folder, dsn=dsn, routes=[route]) as gateway:
            port = int(gateway.url.rpartition(":")[2])
            yield Site(gateway, upstream, Client(port, tokens), database)


@pytest.fixture
async def site(tmp_path: Path, durable_server: embedded.Server, keyring: Keyring) -> AsyncIterator[Site]:
    async with a_site(tmp_path, durable_server.dsn, keyring, durable_server) as made:
        yield made


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_of_fifty_parallel_replays_over_two_workers_one_passes(
    tmp_path: Path, database: str, keyring: Keyring
) -> None:
    async with a_site(tmp_path, database, keyring, None) as site:
        numbers = itertools.count()

        async def over_both() -> bool:
            target = f"/mac/{next(numbers)}"
            request = site.client.signed(target)
            workers = site.client.workers = set()
            found = await asyncio.gather(*(site.client.send(request) for _ in range(50)))
            assert Counter(found) == {PASSED: 1, REFUSED: 49}
            assert site.upstream.reached[target] == 1
            return len(workers) == 2

        for _ in range(scaled(200)):
            await until(over_both, pause=0.0)


async def test_replay_is_refused_and_outage_is_told_whatever_becomes_of_the_database(site: Site) -> None:
    request = site.client.signed("/mac/once")
    assert await site.client.send(request) == PASSED
    await site.stop_database()
    await until(site.gateway.is_ready)
    await site.refuses(request)
    workers = site.gateway.workers
    for worker in workers:
        worker.kill()
    await site.gateway.replaced(*workers)
    await site.refuses(request)

    assert await site.client.send(site.client.signed("/mac/anew")) == PASSED
    assert site.database is not None
    with hung(psutil.Process(site.database.pid)):
        started = time.monotonic()
        assert await site.client.send(site.client.signed("/mac/hung")) == OUTAGE
        assert time.monotonic() - started < 2.5 * crowding()

    async def passes() -> bool:
        return await site.client.send(site.client.signed("/mac/after")) == PASSED

    await holds_within(5 * crowding(), passes)
    await site.refuses(request)
    assert site.upstream.reached == {"/mac/once": 1, "/mac/anew": 1, "/mac/after": 1}


# -- everything at once --------------------------------------------------------------------------------------


async def _every(seconds: float, act: Callable[[], Awaitable[None]], done: Counter[str]) -> None:
    while True:
        await asyncio.sleep(seconds)
        await act()
        done[act.__name__] += 1


async def _sent_twice(site: Site, target: str) -> None:
    """Send a request twice; where an outage refused it, sign anew until there is none."""
    request = site.client.signed(target)
    first = asyncio.create_task(site.client.send(request))
    if random.random() < 0.5:  # one after the other, or at the same time
        await first
    found = sorted([await site.client.send(request), await first])
    assert found.count(PASSED) <= 1
    assert set(found) <= {PASSED, REFUSED, OUTAGE, LOST}
    assert found != [REFUSED, REFUSED], "a request that never passed was refused as if it had"
    anew = 0
    while PASSED not in found:
        anew += 1
        found = [await site.client.send(site.client.signed(f"{target}/anew/{anew}"))]
        assert found[0] in (PASSED, OUTAGE, LOST)
        if found[0] != PASSED:
            await asyncio.sleep(0.05)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_nothing_passes_twice_while_database_and_workers_are_killed(site: Site) -> None:
    number, rate = (20_000, 300) if LONG else (400, 80)
    every = {site.stop_database: 10.0 if LONG else 2.0, site.kill_worker: 3.0 if LONG else 1.2}
    done: Counter[str] = Counter()
    chaos = [asyncio.create_task(_every(seconds, act, done)) for act, seconds in every.items()]
    started = time.monotonic()
    asked: list[asyncio.Task[None]] = []
    while len(asked) < number or min(done[act.__name__] for act in every) < 2:
        asked.append(asyncio.create_task(_sent_twice(site, f"/mac/{len(asked)}")))
        await asyncio.sleep(max(0.001, started + len(asked) / rate - time.monotonic()))
    for task in chaos:
        task.cancel()
    await asyncio.gather(*asked)
    ended = await asyncio.gather(*chaos, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
    assert max(site.upstream.reached.values()) == 1
    await until(site.gateway.is_ready)
