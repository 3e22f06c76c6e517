"""Signed calls that state a hash of their body: all is judged but the body and the nonce, and the nonce comes last."""

import asyncio
import time
from typing import Any

import asyncpg
import pytest

from fuzz.values import changed
from gateway.config import compile_routes
from gateway.credentials import mac
from gateway.errors import Refused
from gateway.guard import Allowed, BodyAwaited, Call, Guard, settled
from gateway.model import MacAlgorithm
from gateway.store.records import IssuedTokens
from tests.serving import crowding

from .conftest import TABLES, World, new_client, settings_for, verdict_of

BODY = b"hello=world%21"


def hashed(
    world: World, tokens: IssuedTokens, body: bytes = BODY, *, algorithm: MacAlgorithm | None = None, **changes: Any
) -> Call:
    """A signed call that states the hash of `body`, in `ext` or, with a nonce of draft 00, in `bodyhash`."""
    assert tokens.mac_algorithm is not None
    text = mac.body_hash(algorithm or tokens.mac_algorithm, body)
    if ":" in changes.get("nonce", ""):
        changes |= {"ts": None, "bodyhash": text}
    else:
        changes |= {"ext": f"body_hash={text}"}
    return changed(world.signed(tokens, method="POST", **changes), has_body=True)


async def awaited(world: World, call: Call, guard: Guard | None = None) -> BodyAwaited:
    """What the guard says of a call whose body is yet to come."""
    found = (guard or world.guard).check(call)
    verdict = await settled(found)
    assert isinstance(verdict, BodyAwaited), verdict
    return verdict


async def draft_00(world: World, algorithm: MacAlgorithm = "hmac-sha-256") -> IssuedTokens:
    client, _ = await world.store.clients.create(new_client("mac", mac_drafts=("00",), mac_algorithm=algorithm))
    return await world.store.tokens.issue(client.client_id, None, frozenset({"read", "write"}), 3600, None)


def refused(verdict: object, status: int = 401, said: str = "") -> Refused:
    assert isinstance(verdict, Refused), verdict
    assert verdict.status == status
    assert said in verdict.description
    return verdict


async def test_body_is_awaited_and_the_nonce_is_spent_when_asked_to(world: World) -> None:
    call = hashed(world, await world.token("write", kind="mac"))
    verdict = await awaited(world, call)
    assert await world.nonces() == 0
    verdict.check.update(BODY)
    assert verdict.check.fits()
    allowed = await verdict.spend()
    assert isinstance(allowed, Allowed)
    assert (allowed.scheme, sorted(allowed.scopes)) == ("mac", ["write"])
    assert await world.nonces() == 1
    again = await awaited(world, call)
    refused(await again.spend(), said="nonce was used before")


@pytest.mark.parametrize("algorithm", ["hmac-sha-256", "hmac-sha-1"])
async def test_body_hash_of_draft_00_is_by_the_token_s_algorithm(world: World, algorithm: MacAlgorithm) -> None:
    tokens = await draft_00(world, algorithm)
    verdict = await awaited(world, hashed(world, tokens, nonce="1:n"))
    verdict.check.update(BODY)
    assert verdict.check.fits()
    other: MacAlgorithm = "hmac-sha-1" if algorithm == "hmac-sha-256" else "hmac-sha-256"
    call = hashed(world, tokens, nonce="2:n", algorithm=other)
    refused(await world.check(call), said="must be hashed with the token's algorithm")
    assert await world.nonces() == 0


async def test_another_body_is_refused_with_challenges_and_keeps_the_nonce(world: World) -> None:
    call = hashed(world, await world.token("write", kind="mac"))
    verdict = await awaited(world, call)
    verdict.check.update(BODY + b"x")
    assert not verdict.check.fits()
    refused(verdict.misfit, said="does not match the signed hash")
    assert verdict.misfit.error == "invalid_token"
    challenges = verdict.misfit.values("WWW-Authenticate")
    assert [challenge.split(" ")[0] for challenge in challenges] == ["Bearer", "MAC"]
    assert ['error="invalid_token"' in challenge for challenge in challenges] == [False, True]
    assert await world.nonces() == 0
    assert isinstance(await (await awaited(world, call)).spend(), Allowed)


async def test_each_check_of_a_body_begins_anew(world: World) -> None:
    call = hashed(world, await world.token("write", kind="mac"))
    (await awaited(world, call)).check.update(b"something else")
    second = await awaited(world, call)
    second.check.update(BODY)
    assert second.check.fits()


