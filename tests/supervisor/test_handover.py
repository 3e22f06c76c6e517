"""Connections that clients keep outlive a reload: they go to the new workers between two calls, and none is cut."""

import asyncio
import base64
import json
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway.proxy.handover import Handover
from gateway.store import Store
from tests.counts import scaled
from tests.guard.conftest import new_client
from tests.serving import PATIENCE, Gateway, serving, until, write_key
from tests.supervisor.conftest import SlowUpstream, is_gone, worker_of

BODIES = (0, 10, 3000, 100_000)
CALLERS = 16
OFTEN = 0.02  # seconds between two calls, where it is not their number that matters


class Caller:
    """One connection for all of its calls; it fails when that ends."""

    def __init__(self, url: str, token: str) -> None:
        self._address, self._token = urlsplit(url), token
        self.workers = list[str]()  # that answered, in their order

    async def connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._address.hostname, self._address.port)

    def request(self, body: int = 0) -> bytes:
        lines = [f"{'POST' if body else 'GET'} /x HTTP/1.1", f"Host: {self._address.netloc}"]
        lines += [f"Authorization: Bearer {self._token}", *([f"Content-Length: {body}"] if body else [])]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + b"b" * body

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answered(self) -> None:
        """The next answer, which must be the upstream's, and leave the connection open."""
        status, *lines = (await self._reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
        assert status == b"http/1.1 200 ok"
        assert b"connection: close" not in lines
        fields = dict(line.split(b": ", 1) for line in lines if line)
        assert await self._reader.readexactly(int(fields[b"content-length"])) == b"whole answer"
        self.workers.append(worker_of(fields[b"x-request-id"].decode()))

    async def call_until(self, ends: asyncio.Event, body: int, *, pause: float = 0.0) -> int:
        """Call again and again; with a `pause` between two calls, what goes on meanwhile has the CPU."""
        calls = 0
        while not ends.is_set():
            self.send(self.request(body))
            await self.answered()
            calls += 1
            await asyncio.sleep(pause)
        return calls

    async def pipeline_until(self, ends: asyncio.Event) -> int:
        """Call without waiting for answers, eight calls ahead."""
        for _ in range(8):
            self.send(self.request())
        calls = 0
        while not ends.is_set():
            self.send(self.request(3000))
            await self.answered()
            calls += 1
        for _ in range(8):
            await self.answered()
        return calls

    def close(self) -> None:
        self._writer.close()


def with_new_master_key(gateway: Gateway, folder: Path, number: int) -> None:
    """Another master key, and the ones before as previous ones."""
    key = folder / "master.key"
    write_key(folder / f"old-{number}.key", key.read_text())
    key.write_text(base64.b64encode(os.urandom(32)).decode())
    previous = ", ".join(
        f"{{ file = {json.dumps(str(folder / f'old-{one}.key'))} }}" for one in reversed(range(number + 1))
    )
    lines = [line for line in gateway.config.read_text().splitlines() if not line.startswith('"previous"')]
    lines.insert(lines.index("[keys]") + 1, f'"previous" = [{previous}]')
    gateway.config.write_text("\n".join(lines) + "\n")


async def test_reloads_cut_no_call_on_connections_that_are_kept(
    tmp_path: Path, store: Store, database: str, upstream: SlowUpstream
) -> None:
    """Under load, with bodies, pipelined, and at rest; by other master keys each time."""
    client, _ = await store.clients.create(new_client())
    token = (await store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)).access_token
    route = {**upstream.route(), "auth": ["bearer"]}
    async with serving(tmp_path, dsn=database, routes=[route]) as gateway:
        callers = [Caller(gateway.url, token) for _ in range(CALLERS + 2)]
        *busy, ahead, resting = callers
        for caller in callers:
            await caller.connect()
        ends = asyncio.Event()
        try:
            resting.send(resting.request())
            await resting.answered()
            calls = [asyncio.create_task(ahead.pipeline_until(ends))]
            calls += [
                asyncio.create_task(caller.call_until(ends, BODIES[number % len(BODIES)]))
                for number, caller in enumerate(busy)
            ]
            for number in range(scaled(20)):
                with_new_master_key(gateway, tmp_path, number)
                old, served = gateway.workers, len(callers[0].workers)
                gateway.process.send_signal(signal.SIGHUP)
                await until(lambda: len([line for line in gateway.logs if line["event"] == "reloaded"]) > number)  # noqa: B023  # it is awaited here
                resting.send(resting.request())
                await resting.answered()
                await until(lambda: all(map(is_gone, old)))  # noqa: B023  # likewise
                await until(lambda: len(busy[0].workers) > served + 1)  # noqa: B023  # likewise
            ends.set()
            assert all(await asyncio.wait_for(asyncio.gather(*calls), PATIENCE))
        finally:
            ends.set()
            for caller in callers:
                caller.close()
        assert all(len(set(caller.workers)) > 1 for caller in callers)  # each of them went over
        assert not [line for line in gateway.logs if line["level"] in ("error", "critical")]


@pytest.mark.parametrize("ahead", [b"", b"GET / HTTP/1.1\r\n" * 8192])
async def test_a_connection_is_given_with_what_has_come_of_its_next_request(ahead: bytes) -> None:
    giver = Handover(*(ends := socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)))
    taker = Handover(*(end.dup() for end in ends))
    taken: asyncio.Future[tuple[socket.socket, bytes]] = asyncio.get_running_loop().create_future()
    client, connection = socket.socketpair()
    try:
        taker.begin_taking(lambda sock, data: taken.set_result((sock, data)), lambda *_: None)
        giver.give(connection.detach(), ahead)
        await giver.wait_given()
        sock, data = await asyncio.wait_for(taken, PATIENCE)
        assert data == ahead
        client.sendall(b"ping")
        assert sock.recv(4) == b"ping"
        sock.close()
    finally:
        client.close()
        giver.close()
        taker.close()


async def test_connections_that_nobody_takes_wait_and_end_with_the_queue() -> None:
    giver = Handover(*socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    pairs = [socket.socketpair() for _ in range(1000)]
    for _, connection in pairs:
        giver.give(connection.detach(), b"x" * 1000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(giver.wait_given(), 0.1)
    giver.close()
    for client, _ in pairs:
        client.settimeout(PATIENCE)
        assert client.recv(1) == b""
        client.close()
