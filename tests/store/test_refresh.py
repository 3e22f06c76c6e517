"""Refresh tokens rotate; reuse ends the family, but for the grace that a lost answer needs."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.crypto import Keyring
from gateway.errors import OAuthError
from gateway.store import IssuedTokens, Store
from tests.counts import scaled
from tests.store.rig import NEW_CLIENT, MovableClock, Rig, count, everything, outcome

READ = frozenset({"read"})


@pytest.mark.parametrize("confidential", [True, False])
async def test_refresh_rotates_and_the_chain_goes_on(store: Store, confidential: bool) -> None:
    rig = await Rig.build(store, client=replace(NEW_CLIENT, confidential=confidential))
    tokens = await rig.tokens()
    seen = {tokens.refresh_token}
    for _ in range(4):
        tokens = await rig.refresh(tokens.refresh_token)
        assert tokens.refresh_token not in seen
        seen.add(tokens.refresh_token)
        assert await rig.lives(tokens)
        assert tokens.scope == "read write"


async def test_reuse_ends_the_whole_family_and_no_other(rig: Rig) -> None:
    first = await rig.tokens()
    second = await rig.refresh(first.refresh_token)
    others = await rig.tokens()
    assert await outcome(rig.refresh(first.refresh_token)) == "invalid_grant"
    assert not await rig.lives(first)
    assert not await rig.lives(second)
    assert await outcome(rig.refresh(second.refresh_token)) == "invalid_grant"
    assert await rig.lives(await rig.refresh(others.refresh_token))


async def test_narrower_scope_is_for_that_access_token_only(rig: Rig) -> None:
    first = await rig.tokens()
    narrow = await rig.refresh(first.refresh_token, scopes=READ)
    assert narrow.scope == "read"
    assert (await rig.refresh(narrow.refresh_token)).scope == "read write"


async def test_wider_scope_is_refused_and_spends_nothing(rig: Rig, database: str) -> None:
    first = await rig.tokens(scopes=READ)
    before = await everything(database)
    assert await outcome(rig.refresh(first.refresh_token, scopes=frozenset({"read", "write"}))) == "invalid_scope"
    assert await everything(database) == before
    assert await rig.lives(await rig.refresh(first.refresh_token))


async def test_scopes_that_were_taken_from_the_client_are_not_issued_again(rig: Rig) -> None:
    first, code = await rig.tokens(), await rig.code()
    rig.client = replace(rig.client, scopes=READ)  # as the endpoint reads it after `client update --scope read`
    assert (await rig.refresh(first.refresh_token)).scope == "read"
    assert (await rig.redeem(code)).scope == "read"


async def test_another_clients_refresh_token_is_refused_without_effect(rig: Rig, store: Store, database: str) -> None:
    first = await rig.tokens()
    second = await rig.refresh(first.refresh_token)
    thief, _ = await store.clients.create(NEW_CLIENT)
    before = await everything(database)
    for token in (first.refresh_token, second.refresh_token):
        assert await outcome(rig.refresh(token, client=thief)) == "invalid_grant"
    assert await everything(database) == before
    assert await rig.lives(second)


async def test_refresh_token_expires_when_it_is_not_used(rig: Rig, clock: MovableClock) -> None:
    tokens = await rig.tokens()
    clock.advance(13 * 86400)
    tokens = await rig.refresh(tokens.refresh_token)
    clock.advance(13 * 86400)
    tokens = await rig.refresh(tokens.refresh_token)
    clock.advance(14 * 86400)
    assert await outcome(rig.refresh(tokens.refresh_token)) == "invalid_grant"


@pytest.mark.parametrize("token", ["gwr_invented", "gwr_" + "x" * 40, "\ud800", "ä"])
async def test_invented_refresh_token_is_refused_without_the_database(rig: Rig, store: Store, token: str) -> None:
    await store.close()
    assert await outcome(rig.refresh(token)) == "invalid_grant"


@pytest.mark.parametrize("token", ["", "of-another-shape", "x" * 1000])
async def test_unknown_refresh_token_of_another_shape_is_looked_for(rig: Rig, token: str) -> None:
    assert await outcome(rig.refresh(token)) == "invalid_grant"


@pytest.mark.long
async def test_of_parallel_uses_without_grace_exactly_one_succeeds(
    rig: Rig, another: Callable[..., Awaitable[Store]]
) -> None:
    stores = (await another(), await another())
    for _ in range(scaled(100)):
        tokens = await rig.tokens()
        tries = [outcome(rig.refresh(tokens.refresh_token, store=stores[number % 2])) for number in range(20)]
        assert Counter(await asyncio.gather(*tries)) == {"ok": 1, "invalid_grant": 19}
        assert not await rig.lives(tokens)


async def test_within_the_grace_the_same_successor_is_answered(
    rig: Rig, another: Callable[..., Awaitable[Store]]
) -> None:
    store = await another(refresh_grace="30s")
    tokens = await rig.tokens()
    first = await rig.refresh(tokens.refresh_token, store=store)
    again = await rig.refresh(tokens.refresh_token, store=store, scopes=READ)
    assert again.refresh_token == first.refresh_token
    assert again.access_token != first.access_token
    assert again.scope == "read"
    assert await rig.lives(first)
    assert await rig.lives(again)
    assert await rig.lives(await rig.refresh(first.refresh_token, store=store))


@pytest.mark.long
async def test_parallel_uses_within_the_grace_all_get_the_same_successor(
    rig: Rig, another: Callable[..., Awaitable[Store]], database: str
) -> None:
    stores = (await another(refresh_grace="30s"), await another(refresh_grace="30s"))
    for _ in range(scaled(50)):
        tokens = await rig.tokens()
        answers: list[IssuedTokens] = await asyncio.gather(
            *(rig.refresh(tokens.refresh_token, store=stores[number % 2]) for number in range(10))
        )
        assert len({answer.refresh_token for answer in answers}) == 1
        assert len({answer.access_token for answer in answers}) == 10
        assert await rig.lives(answers[0])


async def test_after_the_grace_reuse_ends_the_family(
    rig: Rig, another: Callable[..., Awaitable[Store]], clock: MovableClock
) -> None:
    store = await another(refresh_grace="30s", clock=clock)
    tokens = await rig.tokens()
    first = await rig.refresh(tokens.refresh_token, store=store)
    clock.advance(30.5)
    assert await outcome(rig.refresh(tokens.refresh_token, store=store)) == "invalid_grant"
    assert not await rig.lives(first)


async def test_grace_ends_when_the_successor_is_used(rig: Rig, another: Callable[..., Awaitable[Store]]) -> None:
    store = await another(refresh_grace="30s")
    tokens = await rig.tokens()
    second = await rig.refresh(tokens.refresh_token, store=store)
    third = await rig.refresh(second.refresh_token, store=store)
    assert await outcome(rig.refresh(tokens.refresh_token, store=store)) == "invalid_grant"
    assert not await rig.lives(third)


async def test_grace_is_for_the_same_client_only(rig: Rig, another: Callable[..., Awaitable[Store]]) -> None:
    store = await another(refresh_grace="30s")
    tokens = await rig.tokens()
    first = await rig.refresh(tokens.refresh_token, store=store)
    thief, _ = await store.clients.create(NEW_CLIENT)
    assert await outcome(rig.refresh(tokens.refresh_token, store=store, client=thief)) == "invalid_grant"
    assert await rig.lives(first)


async def test_clock_that_is_set_back_does_not_revive_a_used_one(
    rig: Rig, another: Callable[..., Awaitable[Store]]
) -> None:
    store = await another(refresh_grace="30s")
    tokens = await rig.tokens()
    await rig.refresh(tokens.refresh_token)
    back = store.now() - timedelta(hours=1)
    assert await outcome(rig.refresh(tokens.refresh_token, store=store, now=back)) == "invalid_grant"


async def test_grace_outlives_a_new_master_key(rig: Rig, another: Callable[..., Awaitable[Store]]) -> None:
    tokens = await rig.tokens()
    first = await rig.refresh(tokens.refresh_token)
    rotated = Keyring(b"another-obviously-fake-test-key!", (b"obviously-a-fake-key-for-tests!!",))
    store = await another(keys=rotated, refresh_grace="30s")
    again = await rig.refresh(tokens.refresh_token, store=store)
    assert again.refresh_token == first.refresh_token
    assert (await rig.refresh(again.refresh_token, store=store)).refresh_token != first.refresh_token


async def test_revocation_during_refreshes_leaves_no_live_token(
    rig: Rig, another: Callable[..., Awaitable[Store]]
) -> None:
    stores = (await another(), await another())
    for _ in range(20):
        pairs = [await rig.tokens() for _ in range(3)]
        results: list[Any] = await asyncio.gather(
            *(rig.refresh(pair.refresh_token, store=stores[number % 2]) for number, pair in enumerate(pairs)),
            stores[1].users.revoke_tokens("ada"),
            return_exceptions=True,
        )
        for tokens in results[:-1]:
            assert isinstance(tokens, OAuthError) or not await rig.lives(tokens)


async def test_family_is_one_row_however_long_the_chain(rig: Rig, database: str) -> None:
    tokens = await rig.tokens()
    for _ in range(5):
        tokens = await rig.refresh(tokens.refresh_token)
    assert await count(database, "families") == 1
    assert await count(database, "refresh_tokens") == 6
