"""MAC tokens before the guard: what passes once, what never does, and that nothing forged or stale writes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from oauthlib.oauth2.rfc6749.tokens import prepare_mac_header

from fuzz.values import changed
from gateway.crypto import digest
from gateway.errors import Refused
from gateway.guard import Allowed, Call, Guard
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store.records import IssuedTokens
from tests.counts import scaled
from tests.serving import crowding, until

from .conftest import SIGNATURE_FIELDS, Worker, World, new_client, settings_for, verdict_of


def _is_refused(verdict: object, status: int, error: str, said: str = "") -> Refused:
    assert isinstance(verdict, Refused)
    assert (verdict.status, verdict.error) == (status, error)
    assert said in verdict.description
    return verdict


# -- what passes ---------------------------------------------------------------------------------------------


async def test_signed_request_passes_once(world: World) -> None:
    tokens = await world.token(kind="mac")
    call = world.signed(tokens)
    verdict = await world.check(call)
    assert isinstance(verdict, Allowed)
    assert verdict.scheme == "mac"
    assert verdict.scopes == {"read"}
    assert await world.nonces() == 1
    _is_refused(await world.check(call), 401, "invalid_token", "nonce was used before")
    assert await world.nonces() == 1


async def test_client_of_oauthlib_passes_once(world: World) -> None:
    tokens = await world.token(kind="mac")
    headers = prepare_mac_header(
        tokens.access_token,
        "https://api.example.com/notes/1?b=1&a=2",
        tokens.mac_key or "",
        "GET",
        hash_algorithm="hmac-sha-256",
        ext="app data",
        draft=1,
    )
    call = world.call(headers["Authorization"])
    assert isinstance(await world.check(call), Allowed)
    _is_refused(await world.check(call), 401, "invalid_token", "nonce")


async def test_client_of_oauthlib_signs_another_port(world: World) -> None:
    tokens = await world.token("write", kind="mac")
    headers = prepare_mac_header(
        tokens.access_token, "http://127.0.0.1:8080/notes", tokens.mac_key or "", "POST", body="x=y",
        hash_algorithm="hmac-sha-256", draft=1,
    )  # fmt: skip
    call = world.call(headers["Authorization"], method="POST", target=b"/notes", host="127.0.0.1", port=8080)
    assert isinstance(await world.check(call), Allowed)


async def _draft_00(world: World, **changes: Any) -> IssuedTokens:
    client, _ = await world.store.clients.create(new_client("mac", mac_drafts=("00",), **changes))
    return await world.store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)


async def test_client_of_oauthlib_passes_by_draft_00_if_created_so(world: World) -> None:
    tokens = await _draft_00(world, mac_algorithm="hmac-sha-1")
    headers = prepare_mac_header(
        tokens.access_token, "https://api.example.com/notes/1?b=1&a=2", tokens.mac_key or "", "GET",
        issue_time=datetime.now(UTC).replace(tzinfo=None),
    )  # fmt: skip
    call = world.call(headers["Authorization"])
    assert isinstance(await world.check(call), Allowed)
    _is_refused(await world.check(call), 401, "invalid_token", "nonce")


async def test_same_nonce_passes_with_another_time_and_another_token(world: World) -> None:
    one, two = await world.token(kind="mac"), await world.token(kind="mac")
    now = int(world.clock())
    for tokens, ts in ((one, now), (one, now - 1), (two, now)):
        assert isinstance(await world.check(world.signed(tokens, ts=str(ts))), Allowed)
    assert await world.nonces() == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"target": b"/notes"},
        {"target": b"/notes?"},
        {"target": b"/notes/1?q=%zz&&;"},
        {"target": b"/notes/\xc3\xa4?\xff"},
        {"host": "[::1]", "port": 8080},
        {"ext": "the body_hash, and a=b&more"},
        {"nonce": "a b,c;=" * 10},
        {"method": "HEAD"},
    ],
)
async def test_any_right_signature_passes(world: World, changes: dict[str, Any]) -> None:
    tokens = await world.token("read", "write", kind="mac")
    assert isinstance(await world.check(world.signed(tokens, **changes)), Allowed)


# -- malformed, forged, stale: refused, and nothing is written -----------------------------------------------

_HEADER = 'MAC id="{id}", ts="{ts}", nonce="{nonce}", mac="{mac}"'


def _parts(call: Call) -> dict[str, str]:
    pairs = (pair.split("=", 1) for pair in call.authorization[0].decode().removeprefix("MAC ").split(", "))
    return {name: value.strip('"') for name, value in pairs}


def _with(**changes: str) -> Callable[[Call], Call]:
    """The signed call with other attributes, the signature left as it was."""

    def change(call: Call) -> Call:
        return changed(call, authorization=(_HEADER.format(**_parts(call) | changes).encode("latin-1"),))

    return change


def _text(text: str) -> Callable[[Call], Call]:
    """The signed call with a credential written anew from its attributes."""

    def change(call: Call) -> Call:
        return changed(call, authorization=(text.format(**_parts(call)).encode("latin-1"),))

    return change


def _call(**changes: Any) -> Callable[[Call], Call]:
    """The signed call with another request around its credential."""

    def change(call: Call) -> Call:
        return changed(call, **changes)

    return change


_MALFORMED: list[Callable[[Call], Call]] = [
    *[_text(_HEADER.replace(f'{name}="{{{name}}}", ', "")) for name in ("id", "ts", "nonce")],
    _text('MAC id="{id}", ts="{ts}", nonce="{nonce}"'),
    *[_text(_HEADER + f', {name}="{{{name}}}"') for name in ("id", "ts", "nonce", "mac")],
    *[_with(**{name: ""}) for name in ("id", "ts", "nonce", "mac")],
    *[_text(_HEADER.replace(f'"{{{name}}}"', f"{{{name}}}")) for name in ("id", "ts", "nonce", "mac")],
    _with(id="a" * 257),
    _with(nonce="a" * 129),
    _text(_HEADER + ', ext="' + "a" * 1025 + '"'),
    *[_with(nonce=f"a{char}b") for char in '\x00\n\r\t\x1b\x7f\xe4"'],
    *[_with(ts=ts) for ts in ("-1", "1.5", "0", "01", "9" * 20, "now", "1e9", " 1")],
    *[_with(mac=value) for value in ("####", "AAA", "AA-_", "a" * 92)],
    _text("MAC"),
    _text("MAC {id}"),
    _text(_HEADER.replace(",", ";")),
    _text(_HEADER + ', kid="1"'),
    _text(_HEADER + ', bodyhash="AAAA"'),
    _text(_HEADER + ", Bearer {id}"),
    _text("Bearer {id}, " + _HEADER),
    _call(method="get"),
    _call(target=b"/notes/1?access_token=x"),
    _call(fields=SIGNATURE_FIELDS),
    lambda call: changed(call, authorization=call.authorization * 2),
    lambda call: changed(call, authorization=(*call.authorization, b"Bearer a")),
]

_FORGED: list[Callable[[Call], Call]] = [
    _with(mac="A" * 43 + "="),
    _with(mac="A" * 27 + "="),
    _with(mac="A" * 88),
    _with(nonce="n2"),
    _with(ts="1"),
    _text(_HEADER + ', ext="added"'),
    _text('MAC id="{id}", nonce="0:{nonce}", mac="{mac}"'),
    _call(method="POST"),
    _call(method="HEAD"),
    _call(target=b"/notes/1?a=2&b=1"),
    _call(target=b"/notes/1?b=1&a=2&"),
    _call(target=b"/notes/1"),
    _call(target=b"/notes/2?b=1&a=2"),
    _call(target=b"/notes/./1?b=1&a=2"),
    _call(target=b"/notes/%31?b=1&a=2"),
    _call(host="other.example.com"),
    _call(port=80),
    _call(port=8443),
]


@asynccontextmanager
async def _judge(world: World, tokens: IssuedTokens, *, held: bool) -> AsyncIterator[Guard]:
    """A guard that asks the database for the token each time, or one that holds it and may let it in at once."""
    if not held:
        yield world.guard
        return
    async with world.worker() as worker:
        await until(lambda: _is_held(worker, tokens))
        yield worker.guard


async def _is_held(worker: Worker, tokens: IssuedTokens) -> bool:
    await worker.check(tokens)  # a MAC token is no bearer token, but is known from then on
    return worker.guard._cached(digest(tokens.access_token)) is not None


@pytest.mark.parametrize("held", [False, True])
async def test_malformed_mac_is_refused_and_writes_nothing(world: World, held: bool) -> None:
    tokens = await world.token("read", "write", kind="mac")
    signed = world.signed(tokens)
    async with _judge(world, tokens, held=held) as guard:
        for change in _MALFORMED:
            _is_malformed(guard, change(signed))
        assert await world.nonces() == 0
        assert isinstance(await world.check(signed, guard), Allowed)


def _is_malformed(guard: Guard, call: Call) -> None:
    verdict = guard.check(call)
    assert isinstance(verdict, Refused), call
    assert (verdict.status, verdict.error) == (400, "invalid_request"), call
    used = {value.partition(b" ")[0].lower() for value in call.authorization}
    used |= {b"bearer"} if b"access_token=" in call.target else set()
    challenges = [one for one in verdict.values("WWW-Authenticate") if 'error="invalid_request"' in one]
    told = {one.partition(" ")[0].lower().encode() for one in challenges}
    assert told == used & {b"bearer", b"mac"}, call


@pytest.mark.parametrize("held", [False, True])
async def test_altered_request_is_refused_and_writes_nothing(world: World, held: bool) -> None:
    tokens = await world.token("read", "write", kind="mac")
    signed = world.signed(tokens)
    async with _judge(world, tokens, held=held) as guard:
        for change in _FORGED:
            call = change(signed)
            verdict = await world.check(call, guard)
            assert isinstance(verdict, Refused), call
            assert (verdict.status, verdict.error, verdict.cause) == (401, "invalid_token", "wrong MAC"), call
        assert await world.nonces() == 0
        assert isinstance(await world.check(signed, guard), Allowed)


async def test_forged_and_unknown_read_alike(world: World) -> None:
    tokens = await world.token(kind="mac")
    bearer = await world.token()
    revoked = await world.token(kind="mac")
    await world.store.tokens.revoke(revoked.access_token, None)
    key = tokens.mac_key or ""
    forged = _is_refused(await world.check(world.signed(tokens, key="x" * 43)), 401, "invalid_token")
    for call in (
        world.signed(tokens, id=world.keyring.new_token("gwa_")),
        world.signed(tokens, id="gwa_invented"),
        world.signed(tokens, id="imported-from-elsewhere"),
        world.signed(revoked),
        world.signed(revoked, id=tokens.access_token),
        world.signed(tokens, id=bearer.access_token),
        world.signed(bearer, key=key, algorithm="hmac-sha-256"),
        world.signed(tokens, algorithm="hmac-sha-1"),
        world.signed(tokens, ts="1", key="y" * 43),
    ):
        refused = _is_refused(await world.check(call), 401, "invalid_token")
        assert (refused.description, refused.fields) == (forged.description, forged.fields)
    assert await world.nonces() == 0


async def test_mac_token_is_no_bearer_token_and_the_other_way_round(world: World) -> None:
    tokens, bearer = await world.token(kind="mac"), await world.token()
    _is_refused(await world.check(world.call(f"Bearer {tokens.access_token}")), 401, "invalid_token")
    call = world.signed(tokens, id=bearer.access_token, key=bearer.access_token)
    _is_refused(await world.check(call), 401, "invalid_token")


@pytest.mark.parametrize("off", [-60, -59, -1, 0, 1, 59])
async def test_timestamp_within_the_skew_passes(world: World, off: int) -> None:
    tokens = await world.token(kind="mac")
    world.clock.stop(int(time.time()))  # the start of a second
    assert isinstance(await world.check(world.signed(tokens, ts=str(int(world.clock()) + off))), Allowed)


@pytest.mark.parametrize("off", [-(10**6), -3600, -63, 63, 3600, 10**6])
async def test_timestamp_beyond_the_skew_is_refused_and_writes_nothing(world: World, off: int) -> None:
    tokens = await world.token(kind="mac")
    world.clock.stop()
    verdict = await world.check(world.signed(tokens, ts=str(int(world.clock()) + off)))
    _is_refused(verdict, 401, "invalid_token", "timestamp is more than 60 seconds off")
    assert await world.nonces() == 0


async def test_configured_skew_counts(world: World) -> None:
    tokens = await world.token(kind="mac")
    guard = Guard(world.store, settings_for(world.keyring, mac={"skew": "10m"}), clock=world.clock)
    world.clock.stop()
    for off, passes in ((-598, True), (598, True), (-605, False), (605, False)):
        verdict = await verdict_of(guard, world.signed(tokens, ts=str(int(world.clock()) + off)))
        assert isinstance(verdict, Allowed) is passes


async def test_clock_set_back_revives_no_signature(world: World) -> None:
    tokens = await world.token(kind="mac")
    call = world.signed(tokens)
    world.clock.offset = 100
    _is_refused(await world.check(call), 401, "invalid_token", "timestamp")
    world.clock.offset = 0
    _is_refused(await world.check(call), 401, "invalid_token", "timestamp")


@pytest.mark.parametrize("off", [-55, 0, 55])
async def test_nonce_is_remembered_longer_than_its_time_is_accepted(world: World, off: int) -> None:
    tokens = await world.token(kind="mac")
    ts = int(world.clock()) + off
    call = world.signed(tokens, ts=str(ts))
    assert isinstance(await world.check(call), Allowed)
    world.clock.stop(ts + 58)
    await world.guard._nonces._main.keep()
    _is_refused(await world.check(call), 401, "invalid_token", "nonce was used before")


async def test_draft_00_nonce_is_remembered_as_long_as_its_token(world: World) -> None:
    tokens = await _draft_00(world)
    assert isinstance(await world.check(world.signed(tokens, ts=None, nonce="5.000048:n")), Allowed)
    connection = await asyncpg.connect(world.database)
    expires_at = await connection.fetchval("select expires_at from token_nonces")
    await connection.close()
    assert expires_at.timestamp() >= time.time() + 3590


async def test_low_scope_keeps_the_nonce(world: World) -> None:
    tokens = await world.token("read", kind="mac")
    call = world.signed(tokens, method="DELETE")
    refused = _is_refused(await world.check(call), 403, "insufficient_scope", "write")
    assert all('scope="write"' in challenge for challenge in refused.values("WWW-Authenticate"))
    assert await world.nonces() == 0
    assert isinstance(await world.check(world.signed(tokens)), Allowed)


async def test_mac_token_for_another_resource_keeps_the_nonce(world: World) -> None:
    client, _ = await world.store.clients.create(new_client("mac"))
    tokens = await world.store.tokens.client_credentials(
        client, ClientCredentialsGrant(frozenset({"read"}), ("https://api.example.com/notes",)), datetime.now(UTC)
    )
    verdict = await world.check(world.signed(tokens, route="other"))
    _is_refused(verdict, 401, "invalid_token", "another resource")
    assert await world.nonces() == 0


# -- drafts and algorithms -----------------------------------------------------------------------------------


async def test_draft_that_the_client_does_not_use_is_refused_with_what_it_may(world: World) -> None:
    tokens = await world.token(kind="mac")
    verdict = await world.check(world.signed(tokens, ts=None, nonce="1:n"))
    _is_refused(verdict, 401, "invalid_token", "Draft 00 is not accepted; accepted: 01.")
    assert await world.nonces() == 0


@pytest.mark.parametrize(
    "credential",
    [
        'MAC kid="{id}", ts="{ts}", seq-nr="1", mac="{mac}"',
        'MAC kid="", ts={ts}, h="host", mac={mac}',
        'MAC kid="1" ts="{ts}" nonce="n" access_token="{id}" mac="{mac}"',
    ],
)
async def test_later_draft_gets_a_challenge_that_says_what_is_accepted(world: World, credential: str) -> None:
    call = _text(credential)(world.signed(await world.token(kind="mac")))
    refused = _is_refused(await world.check(call), 401, "invalid_token")
    assert "drafts 03 to 05" in refused.description
    assert "Accepted: draft 01 (id, ts, nonce, ext, mac) or draft 00" in refused.description
    bearer, signed = refused.values("WWW-Authenticate")
    assert "error" not in bearer
    assert "Accepted: draft 01" in signed
    assert await world.nonces() == 0


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"drafts": ["01"]}, "Draft 00 is not accepted; accepted: none."),
        ({"algorithms": ["hmac-sha-1"]}, "hmac-sha-256 is"),
    ],
)
async def test_what_the_configuration_turns_off_is_refused(world: World, table: dict[str, Any], said: str) -> None:
    tokens = await _draft_00(world)
    tables = {"drafts": ["00", "01"], "algorithms": ["hmac-sha-256"]} | table
    guard = Guard(world.store, settings_for(world.keyring, mac=tables), clock=world.clock)
    _is_refused(await verdict_of(guard, world.signed(tokens, ts=None, nonce="1:n")), 401, "invalid_token", said)
    assert await world.nonces() == 0


# -- replays -------------------------------------------------------------------------------------------------


async def test_parallel_replays_over_two_workers_give_one_pass(world: World) -> None:
    tokens = await world.token(kind="mac")
    async with world.second_guard() as other:
        for number in range(scaled(50)):
            call = world.signed(tokens, nonce=f"n{number}")
            verdicts = await asyncio.gather(
                *(verdict_of(guard, call) for guard in (world.guard, other) for _ in range(10))
            )
            assert sum(isinstance(verdict, Allowed) for verdict in verdicts) == 1
            for verdict in verdicts:
                assert isinstance(verdict, Allowed) or verdict.status == 401


async def test_blocked_nonce_table_is_503_in_time_and_never_a_pass(world: World) -> None:
    tokens = await world.token(kind="mac")
    assert isinstance(await world.check(world.signed(tokens, nonce="first")), Allowed)
    connection = await asyncpg.connect(world.database)
    async with connection.transaction():
        await connection.execute("lock table nonces in access exclusive mode")
        started = time.monotonic()
        verdict = await world.check(world.signed(tokens))
        assert time.monotonic() - started < 2.5 * crowding()
        _is_refused(verdict, 503, "temporarily_unavailable")
    await connection.close()
    assert isinstance(await world.check(world.signed(tokens, nonce="n2")), Allowed)


async def test_slow_lookup_and_blocked_nonce_share_one_deadline(world: World) -> None:
    tokens = await world.token(kind="mac")
    call = world.signed(tokens)
    lookups, nonces = await asyncpg.connect(world.database), await asyncpg.connect(world.database)
    async with nonces.transaction():
        await nonces.execute("lock table nonces in access exclusive mode")
        async with lookups.transaction():
            await lookups.execute("lock table access_tokens in access exclusive mode")
            started, checked = time.monotonic(), asyncio.ensure_future(world.check(call))
            done, _ = await asyncio.wait([checked], timeout=1.2)
            assert not done
        _is_refused(await checked, 503, "temporarily_unavailable")
        assert time.monotonic() - started < 2.5 * crowding()
    await asyncio.gather(lookups.close(), nonces.close())


async def test_key_sealed_with_a_lost_master_key_is_refused(world: World) -> None:
    tokens = await world.token(kind="mac")
    connection = await asyncpg.connect(world.database)
    await connection.execute("update access_tokens set mac_key = decode('00', 'hex') || mac_key")
    await connection.close()
    _is_refused(await world.check(world.signed(tokens)), 401, "invalid_token")
