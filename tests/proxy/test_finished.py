"""Every exchange ends in one event, which says what became of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.proxy.finished import Finished
from gateway.store import Store
from tests.proxy.rig import Rig, eventually, rig

ROUTES: list[dict[str, Any]] = [
    {"name": "open", "path": "/open", "auth": "none", "timeout": "1s"},
    {"name": "shut", "path": "/shut", "auth": ["bearer"]},
]
GET = b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
async def heard(tmp_path: Path, no_database: Store) -> AsyncIterator[tuple[Rig, list[Finished]]]:
    """A gateway, and what it says of each exchange that has ended."""
    async with rig(tmp_path, no_database, routes=ROUTES) as running:
        told: list[Finished] = []
        running.proxy.listeners.append(told.append)
        yield running, told


async def test_answer_is_told_with_its_bytes_both_ways_and_its_times_in_order(
    heard: tuple[Rig, list[Finished]],
) -> None:
    running, told = heard
    reply = await running.talk(b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
    [finished] = told
    assert (finished.status, finished.complete, finished.refused) == (reply.status, True, None)
    assert (finished.received, finished.sent) == (5, len(reply.body))
    assert finished.route is not None
    assert finished.route.name == "open"
    assert finished.upstream.startswith("127.0.0.1:")
    assert 0 <= finished.judged <= finished.connected <= finished.answered <= finished.seconds < 5


@pytest.mark.parametrize(
    ("request_", "status", "route"),
    [
        (b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, None),
        (b"GET /shut HTTP/1.1\r\nHost: a\r\n\r\n", 401, "shut"),
        (b"GET  /open HTTP/1.1\r\nHost: a\r\n\r\n", 400, None),
        (b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413, "open"),
    ],
)
async def test_refusal_is_told_once_with_its_cause(
    heard: tuple[Rig, list[Finished]], request_: bytes, status: int, route: str | None
) -> None:
    running, told = heard
    reply = await running.talk(request_)
    assert reply.status == status
    [finished] = told
    assert finished.status == status
    assert finished.refused is not None
    assert finished.refused.status == status
    assert (None if finished.route is None else finished.route.name) == route
    assert (finished.sent, finished.upstream) == (len(reply.body), "")


async def test_client_that_leaves_is_told_as_an_exchange_that_was_not_completed(
    heard: tuple[Rig, list[Finished]],
) -> None:
    running, told = heard
    await running.left(GET)
    await eventually(lambda: bool(told))
    [finished] = told
    assert (finished.status, finished.complete, finished.refused) == (0, False, None)


async def test_fault_of_a_listener_is_none_of_the_calls(heard: tuple[Rig, list[Finished]]) -> None:
    running, told = heard

    def deaf(_: Finished) -> None:
        raise ValueError("not today")

    running.proxy.listeners.insert(0, deaf)
    assert (await running.talk(GET)).status == 200
    assert len(told) == 1
