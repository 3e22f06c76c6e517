"""The short way in (`Guard.door`, `Guard.enter`): where it has an answer, that is what the long way would have said.

The door is made of another call's head with another credential, as the engine keeps it.
"""

import random
from collections.abc import Awaitable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gateway.crypto import digest
from gateway.guard import Allowed, BodyAwaited, Call, Guard, Refused, Verdict
from gateway.store.clock import since_boot
from gateway.store.records import IssuedTokens
from tests.counts import scaled
from tests.guard.conftest import Worker, World, new_client

SPELLINGS = (
    *("Bearer %s",) * 7,
    "bearer %s",
    "Bearer  %s",
    "Bearer %s ",
    "Bearer %s=",
    "Bearer %s,x",
    "Bearer %sx",
    "Basic %s",
)
TARGETS = (*(b"/x",) * 5, b"/x?a=%61", b"/x?access_token=y", b"/x?a&%61ccess_token=y", b"/x?access_token_=y")
INVENTED = "gwa_" + "A" * 40


async def resolved(found: Verdict | BodyAwaited | Awaitable[Verdict | BodyAwaited]) -> Verdict:
    verdict = await found if isinstance(found, Awaitable) else found
    assert not isinstance(verdict, BodyAwaited)
    return verdict


def told(verdict: Verdict) -> tuple[object, ...]:
    """All of a verdict that anyone but the operator sees."""
    if isinstance(verdict, Refused):
        return verdict.status, verdict.error, verdict.description, verdict.challenges, verdict.accept_signature
    return verdict.principal, verdict.digest, verdict.ends_at


async def at_the_door(guard: Guard, call: Call) -> Verdict | None:
    """What the short way says, if anything."""
    if len(call.authorization) != 1:
        return None
    door = guard.door(replace(call, authorization=(b"Bearer another",)))
    entered = None if door is None else guard.enter(door, call.authorization[0])
    return None if entered is None else await resolved(entered)


async def agreed(worker: Worker, call: Call, again: Call | None = None) -> Verdict | None:
    """The short way's verdict, after it was compared with the long way's on the same call, or one like it."""
    entered = await at_the_door(worker.guard, call)
    if entered is not None:
        assert told(entered) == told(await resolved(worker.guard.examine(again or call))), call
    return entered


async def tokens_of(world: World) -> list[IssuedTokens]:
    now = datetime.now(UTC)
    client, _ = await world.store.create_client(new_client("mac"))
    aimed = [
        await world.store.client_credentials(world.client, frozenset({"read"}), (resource,), now)
        for resource in ("https://api.example.com/other", "https://api.example.com/notes")
    ]
    signing = await world.store.issue_token(client.client_id, None, frozenset({"read"}), 3600, "mac")
    short = await world.token("read", ttl=30.0)
    return [await world.token("read", "write"), await world.token("read"), short, *aimed, signing]


async def test_short_way_says_what_the_long_way_says(world: World) -> None:
    choice = random.Random(7)
    live = await tokens_of(world)
    dead = await world.token("read")
    names = [tokens.access_token for tokens in (*live, dead)]
    names += [INVENTED, INVENTED[:-1], names[0][:-1] + ("A" if names[0][-1] != "A" else "B"), "other", "", "ä"]
    async with world.worker() as worker:
        for tokens in (*live, dead):
            await worker.check(tokens)
        await worker.holds(live[0])
        await world.store.revoke_token(dead.access_token, None)
        await worker.refuses(dead, within=5)
        world.clock.offset = 60.0  # past the end of the short one
        answers = 0
        for number in range(scaled(5000)):
            if number % 20 == 0:
                await worker.holds(live[0])  # and let the log be followed meanwhile
            credential = choice.choice(SPELLINGS).replace("%s", choice.choice(names)).encode()
            call = world.call(
                credential,
                *choice.choice([(), (), (), (), (b"Bearer other",), (credential,)]),
                route=choice.choice(("notes", "notes", "other", "bearer", "mac", "public")),
                method=choice.choice(("GET", "HEAD", "POST", "DELETE")),
                target=choice.choice(TARGETS),
                signature_fields=choice.random() < 0.1,
                has_body=choice.random() < 0.3,
            )
            if call.route.schemes:
                answers += await agreed(worker, call) is not None
    assert answers > scaled(5000) / 25


async def test_short_way_takes_what_is_plain_and_nothing_else(world: World) -> None:
    async with world.worker() as worker:
        good = await world.token("read")
        await worker.holds(good)
        call = world.call(f"Bearer {good.access_token}")
        assert isinstance(await agreed(worker, call), Allowed)
        low = await agreed(worker, replace(call, method="POST"))
        assert isinstance(low, Refused)
        assert (low.status, low.error) == (403, "insufficient_scope")
        forged = await agreed(worker, replace(call, authorization=(b"Bearer " + INVENTED.encode(),)))
        assert isinstance(forged, Refused)
        assert (forged.status, forged.error) == (401, "invalid_token")
        for other in (
            replace(call, authorization=call.authorization * 2),
            replace(call, authorization=()),
            replace(call, signature_fields=True),
            replace(call, target=b"/x?access_token=" + good.access_token.encode()),
            replace(call, authorization=(b"Bearer unknown",)),
            replace(call, authorization=(b"Bearer " + INVENTED.encode() + b",",)),  # malformed: 400, not 401
            world.call(f"Bearer {good.access_token}", route="mac"),
        ):
            assert await at_the_door(worker.guard, other) is None, other


