"""How many calls of a route may be under way: who is refused, and when there is room again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, parse
from gateway.store import Store
from tests.proxy.rig import Connection, Rig, rig
from tests.proxy.signing import Signer
from tests.proxy.test_rates import call, rate
from tests.serving import until

# fmt: off
ROUTES: list[dict[str, Any]] = [
    {"name": "two", "path": "/two", "auth": "none", "concurrency": 2},
    {"name": "paid", "path": "/paid", "auth": "none", "concurrency": 1, "rate": [rate("route", "2/h")],
     "quota": [{"by": "route", "limit": "2/day"}]},
    {"name": "down", "path": "/down", "auth": "none", "concurrency": 1, "upstreams": ["http://127.0.0.1:9"]},
    {"name": "signed", "path": "/signed", "auth": ["mac"], "concurrency": 1},
]
# fmt: on
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Held:
    """An upstream that answers when it is told to."""

    def __init__(self, running: Rig) -> None:
        self.go = asyncio.Event()
        self.answer = OK
        self.came = 0
        self._running = running
        running.upstream.handler = self._serve

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            self.came += 1
            await self.go.wait()
            writer.write(self.answer)

    async def begun(self, path: str) -> Connection:
        """A call that has reached the upstream."""
        connection, before = await self._running.connect(), self.came
        await connection.send(call(path))
        await until(lambda: self.came > before, 10)
        return connection


@pytest.fixture
async def running(tmp_path: Path, store: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, store, routes=ROUTES, server={"workers": 1}) as made:
        yield made


async def test_past_the_bound_503_at_once_and_room_when_one_ends(running: Rig) -> None:
    held = Held(running)
    one, two = await held.begun("/two"), await held.begun("/two")
    third = await running.talk(call("/two"))
    assert (third.status, third.one("retry-after")) == (503, "2")
    assert b"busy" in third.body
    assert held.came == 2
    held.go.set()
    assert [(await connection.reply()).status for connection in (one, two)] == [200, 200]
    assert (await running.talk(call("/two"))).status == 200
    one.close()
    two.close()


async def test_client_that_leaves_makes_room(running: Rig) -> None:
    held = Held(running)
    one, two = await held.begun("/two"), await held.begun("/two")
    one.writer.transport.abort()
    await until(lambda: len(running.proxy.fronts) == 1)
    held.go.set()
    assert (await running.talk(call("/two"))).status == 200
    two.close()


async def test_upstream_that_fails_leaves_room(running: Rig) -> None:
    assert [(await running.talk(call("/down"))).status for _ in range(4)] == [502] * 4


async def test_crowded_call_takes_nothing_of_rate_and_quota(running: Rig) -> None:
    held = Held(running)
    one = await held.begun("/paid")
    assert [(await running.talk(call("/paid"))).status for _ in range(3)] == [503] * 3
    held.go.set()
    assert (await one.reply()).status == 200
    assert [(await running.talk(call("/paid"))).status for _ in range(4)] == [200, 429, 429, 429]
    one.close()


async def test_tunnel_counts_until_it_ends(running: Rig) -> None:
    held = Held(running)
    held.answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
    held.go.set()
    connections = []
    for _ in range(2):
        connections.append(await running.connect())
        request = b"GET /two HTTP/1.1\r\nHost: gateway.test\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
        await connections[-1].send(request)
        assert b" 101 " in await connections[-1].reader.readuntil(b"\r\n\r\n")
    assert (await running.talk(call("/two"))).status == 503
    for connection in connections:
        connection.writer.transport.abort()
    await until(lambda: not running.proxy.fronts)
    held.answer = OK
    assert (await running.talk(call("/two"))).status == 200


async def test_signed_body_that_is_awaited_takes_its_place_when_it_is_there(running: Rig, signer: Signer) -> None:
    for _ in range(3):
        head = signer.head(b"hello", "Content-Length: 5", target="/signed")
        assert (await running.talk(head + b"hello", method="POST")).status == 200
        head = signer.head(b"hello", "Content-Length: 5", target="/signed")
        assert (await running.talk(head + b"jello", method="POST")).status == 401


async def test_client_that_leaves_while_its_nonce_is_spent_keeps_no_place(running: Rig, signer: Signer) -> None:
    for _ in range(5):
        connection = await running.connect()
        await connection.send(signer.head(b"hello", "Content-Length: 5", target="/signed") + b"hello")
        connection.writer.transport.abort()
    await until(lambda: not running.proxy.fronts)
    limiting = running.proxy.guard._limiting
    assert limiting is not None

    async def passes() -> bool:
        head = signer.head(b"hello", "Content-Length: 5", target="/signed")
        return (await running.talk(head + b"hello", method="POST")).status == 200

    await until(passes)
    await until(lambda: all(counter.own == 0 for counter in limiting._counted.values()))


async def test_explanation_names_the_bound(running: Rig) -> None:
    held = Held(running)
    connections = [await held.begun("/two") for _ in range(2)]
    reply = await running.talk(call("/two"))
    calls = running.proxy.recall(reply.one("x-request-id"))["calls"]
    assert isinstance(calls, list)
    assert calls[0]["cause"] == "over the concurrency: 2"
    assert [one["step"] for one in calls[0]["steps"] if one["outcome"] == "failed"] == ["limit"]
    held.go.set()
    for connection in connections:
        await connection.reply()
        connection.close()


@pytest.mark.parametrize(
    ("value", "message"), [(-1, "at least 0"), (1_000_001, "at most 1000000"), ("5", "whole number")]
)
def test_bound_that_is_no_number_of_calls_is_a_fault(value: object, message: str) -> None:
    route = {"name": "r", "path": "/a", "auth": "none", "upstreams": ["http://x"], "concurrency": value}
    with pytest.raises(ConfigError) as raised:
        parse({"server": {"public_url": "http://gateway.test"}, "routes": [route]})
    [fault] = raised.value.faults
    assert fault.path == "routes[0].concurrency"
    assert message in fault.message


@pytest.mark.plain
async def test_a_fault_of_ours_in_a_refusal_ends_the_connection_and_gives_the_place_back(
    running: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyError("a fault of ours")

    with monkeypatch.context() as broken:
        broken.setattr("gateway.proxy.front.render", fail)
        connection = await running.connect()
        await connection.send(call("/down"))
        assert await connection.reader.read() == b""
        connection.close()
    assert (await running.talk(call("/down"))).status == 502  # not 503, as where a call is under way
