"""Signed calls that wait for their nonces together: each gets its own answer, whatever becomes of the others."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.proxy.exchange import Exchange
from gateway.proxy.states import Phase
from tests.proxy.rig import Connection, Rig, eventually
from tests.proxy.signing import Signer, nonces, nonces_locked

ROUTES: list[dict[str, Any]] = [{"name": "mac", "path": "/mac", "auth": ["mac"]}]
MANY = 20


async def asked(running: Rig, signer: Signer, target: str) -> Connection:
    """A connection on which a signed call was sent."""
    connection = await running.connect()
    await connection.send(signer.head(None, target=target, method="GET"))
    return connection


async def waiting(running: Rig, signer: Signer, targets: list[str]) -> list[Connection]:
    """Connections whose calls wait for their nonces."""
    connections = [await asked(running, signer, target) for target in targets]

    def all_wait() -> bool:
        judged = [front.exchange for front in running.proxy.fronts if front.exchange is not None]
        return len(judged) == len(targets) and all(exchange.phase is Phase.JUDGING for exchange in judged)

    await eventually(all_wait)
    return connections


async def test_those_that_have_gone_meanwhile_keep_nobody_and_reach_nobody(
    guarded: Rig, signer: Signer, database: str
) -> None:
    assert (await guarded.talk(signer.head(None, method="GET"))).status == 200
    guarded.upstream.requests.clear()
    targets = [f"/mac/{number}" for number in range(MANY)]
    async with nonces_locked(database):
        connections = await waiting(guarded, signer, targets)
        for connection in connections[::2]:
            connection.close()
        await eventually(lambda: len(guarded.proxy.fronts) == MANY // 2)
    replies = await asyncio.gather(*(connection.reply() for connection in connections[1::2]))
    assert [reply.status for reply in replies] == [200] * (MANY // 2)
    assert sorted(seen.target for seen in guarded.upstream.requests) == sorted(targets[1::2])
    assert await nonces(database) == 1 + MANY  # what was asked runs to its end
    for connection in connections[1::2]:
        connection.close()


@pytest.mark.plain
async def test_fault_of_ours_in_one_is_a_500_and_none_of_the_others_business(
    guarded: Rig, signer: Signer, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await guarded.talk(signer.head(None, method="GET"))).status == 200
    monkeypatch.setattr(Exchange, "_permitted", _but_for(b"/mac/3", Exchange._permitted))
    async with nonces_locked(database):
        connections = await waiting(guarded, signer, [f"/mac/{number}" for number in range(MANY)])
    replies = await asyncio.gather(*(connection.reply() for connection in connections))
    assert [reply.status for reply in replies] == [500 if number == 3 else 200 for number in range(MANY)]
    for connection in connections:
        connection.close()


def _but_for(target: bytes, permitted: Callable[[Exchange, Any], None]) -> Callable[[Exchange, Any], None]:
    def faulty(exchange: Exchange, allowed: Any) -> None:
        if exchange.head.target == target:
            raise ValueError("a fault of ours")
        permitted(exchange, allowed)

    return faulty