async def test_good_tokens_get_in_between_invented_ones_at_the_same_door(world: World) -> None:
    async with world.worker() as worker:
        good = await world.token("read")
        await worker.holds(good)
        door = worker.guard.door(world.call("Bearer x"))
        assert door is not None
        for _ in range(3):
            for name, kind in ((INVENTED, Refused), (INVENTED, Refused), (good.access_token, Allowed)):
                assert isinstance(worker.guard.enter(door, f"Bearer {name}".encode()), kind)
        assert worker.guard.enter(door, b"Bearer unknown") is None  # another issuer's may be, so it is asked about


async def test_door_closes_when_the_token_is_revoked_or_ends_though_it_was_made_before(world: World) -> None:
    async with world.worker() as worker:
        ended, revoked = await world.token("read", ttl=30.0), await world.token("read")
        call = world.call("Bearer x")
        door = worker.guard.door(call)
        assert door is not None
        for tokens in (ended, revoked):
            await worker.holds(tokens)
            assert isinstance(worker.guard.enter(door, f"Bearer {tokens.access_token}".encode()), Allowed)
        await world.store.revoke_token(revoked.access_token, None)
        await worker.refuses(revoked, within=5)
        assert worker.guard.enter(door, f"Bearer {revoked.access_token}".encode()) is None  # to be asked about
        world.clock.offset = 31.0
        late = worker.guard.enter(door, f"Bearer {ended.access_token}".encode())
        assert isinstance(late, Refused)
        assert (late.status, late.error) == (401, "invalid_token")


async def test_door_that_the_same_field_opens_again_and_again_closes_as_soon(world: World) -> None:
    async with world.worker() as worker:
        ended, revoked = await world.token("read", ttl=30.0), await world.token("read")
        fields = {}
        for tokens in (ended, revoked):
            await worker.holds(tokens)
            door = worker.guard.door(world.call("Bearer x"))
            assert door is not None
            fields[tokens.access_token] = door, f"Bearer {tokens.access_token}".encode()
            for _ in range(3):
                entered = worker.guard.enter(*fields[tokens.access_token])
                assert isinstance(entered, Allowed)
                assert entered.digest == digest(tokens.access_token)
        door, field = fields[revoked.access_token]
        assert isinstance(worker.guard.enter(door, fields[ended.access_token][1]), Allowed)
        assert isinstance(worker.guard.enter(door, field), Allowed)
        await world.store.revoke_token(revoked.access_token, None)
        await worker.refuses(revoked, within=5)
        assert worker.guard.enter(door, field) is None  # to be asked about
        world.clock.offset = 31.0
        late = worker.guard.enter(*fields[ended.access_token])
        assert isinstance(late, Refused)
        assert (late.status, late.error) == (401, "invalid_token")


async def test_door_that_the_same_field_opens_again_and_again_closes_with_the_lease(world: World) -> None:
    lapsed = 0.0
    async with world.worker(elapsed=lambda: since_boot() + lapsed) as worker:
        good = await world.token("read")
        await worker.holds(good)
        door, field = worker.guard.door(world.call("Bearer x")), f"Bearer {good.access_token}".encode()
        assert door is not None
        assert isinstance(worker.guard.enter(door, field), Allowed)
        lapsed = 3600.0
        assert worker.guard.enter(door, field) is None


async def test_short_way_of_signed_calls_says_what_the_long_way_says(world: World) -> None:
    client, _ = await world.store.create_client(new_client("mac"))
    tokens = await world.store.issue_token(client.client_id, None, frozenset({"read"}), 3600, "mac")
    bearer = await world.token("read")
    numbers = iter(range(1_000_000))
    choice = random.Random(8)
    stale = str(int(world.clock()) - 100_000)

    def nonce() -> str:
        return f"n{next(numbers)}"

    async with world.worker() as worker:
        await worker.check(tokens)
        await worker.holds(bearer)
        answers = 0
        for _ in range(scaled(2000)):
            where: dict[str, Any] = {"route": choice.choice(("notes", "other", "mac"))}
            where["method"] = choice.choice(("GET", "POST"))
            changes: dict[str, Any] = choice.choice(
                [{}, {}, {}, {"ext": "a"}, {"ts": stale}, {"key": "wrong"}, {"id": "other"}]
            )
            signed, twin = (world.signed(tokens, **where, **changes, nonce=nonce()) for _ in range(2))
            altered: dict[str, Any] = choice.choice(
                [{}, {}, {"target": b"/elsewhere"}, {"signature_fields": True}, {"host": "b"}]
            )
            call, like = replace(signed, **altered), replace(twin, **altered)
            verdict = await agreed(worker, call, like)
            answers += verdict is not None
            if isinstance(verdict, Allowed):
                assert not changes.keys() - {"ext"}
                assert not altered
                replayed = await agreed(worker, call)
                assert isinstance(replayed, Refused)
                assert replayed.status == 401
    assert answers > scaled(2000) / 20
