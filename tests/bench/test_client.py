"""The benchmark's own client: no answer but the right one counts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench import client
from bench.client import Exchange, Wrong
from tests.streams import accepting

_PART = bytes(range(256)) * 16
_BODY = _PART * 64  # 256 KiB
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_BODY)
_REQUEST = b"GET / HTTP/1.1\r\n\r\n"
_WANTED = Exchange(_REQUEST, 200, _PART, 64)


@asynccontextmanager
async def _answering(*answers: bytes) -> AsyncIterator[int]:
    """The port of a server that gives these answers in turn on each connection, then closes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            if not await reader.read(len(_REQUEST)):
                break
            writer.write(answer)
            await writer.drain()

    async with accepting(serve) as port:
        yield port


async def test_client_takes_the_right_answer_again_and_again() -> None:
    async with _answering(*[_HEAD + _BODY] * 5) as port:
        await client.each(port, [_WANTED] * 5, 1)


@pytest.mark.parametrize(
    "answer",
    [
        _HEAD.replace(b"200 OK", b"404 Not Found") + _BODY,
        _HEAD + _BODY[:-1] + b"?",
        _HEAD + b"?" + _BODY[1:],
        _HEAD + _BODY[:-1],
        _HEAD + _BODY + b"?",
        b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + _BODY[:16],
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + _BODY,
        b"",
    ],
    ids=["status", "last byte", "first byte", "cut off", "too much", "shorter", "empty", "without length", "nothing"],
)
async def test_client_refuses_a_wrong_answer(answer: bytes) -> None:
    async with _answering(answer) as port:
        with pytest.raises(Wrong):
            await client.each(port, [_WANTED], 1)


async def test_client_counts_what_it_repeats() -> None:
    async with _answering(*[_HEAD + _BODY] * 1000) as port:
        requests, seconds = await client.repeated(port, _WANTED, 3, 0.0)
    assert requests == 3
    assert seconds > 0


async def test_latency_counts_from_when_a_request_was_due() -> None:
    async with _answering(*[_HEAD + _BODY] * 1000) as port:
        began = time.monotonic()
        latencies = await client.paced(port, _WANTED, 1, 10_000.0, 0.01)
        took = time.monotonic() - began
    assert len(latencies) == 100
    assert latencies == sorted(latencies)
    # One connection, which cannot give a hundred of these in 10 ms, gives them one after another. So if none counted
    # what it had waited for the others, they would not come to more than all of the time.
    assert sum(latencies) > took


async def test_idle_connections_are_open_while_memory_is_looked_at() -> None:
    looks: list[int] = []

    def look() -> int:
        looks.append(len(asyncio.all_tasks()))
        return 1000 * len(looks)

    async with _answering(_HEAD + _BODY, b"") as port:
        assert await client.idle(port, _WANTED, 10, look) == 100.0
    assert looks[1] - looks[0] == 10  # a task of the server for each
