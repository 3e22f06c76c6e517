"""A scope that is taken away is gone: from what was issued with it, and for good."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import OAuthError
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store import IssuedTokens, Store
from tests.counts import scaled
from tests.store.rig import Rig, outcome

READ, WRITE = frozenset({"read"}), frozenset({"write"})
DEAD = {"active": False}


async def untick(rig: Rig) -> object:
    return await rig.code(scopes=READ)


async def delete(rig: Rig) -> object:
    return await rig.store.scopes.end("write")


TAKING_AWAY = pytest.mark.parametrize("take_away", [untick, delete])
TakeAway = Callable[[Rig], Awaitable[object]]


@TAKING_AWAY
async def test_what_was_issued_with_a_scope_ends_when_it_is_taken_away(
    rig: Rig, store: Store, take_away: TakeAway
) -> None:
    both, code = await rig.tokens(), await rig.code()
    narrowed = await rig.refresh((await rig.tokens()).refresh_token, scopes=READ)  # a token of its family
    assert await take_away(rig)
    for tokens in (both, narrowed):
        assert not await rig.lives(tokens)
        assert await store.tokens.introspect(tokens.refresh_token or "", rig.client) == DEAD
        assert await outcome(rig.refresh(tokens.refresh_token)) == "invalid_grant"
        assert await outcome(rig.refresh(tokens.refresh_token, scopes=READ)) == "invalid_grant"
    assert await outcome(rig.redeem(code)) == "invalid_grant"


@TAKING_AWAY
async def test_what_was_issued_without_that_scope_goes_on(rig: Rig, store: Store, take_away: TakeAway) -> None:
    code = await store.flows.issue_code(rig.session_id, rig.request(scopes=READ), 60, remember=True)
    assert code is not None
    reads, both = await rig.redeem(code), await rig.tokens()
    assert await take_away(rig)
    assert not await rig.lives(both)
    assert await rig.lives(reads)
    assert (await rig.refresh(reads.refresh_token)).scope == "read"


@TAKING_AWAY
async def test_what_ended_stays_ended_when_the_scope_is_allowed_again(
    rig: Rig, store: Store, take_away: TakeAway
) -> None:
    old, code = await rig.tokens(), await rig.code()
    assert await take_away(rig)
    fresh = await rig.tokens()
    assert fresh.scope == "read write"
    assert await rig.lives(fresh)
    assert not await rig.lives(old)
    assert await outcome(rig.refresh(old.refresh_token)) == "invalid_grant"
    assert await outcome(rig.redeem(code)) == "invalid_grant"
    assert await rig.lives(fresh), "nor was that a reuse"


async def test_deleted_scope_ends_tokens_that_nobody_allowed(rig: Rig, store: Store) -> None:
    client_id = rig.client.client_id
    machine = await store.tokens.client_credentials(rig.client, ClientCredentialsGrant(WRITE), store.now())
    operators = await store.tokens.issue(client_id, "ada", READ | WRITE, 60, "mac")
    reading = await store.tokens.client_credentials(rig.client, ClientCredentialsGrant(READ), store.now())
    assert await store.scopes.end("write")
    assert [await rig.lives(tokens) for tokens in (machine, operators, reading)] == [False, False, True]
    assert not await store.scopes.end("write")


async def test_scope_is_taken_away_in_batches(rig: Rig, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.store.scopes._BATCH", 2)
    rigs = [rig] + [await Rig.build(store, username=f"user{number}") for number in range(4)]
    issued = [await each.tokens() for each in rigs]
    issued += [
        await store.tokens.client_credentials(rig.client, ClientCredentialsGrant(WRITE), store.now()) for _ in range(5)
    ]
    assert await store.scopes.end("write")
    assert not any([await rig.lives(tokens) for tokens in issued])
    assert [grant.scopes for each in rigs for grant in await store.grants.of(each.user.subject)] == [READ] * 5


async def settled(attempt: Awaitable[IssuedTokens]) -> IssuedTokens | None:
    try:
        return await attempt
    except OAuthError:
        return None


@pytest.mark.long
@TAKING_AWAY
async def test_nothing_escapes_that_is_issued_at_the_same_moment(rig: Rig, store: Store, take_away: TakeAway) -> None:
    for _ in range(scaled(500)):
        code, used = await rig.code(), (await rig.tokens()).refresh_token

        async def late(attempt: Awaitable[IssuedTokens]) -> IssuedTokens | None:
            await asyncio.sleep(random.uniform(0, 0.002))
            return await settled(attempt)

        redeemed, refreshed, _ = await asyncio.gather(late(rig.redeem(code)), late(rig.refresh(used)), take_away(rig))
        await store.flows.issue_code(rig.session_id, rig.request(), 60, remember=True)  # the grant grows again
        for tokens in (redeemed, refreshed):
            assert tokens is None or not await rig.lives(tokens)
            assert tokens is None or await settled(rig.refresh(tokens.refresh_token)) is None