async def test_what_is_wrong_before_the_body_is_refused_without_it(world: World) -> None:
    tokens = await world.token("write", kind="mac")
    right = hashed(world, tokens)
    now = int(world.clock())
    calls = [
        (changed(right, target=b"/notes"), 401),
        (changed(right, method="PUT"), 401),
        (changed(right, authorization=(right.authorization[0].replace(b"body_hash", b"BODY_HASH"),)), 401),
        (hashed(world, tokens, body=BODY + b"x", key="x" * 43), 401),
        (hashed(world, tokens, ts=str(now - 100)), 401),
        (hashed(world, await world.token("read", kind="mac")), 403),
        (changed(hashed(world, tokens), authorization=right.authorization * 2), 400),
    ]
    for call, status in calls:
        refused(await world.check(call), status)
    assert await world.nonces() == 0


@pytest.mark.parametrize(("said", "passes"), [(b"", True), (BODY, False)])
async def test_call_without_a_body_is_held_against_the_hash_of_nothing(world: World, said: bytes, passes: bool) -> None:
    tokens = await world.token("write", kind="mac")
    verdict = await world.check(changed(hashed(world, tokens, said), has_body=False))
    assert isinstance(verdict, Allowed) is passes
    assert await world.nonces() == int(passes)


# -- what may have happened while the body came --------------------------------------------------------------


async def test_token_that_was_revoked_while_the_body_came_does_not_pass(world: World) -> None:
    tokens = await world.token("write", kind="mac")
    verdict = await awaited(world, hashed(world, tokens))
    await world.store.tokens.revoke(tokens.access_token, None)
    refused(await verdict.spend(), said="unknown, expired or revoked")
    assert await world.nonces() == 0


async def test_token_that_ended_while_the_body_came_does_not_pass(world: World) -> None:
    verdict = await awaited(world, hashed(world, await world.token("write", kind="mac", ttl=30)))
    world.clock.offset = 31
    refused(await verdict.spend(), said="unknown, expired or revoked")
    assert await world.nonces() == 0


async def test_timestamp_that_went_stale_while_the_body_came_does_not_pass(world: World) -> None:
    verdict = await awaited(world, hashed(world, await world.token("write", kind="mac")))
    world.clock.offset = 62
    refused(await verdict.spend(), said="timestamp")
    assert await world.nonces() == 0


async def test_one_of_many_parallel_bodies_with_one_nonce_passes(world: World) -> None:
    call = hashed(world, await world.token("write", kind="mac"))
    async with world.second_guard() as other:
        pending = [await awaited(world, call, guard) for guard in (world.guard, other) for _ in range(10)]
        verdicts = await asyncio.gather(*(each.spend() for each in pending))
    assert sum(isinstance(verdict, Allowed) for verdict in verdicts) == 1


async def test_time_that_the_body_takes_is_not_the_database_s(world: World) -> None:
    """The deadline of 2.1 s is for the database's work in all; what it took before the body counts, the body not."""
    tokens = await world.token("write", kind="mac")
    verdict = await awaited(world, hashed(world, tokens))
    connection = await asyncpg.connect(world.database)
    async with connection.transaction():
        await connection.execute("lock table access_tokens in access exclusive mode")
        started = time.monotonic()
        refused(await verdict.spend(), 503)
        assert time.monotonic() - started < 2.5 * crowding()
    await connection.close()
    assert await world.nonces() == 0
    assert isinstance(await (await awaited(world, hashed(world, tokens))).spend(), Allowed)


# -- routes that demand a hash -------------------------------------------------------------------------------


@pytest.fixture
def demanding(world: World) -> World:
    """The same, with routes that all demand a body hash of signed calls."""
    routes = [route | {"mac_body_hash": "mac" in route["auth"]} for route in TABLES["routes"]]
    settings = settings_for(world.keyring, routes=routes)
    return changed(world, routes={route.name: route for route in compile_routes(settings.config)})


async def test_route_demands_a_hash_of_signed_calls_with_a_body_only(demanding: World) -> None:
    tokens, bearer = await demanding.token("read", "write", kind="mac"), await demanding.token("write")
    bare = changed(demanding.signed(tokens, method="POST"), has_body=True)
    verdict = refused(await verdict_of(demanding.guard, bare), said="requires a signed hash of the body")
    assert verdict.error == "invalid_token"
    assert await demanding.nonces() == 0
    await awaited(demanding, hashed(demanding, tokens))
    assert isinstance(await demanding.check(changed(bare, has_body=False)), Allowed)
    call = demanding.call(f"Bearer {bearer.access_token}", method="POST", has_body=True)
    assert isinstance(await demanding.check(call), Allowed)


async def test_demand_is_told_to_the_holder_of_the_key_only(demanding: World) -> None:
    tokens = await demanding.token("write", kind="mac")
    forged = changed(demanding.signed(tokens, method="POST", key="x" * 43), has_body=True)
    assert "hash" not in refused(await demanding.check(forged)).description


async def test_hash_that_is_stated_counts_where_none_is_demanded(world: World) -> None:
    await awaited(world, hashed(world, await world.token("write", kind="mac"), route="mac"))
