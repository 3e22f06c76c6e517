"""What a change of a client means for the MAC tokens that it has: their algorithm stays, the drafts follow at once.

The algorithm was told with the token, and its holder cannot learn of another; what drafts it may sign by it was told
by nobody but the operator.
"""

import pytest
from msgspec.structs import replace

from gateway.errors import Refused
from gateway.guard import Allowed
from gateway.model import MacAlgorithm, MacDraft
from gateway.store.records import IssuedTokens

from .conftest import World, new_client


async def _issued(world: World, client_id: str) -> IssuedTokens:
    return await world.store.tokens.issue(client_id, None, frozenset({"read"}), 3600, "mac")


@pytest.mark.parametrize(
    ("first", "then"), [("hmac-sha-256", "hmac-sha-1"), ("hmac-sha-1", "hmac-sha-256")], ids=["to sha-1", "to sha-256"]
)
async def test_token_keeps_the_algorithm_that_it_came_with(
    world: World, first: MacAlgorithm, then: MacAlgorithm
) -> None:
    new = new_client("mac", mac_algorithm=first)
    client, _ = await world.store.clients.create(new)
    async with world.worker() as worker:
        old = await _issued(world, client.client_id)
        assert isinstance(await world.check(world.signed(old, nonce="a"), worker.guard), Allowed)
        await world.store.clients.update(client.client_id, replace(new, mac_algorithm=then))
        later = await _issued(world, client.client_id)
        assert (old.mac_algorithm, later.mac_algorithm) == (first, then)
        for tokens in (old, later):
            verdict = await world.check(world.signed(tokens, nonce="b"), worker.guard)
            assert isinstance(verdict, Allowed)
            other: MacAlgorithm = then if tokens.mac_algorithm == first else first
            forged = await world.check(world.signed(tokens, nonce="c", algorithm=other), worker.guard)
            assert isinstance(forged, Refused)
            assert (forged.status, forged.cause) == (401, "wrong MAC")


async def test_token_follows_the_drafts_of_its_client_also_where_it_is_cached(world: World) -> None:
    new = new_client("mac")
    client, _ = await world.store.clients.create(new)
    async with world.worker() as worker:
        tokens = await _issued(world, client.client_id)

        async def passes(draft: MacDraft, nonce: str) -> bool:
            changes = {"ts": None, "nonce": f"1:{nonce}"} if draft == "00" else {"nonce": nonce}
            return isinstance(await world.check(world.signed(tokens, **changes), worker.guard), Allowed)

        assert (await passes("01", "a"), await passes("00", "a")) == (True, False)
        position = worker.ledger.position
        await world.store.clients.update(client.client_id, replace(new, mac_drafts=("00",)))
        await worker.moves(position)
        assert (await passes("01", "b"), await passes("00", "b")) == (False, True)


async def test_kind_of_a_token_stays(world: World) -> None:
    new = new_client("bearer")
    client, _ = await world.store.clients.create(new)
    bearer = await world.store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)
    await world.store.clients.update(client.client_id, replace(new, token_type="mac"))
    assert isinstance(await world.check(world.call(f"Bearer {bearer.access_token}")), Allowed)
    signs = await world.store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)
    assert isinstance(await world.check(world.signed(signs)), Allowed)
