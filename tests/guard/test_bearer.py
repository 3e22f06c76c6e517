"""Bearer tokens before the guard (RFC 6750), and what every scheme has in common."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.errors import Refused
from gateway.faults import OperatorError
from gateway.guard import Allowed, Guard
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store import Store
from tests.serving import crowding, free_ports, until
from tests.streams import accepting

from .conftest import SIGNATURE_FIELDS, World, new_client, settings_for, verdict_of

METADATA = 'resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/notes"'


def _is_refused(verdict: object, status: int, error: str) -> Refused:
    assert isinstance(verdict, Refused)
    assert (verdict.status, verdict.error) == (status, error)
    return verdict


# -- what passes ---------------------------------------------------------------------------------------------


async def test_live_token_passes_with_its_identity(world: World) -> None:
    await world.store.users.create("ada", "ada@example.com", None, "$argon2id$fake")
    tokens = await world.store.tokens.issue(world.client.client_id, "ada", frozenset({"read"}), 60, "bearer")
    verdict = await world.check(world.call(f"Bearer {tokens.access_token}"))
    assert isinstance(verdict, Allowed)
    assert (verdict.username, verdict.email) == ("ada", "ada@example.com")
    assert verdict.client_id == world.client.client_id
    assert (verdict.scheme, len(verdict.digest)) == ("bearer", 32)
    assert verdict.scopes == {"read"}
    assert verdict.expires_at is not None
    assert timedelta(0) < verdict.expires_at - datetime.now(UTC) <= timedelta(seconds=60)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_scheme_is_read_in_any_case(world: World, scheme: str) -> None:
    tokens = await world.token()
    assert isinstance(await world.check(world.call(f"{scheme} {tokens.access_token}")), Allowed)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"authorization": (b"Bearer gwa_invented",)},
        {"authorization": (b"Bearer a", b"MAC b")},
        {"authorization": (b"\xff",)},
        {"target": b"/public?access_token=x"},
        {"fields": SIGNATURE_FIELDS},
    ],
)
async def test_public_route_passes_at_once_whatever_comes(world: World, changes: dict[str, Any]) -> None:
    verdict = world.guard.check(world.call(route="public", **changes))
    assert verdict == Allowed()
    assert (verdict.subject, verdict.client_id, verdict.expires_at) == (None, None, None)


async def test_head_needs_the_scopes_of_get(world: World) -> None:
    tokens = await world.token("read")
    assert isinstance(await world.check(world.call(f"Bearer {tokens.access_token}", method="HEAD")), Allowed)


async def test_route_without_scopes_takes_any_live_token(world: World) -> None:
    tokens = await world.token("read")
    call = world.call(f"Bearer {tokens.access_token}", route="other", method="DELETE")
    assert isinstance(await world.check(call), Allowed)


# -- no credential -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("authorization", [(), (b"Basic Zm9vOmJhcg==",), (b"Digest x",), (b"Signature a=b",)])
async def test_request_without_a_fitting_credential_gets_challenges_without_error(
    world: World, authorization: tuple[bytes, ...]
) -> None:
    verdict = world.guard.check(world.call(authorization=authorization))
    refused = _is_refused(verdict, 401, "unauthorized")
    assert refused.values("WWW-Authenticate") == (
        'Bearer realm="api.example.com", scope="read", ' + METADATA,
        'MAC realm="api.example.com", scope="read", ' + METADATA,
    )


async def test_whoever_needs_a_token_is_told_all_scopes_that_the_call_needs(world: World) -> None:
    """RFC 6750, section 3; MCP 2026-07-28, Scope Selection Strategy."""
    for authorization in ((), (b"Bearer gwa_x",), (b"Bearer " + (await world.token(ttl=-1)).access_token.encode(),)):
        for method, scope in (("GET", "read"), ("HEAD", "read"), ("POST", "write")):
            refused = await world.check(world.call(authorization=authorization, method=method))
            assert isinstance(refused, Refused)
            assert _told(refused, f'scope="{scope}"') == {"Bearer", "MAC"}
    malformed = await world.check(world.call(authorization=(b"Bearer a b",)))
    assert not _told(_is_refused(malformed, 400, "invalid_request"), "scope=")


@pytest.mark.parametrize(("route", "scheme"), [("bearer", "Bearer "), ("mac", "MAC ")])
async def test_challenges_name_the_schemes_of_the_route_only(world: World, route: str, scheme: str) -> None:
    refused = _is_refused(world.guard.check(world.call(route=route)), 401, "unauthorized")
    assert len(refused.values("WWW-Authenticate")) == 1
    assert refused.values("WWW-Authenticate")[0].startswith(scheme)


async def test_scheme_that_the_route_does_not_accept_is_not_read(world: World) -> None:
    tokens = await world.token()
    verdict = world.guard.check(world.call(f"Bearer {tokens.access_token}", route="mac"))
    assert "error" not in _is_refused(verdict, 401, "unauthorized").values("WWW-Authenticate")[0]
    signed = world.signed(await world.token(kind="mac"), route="mac")
    verdict = world.guard.check(world.call(*signed.authorization, route="bearer"))
    assert "error" not in _is_refused(verdict, 401, "unauthorized").values("WWW-Authenticate")[0]


# -- malformed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("authorization", "used"),
    [
        ((b"Bearer a", b"Bearer a"), {"Bearer"}),
        ((b"Bearer a", b"MAC id"), {"Bearer", "MAC"}),
        ((b"Bearer a", b"Basic b"), {"Bearer"}),
        ((b"",), set()),
        ((b"Bearer",), {"Bearer"}),
        ((b"Bearer ",), {"Bearer"}),
        ((b"Bearer a b",), {"Bearer"}),
        ((b"Bearer a,b",), {"Bearer"}),
        ((b"Bearer a, Bearer b",), {"Bearer"}),
        ((b'Bearer "a"',), {"Bearer"}),
        ((b'Bearer a, MAC id="a"',), {"Bearer"}),
        ((b"Bearer \xc3\xa4",), {"Bearer"}),
        ((b"Bearer a\x00",), {"Bearer"}),
        ((b"Bearer " + b"a" * 5000,), {"Bearer"}),
        ((b"MAC",), {"MAC"}),
        ((b"mac id=",), {"MAC"}),
    ],
)
async def test_malformed_credential_is_refused_at_once(
    world: World, authorization: tuple[bytes, ...], used: set[str]
) -> None:
    """And only the challenge of a scheme that was used has the error (RFC 6750, section 3)."""
    refused = _is_refused(world.guard.check(world.call(authorization=authorization)), 400, "invalid_request")
    assert {challenge.partition(" ")[0] for challenge in refused.values("WWW-Authenticate")} == {"Bearer", "MAC"}
    assert _told(refused, 'error="invalid_request"') == used


def _told(refused: Refused, what: str) -> set[str]:
    """The schemes whose challenge says that."""
    return {challenge.partition(" ")[0] for challenge in refused.values("WWW-Authenticate") if what in challenge}


@pytest.mark.parametrize("query", [b"access_token=", b"a=1&access_token=x", b"%61ccess_token=x"])
async def test_token_in_the_query_is_refused_even_if_it_is_good(world: World, query: bytes) -> None:
    token = (await world.token()).access_token.encode()
    target = b"/notes?" + query + token
    _is_refused(world.guard.check(world.call(target=target)), 400, "invalid_request")
    _is_refused(world.guard.check(world.call(b"Bearer " + token, target=target)), 400, "invalid_request")


async def test_signature_field_beside_authorization_is_refused(world: World) -> None:
    tokens = await world.token()
    call = world.call(f"Bearer {tokens.access_token}", fields=SIGNATURE_FIELDS)
    _is_refused(world.guard.check(call), 400, "invalid_request")
    _is_refused(world.guard.check(world.call(fields=SIGNATURE_FIELDS)), 401, "unauthorized")


# -- unknown, dead, foreign ----------------------------------------------------------------------------------


async def test_invented_token_is_refused_without_the_database(world: World) -> None:
    good = (await world.token()).access_token
    last = "A" if good[-1] != "A" else "B"
    refresh = world.keyring.new_token("gwr_")
    for token in (good[:-1], good[:-1] + last, good + "A", "gwa_", "gwa_x", refresh, "gwc_" + good[4:]):
        verdict = world.guard.check(world.call(f"Bearer {token}"))
        _is_refused(verdict, 401, "invalid_token")
        signed = f'MAC id="{token}", ts="1", nonce="n", mac="AAAA"'
        _is_refused(world.guard.check(world.call(signed)), 401, "invalid_token")


async def test_unknown_token_is_refused(world: World) -> None:
    for token in (world.keyring.new_token("gwa_"), "imported-from-elsewhere", "a"):
        _is_refused(await world.check(world.call(f"Bearer {token}")), 401, "invalid_token")


async def test_dead_tokens_read_like_unknown_ones(world: World) -> None:
    async def refusal(token: str) -> Refused:
        return _is_refused(await world.check(world.call(f"Bearer {token}")), 401, "invalid_token")

    unknown = await refusal(world.keyring.new_token("gwa_"))
    assert _told(unknown, 'error="invalid_token"') == {"Bearer"}

    revoked = (await world.token()).access_token
    await world.store.tokens.revoke(revoked, None)
    invented = await refusal("gwa_" + "A" * 40)
    signing = await refusal((await world.token(kind="mac")).access_token)
    living = (await world.token()).access_token
    await world.store.clients.disable(world.client.client_id)
    for refused in (await refusal(revoked), await refusal(living), invented, signing):
        assert (refused.description, refused.fields) == (unknown.description, unknown.fields)


async def test_token_dies_at_its_end(world: World) -> None:
    tokens = await world.token(ttl=100)
    call = world.call(f"Bearer {tokens.access_token}")
    world.clock.offset = 80
    assert isinstance(await world.check(call), Allowed)
    world.clock.offset = 101
    _is_refused(await world.check(call), 401, "invalid_token")


async def test_clock_set_back_revives_no_token(world: World) -> None:
    tokens = await world.token(ttl=100)
    call = world.call(f"Bearer {tokens.access_token}")
    world.clock.offset = 101
    _is_refused(await world.check(call), 401, "invalid_token")
    world.clock.offset = 0
    _is_refused(await world.check(call), 401, "invalid_token")


async def test_token_for_another_resource_is_refused(world: World) -> None:
    resources = ("https://api.example.com/notes", "https://api.example.com/elsewhere")
    tokens = await world.store.tokens.client_credentials(
        world.client, ClientCredentialsGrant(frozenset({"read"}), resources[:1]), datetime.now(UTC)
    )
    assert isinstance(await world.check(world.call(f"Bearer {tokens.access_token}")), Allowed)
    verdict = await world.check(world.call(f"Bearer {tokens.access_token}", route="other"))
    assert "another resource" in _is_refused(verdict, 401, "invalid_token").description


async def test_token_in_the_cache_is_still_refused_at_another_resource(world: World) -> None:
    notes = "https://api.example.com/notes"
    limited, free = [
        await world.store.tokens.client_credentials(
            world.client, ClientCredentialsGrant(frozenset({"read"}), resource), datetime.now(UTC)
        )
        for resource in ((notes,), ())
    ]
    await world.guard.start()
    try:
        await until(lambda: world.guard._ledger.holds)
        for _ in range(3):
            assert isinstance(await world.check(world.call(f"Bearer {limited.access_token}")), Allowed)
            verdict = await world.check(world.call(f"Bearer {limited.access_token}", route="other"))
            assert _is_refused(verdict, 401, "invalid_token").cause == "audience"
            for route in ("bearer", "other"):
                assert isinstance(await world.check(world.call(f"Bearer {free.access_token}", route=route)), Allowed)
        assert len(world.guard._tokens.cache) == 2
    finally:
        await world.guard.close()


# -- scopes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "DELETE", "PROPFIND", "post"])
async def test_low_scope_is_named(world: World, method: str) -> None:
    tokens = await world.token("read")
    verdict = await world.check(world.call(f"Bearer {tokens.access_token}", method=method))
    refused = _is_refused(verdict, 403, "insufficient_scope")
    assert "write" in refused.description
    assert _told(refused, 'error="insufficient_scope"') == {"Bearer"}
    assert _told(refused, 'scope="write"') == {"Bearer", "MAC"}
    assert _told(refused, METADATA) == {"Bearer", "MAC"}


@pytest.mark.parametrize("scopes", [("read",), ("write",)])
async def test_all_scopes_are_named_at_once_where_one_is_low(world: World, scopes: tuple[str, ...]) -> None:
    """RFC 6750, section 3.1; MCP 2026-07-28, Runtime Insufficient Scope Errors: also what the token has."""
    one, both = await world.token(*scopes), await world.token("read", "write")
    refused = await world.check(world.call(f"Bearer {one.access_token}", route="both"))
    assert _told(_is_refused(refused, 403, "insufficient_scope"), 'scope="read write"') == {"Bearer"}
    assert isinstance(await world.check(world.call(f"Bearer {both.access_token}", route="both")), Allowed)


# -- the database is gone ------------------------------------------------------------------------------------


async def test_closed_port_of_the_database_is_503_without_challenge(world: World) -> None:
    tokens = await world.token()
    (port,) = free_ports(1)
    store = Store.over(f"postgresql://x@127.0.0.1:{port}/x", world.keyring)
    guard = Guard(store, settings_for(world.keyring))
    refused = _is_refused(
        await verdict_of(guard, world.call(f"Bearer {tokens.access_token}")), 503, "temporarily_unavailable"
    )
    assert refused.values("WWW-Authenticate") == ()
    _is_refused(guard.check(world.call("Bearer gwa_invented")), 401, "invalid_token")
    await store.close()


async def test_hung_database_is_503_in_time(world: World) -> None:
    tokens = await world.token()

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    async with accepting(hang) as port:
        store = Store.over(f"postgresql://x@127.0.0.1:{port}/x?sslmode=disable", world.keyring)
        started = time.monotonic()
        verdict = await verdict_of(
            Guard(store, settings_for(world.keyring)), world.call(f"Bearer {tokens.access_token}")
        )
        assert time.monotonic() - started < 2.5 * crowding()
        _is_refused(verdict, 503, "temporarily_unavailable")
        await store.close()


async def test_guard_without_a_master_key_does_not_start(world: World) -> None:
    with pytest.raises(OperatorError, match=r"keys\.master"):
        Guard(world.store, settings_for(None))  # type: ignore[arg-type]


async def test_token_of_a_deleted_client_is_refused(world: World) -> None:
    client, _ = await world.store.clients.create(new_client())
    tokens = await world.store.tokens.issue(client.client_id, None, frozenset({"read"}), 60, None)
    await world.store.clients.delete(client.client_id)
    _is_refused(await world.check(world.call(f"Bearer {tokens.access_token}")), 401, "invalid_token")
