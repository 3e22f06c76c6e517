"""MACs of the usual form and with a token in the cache: judged at once, all but the nonce, and as all others are."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any

import asyncpg
import pytest

from fuzz.values import changed
from gateway.credentials import mac
from gateway.errors import Refused
from gateway.guard import Allowed, BodyAwaited, Call, Guard, Pending, Verdict, settled
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store.records import IssuedTokens
from tests.serving import crowding, until

from .conftest import SIGNATURE_FIELDS, Offset, Worker, World, new_client, settings_for, verdict_of


def _unusual(call: Call) -> Call:
    """The same with its attributes in another order."""
    (value,) = call.authorization
    attributes = value.removeprefix(b"MAC ").split(b", ")
    return changed(call, authorization=(b"MAC " + b", ".join(reversed(attributes)),))


def _is_at_once(guard: Guard, call: Call) -> bool:
    """Whether all but its nonce is judged at once, and right; the nonce is not waited for."""
    waiting = len(guard._nonces._main._timed._waiting)
    found = guard.check(call)
    if not isinstance(found, Pending):
        return False
    found.drop()
    return len(guard._nonces._main._timed._waiting) > waiting


async def _held(worker: Worker, tokens: IssuedTokens) -> None:
    await verdict_of(worker.guard, worker.world.signed(tokens, nonce="first"))
    await until(lambda: _is_at_once(worker.guard, worker.world.signed(tokens)))


@dataclass(frozen=True)
class Case:
    """A call: what is signed, and what is changed afterwards."""

    signed: dict[str, Any] = field(default_factory=dict)
    after: Callable[[Call], Call] = lambda call: call
    at_once: bool = False
    late: int = 0  # seconds that the timestamp is off


def _replaced(old: bytes, new: bytes) -> Callable[[Call], Call]:
    return lambda call: changed(call, authorization=(call.authorization[0].replace(old, new),))


CASES = {
    "right": Case(at_once=True),
    "with a body": Case(after=lambda call: changed(call, has_body=True), at_once=True),
    "HEAD": Case({"method": "HEAD"}, at_once=True),
    "at the edge of the skew": Case(late=-58, at_once=True),
    "stale": Case(late=-62),
    "ahead": Case(late=63),
    "with ext": Case({"ext": "a"}, at_once=True),
    "another path": Case(after=lambda call: changed(call, target=b"/notes/2")),
    "another method": Case(after=lambda call: changed(call, method="HEAD")),
    "another host": Case(after=lambda call: changed(call, host="other.example.com")),
    "another port": Case(after=lambda call: changed(call, port=80)),
    "another nonce": Case(after=_replaced(b'nonce="', b'nonce="x')),
    "another token": Case(after=_replaced(b'id="gwa_', b'id="gwa_x')),
    "another mac": Case({"key": "k" * 43}),
    "the other algorithm": Case({"algorithm": "hmac-sha-1"}),
    "a scope that it lacks": Case({"method": "DELETE"}),
    "another route": Case({"route": "other"}),
    "a route for bearer tokens": Case({"route": "bearer"}),
    "a token in the query": Case({"target": b"/notes/1?access_token=x"}),
    "signed by RFC 9421 too": Case(after=lambda call: changed(call, fields=SIGNATURE_FIELDS)),
}


@pytest.mark.parametrize("name", CASES)
async def test_usual_form_is_judged_as_any_other(world: World, name: str) -> None:
    case = CASES[name]
    world.clock.stop()  # a second that passes makes another nonce of the same characters
    client, _ = await world.store.clients.create(new_client("mac"))
    aimed = ("https://api.example.com/notes",)
    tokens = await world.store.tokens.client_credentials(
        client, ClientCredentialsGrant(frozenset({"read"}), aimed), datetime.now(UTC)
    )
    async with world.worker(elapsed=Offset()) as worker:
        await _held(worker, tokens)

        def call(nonce: str) -> Call:
            at = str(int(world.clock()) + case.late)
            return case.after(world.signed(tokens, ts=at, nonce=nonce, **case.signed))

        assert _is_at_once(worker.guard, call("looked at")) == case.at_once
        for nonce in ("a", "a", "b"):
            found = await verdict_of(worker.guard, call(nonce))
            other = await verdict_of(world.guard, _unusual(call(f"{nonce}-")))
            _agree(found, other)
        assert isinstance(found, Allowed) == case.at_once


def _agree(one: Verdict, other: Verdict) -> None:
    if isinstance(other, Refused):
        assert isinstance(one, Refused)
        told = attrgetter("status", "error", "description", "fields")
        assert told(one) == told(other)
    else:
        assert isinstance(one, Allowed)
        assert one == other


async def test_usual_form_passes_once_whatever_the_order_of_its_attributes(world: World) -> None:
    tokens = await world.token(kind="mac")
    async with world.worker() as worker, world.worker() as other:
        await _held(worker, tokens)
        await _held(other, tokens)
        for number in range(20):
            call = world.signed(tokens, nonce=f"n{number}")
            calls = [call, _unusual(call), call, _unusual(call)]
            found = await asyncio.gather(
                *(verdict_of((worker, other)[at % 3 == 0].guard, each) for at, each in enumerate(calls))
            )
            assert [isinstance(verdict, Allowed) for verdict in found].count(True) == 1
            assert {each.description for each in found if isinstance(each, Refused)} == {
                "The nonce was used before; sign each request with a new one."
            }


async def test_revoked_and_expired_tokens_are_refused_in_the_usual_form_too(world: World) -> None:
    revoked, expired = await world.token(kind="mac"), await world.token(kind="mac", ttl=30)
    async with world.worker() as worker:
        for tokens in (revoked, expired):
            await _held(worker, tokens)
        await world.store.tokens.revoke(revoked.access_token, None)
        await until(lambda: not _is_at_once(worker.guard, world.signed(revoked)), 5)
        world.clock.offset += 31
        for tokens in (revoked, expired):
            verdict = await verdict_of(worker.guard, world.signed(tokens, nonce="later"))
            assert isinstance(verdict, Refused)
            assert (verdict.status, verdict.error) == (401, "invalid_token")
            assert "unknown, expired or revoked" in verdict.description


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"drafts": ["00"]}, "Draft 01 is not accepted"),
        ({"algorithms": ["hmac-sha-1"]}, "hmac-sha-256 is not accepted"),
        ({"skew": "5s"}, "more than 5 seconds off"),
    ],
)
async def test_configuration_counts_in_the_usual_form_too(world: World, table: dict[str, Any], said: str) -> None:
    tokens = await world.token(kind="mac")
    guard = Guard(world.store, settings_for(world.keyring, mac=table), clock=world.clock)
    await guard.start()
    try:
        await until(Worker(world, world.store, guard).follows)
        for nonce in ("a", "b"):  # the second with a token in the cache
            verdict = await verdict_of(guard, world.signed(tokens, nonce=nonce, ts=str(int(world.clock()) - 20)))
            assert isinstance(verdict, Refused)
            assert said in verdict.description
        assert await world.nonces() == 0
    finally:
        await guard.close()


async def test_client_of_draft_00_does_not_sign_in_the_usual_form(world: World) -> None:
    client, _ = await world.store.clients.create(new_client("mac", mac_drafts=("00",)))
    tokens = await world.store.tokens.client_credentials(
        client, ClientCredentialsGrant(frozenset({"read"})), datetime.now(UTC)
    )
    async with world.worker() as worker:
        await verdict_of(worker.guard, world.signed(tokens, ts=None, nonce="1:n"))
        assert not _is_at_once(worker.guard, world.signed(tokens))
        verdict = await verdict_of(worker.guard, world.signed(tokens))
        assert isinstance(verdict, Refused)
        assert "Draft 01 is not accepted" in verdict.description


async def test_demanded_body_hash_is_demanded_in_the_usual_form_too(world: World) -> None:
    tokens = await world.token(kind="mac")
    world.routes["notes"] = changed(world.routes["notes"], mac_body_hash=True)
    async with world.worker() as worker:
        await _held(worker, tokens)
        call = changed(world.signed(tokens, nonce="with a body"), has_body=True)
        assert not _is_at_once(worker.guard, call)
        verdict = await verdict_of(worker.guard, call)
        assert isinstance(verdict, Refused)
        assert "requires a signed hash of the body" in verdict.description


async def test_body_with_a_hash_is_awaited_at_once_where_the_token_is_held(world: World) -> None:
    tokens = await world.token(kind="mac")
    ext = f"body_hash={mac.body_hash('hmac-sha-256', b'body')}"
    async with world.worker() as worker:
        await _held(worker, tokens)
        found = worker.guard.check(changed(world.signed(tokens, nonce="n", ext=ext), has_body=True))
        assert isinstance(found, BodyAwaited)
        found.check.update(b"body")
        assert found.check.fits()
        assert isinstance(await found.spend(), Allowed)


async def test_outage_is_503_in_time_in_the_usual_form_too(world: World) -> None:
    tokens = await world.token(kind="mac")
    async with world.worker() as worker:
        await _held(worker, tokens)
        connection = await _locked(world)
        try:
            began = time.monotonic()
            asked = [worker.guard.check(world.signed(tokens, nonce=f"n{number}")) for number in range(3)]
            await until(lambda: time.monotonic() - began > 1)  # the others wait behind what hangs
            late = time.monotonic()
            asked += [worker.guard.check(world.signed(tokens, nonce=f"late{number}")) for number in range(3)]
            for each in asked:
                verdict = await settled(each)
                assert isinstance(verdict, Refused)
                assert verdict.status == 503
            assert time.monotonic() - late < 2.5 * crowding()
        finally:
            await connection.close()
    async with world.worker() as worker:
        await worker.guard.close()
        verdict = await verdict_of(worker.guard, world.signed(tokens))
        assert isinstance(verdict, Refused)
        assert verdict.status == 503


async def _locked(world: World) -> Any:
    """A connection that keeps everybody from the nonces while it is open."""
    connection = await asyncpg.connect(world.database)
    await connection.execute("begin; lock table nonces in access exclusive mode")
    return connection
