"""A rate is one for all workers, and for all gateways on one database."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.crypto import Keyring
from gateway.store import Store
from tests.counts import scaled
from tests.e2e.test_replay import an_upstream
from tests.guard.conftest import new_client
from tests.serving import PATIENCE, Gateway, crowding, hung, serving, until

RATE, BURST, CONNECTIONS, EXCESS = 100, 100, 50, 4
WINDOWS = max(3, scaled(10))
SETTLED = 4  # seconds; by then what workers let pass before they knew of each other is paid back


class Load:
    """Calls on kept connections, at a pace that is the same for all; it knows when each was let pass."""

    def __init__(self, ports: Sequence[int], token: str, path: str = "/api") -> None:
        self._ports = ports
        self._request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        self.passed: list[float] = []
        self.answered: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.began = self.ends = 0.0

    async def over(self, seconds: float, *, connections: int = CONNECTIONS, rate: float = EXCESS * RATE) -> "Load":
        self.began = time.monotonic()
        self.ends = self.began + seconds
        pause = connections / rate
        async with asyncio.TaskGroup() as group:
            for number in range(connections):
                port = self._ports[number % len(self._ports)]
                group.create_task(self._call_on(port, pause, number / connections * pause))
        return self

    async def _call_on(self, port: int, pause: float, offset: float) -> None:
        due, connection = self.began + offset, None
        while due < self.ends:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += pause
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                connection = connection or await asyncio.open_connection("127.0.0.1", port)
                reader, writer = connection
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                status = int(head.split(b" ", 2)[1])
                self.statuses[status] += 1
                self.answered.append(time.monotonic())
                if status == 200:
                    self.passed.append(self.answered[-1])
                continue
            if connection is not None:
                connection[1].close()
            connection = None
        if connection is not None:
            connection[1].close()

    def within(self, begin: float, end: float) -> int:
        """How many passed between these seconds after the beginning."""
        return sum(self.began + begin <= at < self.began + end for at in self.passed)

    def windows(self, begin: int) -> list[int]:
        """How many passed in each second from that one on to now, of those in which the calls were as many as they
        should be, half a second by half a second, and in the half second before: where the machine stands still for a
        moment, nobody calls, and what has flown in meanwhile passes when it goes on."""
        asked = Counter(int(2 * (at - self.began)) for at in self.answered)
        whole = {half for half, count in asked.items() if count > 0.9 * EXCESS * RATE / 2}
        return [
            self.within(second, second + 1)
            for second in range(begin, int(time.monotonic() - self.began))
            if whole >= {2 * second - 1, 2 * second, 2 * second + 1}
        ]


@asynccontextmanager
async def gateways(
    folder: Path, database: str, keyring: Keyring, count: int = 1, **limits: object
) -> AsyncIterator[tuple[list[Gateway], str]]:
    """Some gateways of two workers each on one database, and a token."""
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(an_upstream())
        store = await Store.open(database, keyring)
        stack.push_async_callback(store.close)
        client, _ = await store.clients.create(new_client())
        issued = await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, "bearer")
        route = {
            "name": "api",
            "path": "/api",
            "auth": ["bearer"],
            "upstreams": [f"http://127.0.0.1:{upstream.port}"],
            **(limits or {"rate": [{"by": "client", "limit": f"{RATE}/s", "burst": BURST}]}),
        }
        made = []
        for number in range(count):
            (place := folder / str(number)).mkdir()
            made.append(await stack.enter_async_context(serving(place, routes=[route], dsn=database)))
        yield made, issued.access_token


def port_of(gateway: Gateway) -> int:
    return int(gateway.url.rpartition(":")[2])


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2])
async def test_four_times_the_rate_passes_within_a_tenth_of_it_in_every_window(
    tmp_path: Path, database: str, keyring: Keyring, count: int
) -> None:
    async with gateways(tmp_path, database, keyring, count) as (made, token):
        # After the burst, of which workers that do not know of each other yet each let a part pass, and what that owes.
        load = Load([port_of(one) for one in made], token)
        calling = asyncio.create_task(load.over(PATIENCE))
        await until(lambda: len(load.windows(SETTLED)) >= WINDOWS, pause=0.5)
        first, counts, leeway = load.within(0, 1), load.windows(SETTLED), 0.1 * crowding()
        load.ends = 0.0
        await calling
        assert all(abs(passed - RATE) <= leeway * RATE for passed in counts), counts
        # Gateways hear of each other when each has asked the database: on a busy machine late in this second.
        assert first <= count * (BURST + RATE * (1 + leeway))
        assert set(load.statuses) == {200, 429}


async def test_fair_part_passes_while_the_database_is_away(tmp_path: Path, keyring: Keyring) -> None:
    async with an_upstream() as upstream:
        route = {
            "name": "api",
            "path": "/api",
            "auth": "none",
            "upstreams": [f"http://127.0.0.1:{upstream.port}"],
            "rate": [{"by": "route", "limit": f"{RATE}/s", "burst": BURST}],
        }
        async with serving(tmp_path, routes=[route]) as gateway:
            load = Load([port_of(gateway)], "none")
            with hung(gateway.postgres):
                await load.over(4.0, connections=16)
            assert set(load.statuses) == {200, 429}
            assert load.within(2.5, 3.5) <= RATE * (1 + 0.1 * crowding())
            assert load.within(1, 4) >= 0.5 * RATE


async def test_worker_that_is_killed_lets_no_more_pass(tmp_path: Path, database: str, keyring: Keyring) -> None:
    async with gateways(tmp_path, database, keyring) as ([gateway], token):
        running = asyncio.create_task(Load([port_of(gateway)], token).over(4.0))
        await asyncio.sleep(0)
        load_began = time.monotonic()
        await until(lambda: time.monotonic() - load_began > 1.5)
        os.kill(gateway.workers[0].pid, signal.SIGKILL)
        load = await running
        # What it had not told of is passed anew, and so is the fair part that its successor begins with.
        assert load.within(0, 4) <= (BURST + 4 * RATE) * 1.1 + BURST / 2
