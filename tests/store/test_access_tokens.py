"""Tokens that come back: live only while everything they hang on is (RFC 7009, RFC 7662)."""

from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

from gateway.crypto import Keyring
from gateway.model import GrantType
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store import IssuedTokens, Store
from gateway.store.database import connect
from tests.store.rig import API, NEW_CLIENT, MovableClock, Rig, everything, fetch, outcome

DEAD = {"active": False}
OF_PEOPLE: frozenset[GrantType] = frozenset({"authorization_code", "refresh_token"})

# What kills a token that came from a code, each by a single act.
DEATHS: dict[str, Callable[[Rig, IssuedTokens], Awaitable[object]]] = {
    "itself": lambda rig, tokens: rig.store.tokens.revoke(tokens.access_token, rig.client),
    "its family": lambda rig, tokens: rig.store.tokens.revoke(tokens.refresh_token or "", rig.client),
    "its grant": lambda rig, _: rig.store.grants.withdraw(rig.user.subject, rig.client.client_id),
    "its client disabled": lambda rig, _: rig.store.clients.disable(rig.client.client_id),
    "its client deleted": lambda rig, _: rig.store.clients.delete(rig.client.client_id),
    "its client revoked": lambda rig, _: rig.store.clients.revoke_tokens(rig.client.client_id),
    "its user disabled": lambda rig, _: rig.store.users.disable("ada"),
    "its user deleted": lambda rig, _: rig.store.users.delete("ada"),
    "its user revoked": lambda rig, _: rig.store.users.revoke_tokens("ada"),
}


@pytest.mark.parametrize("death", DEATHS)
async def test_token_dies_with_what_it_hangs_on(rig: Rig, store: Store, death: str) -> None:
    tokens = await rig.tokens()
    found = await store.access_tokens.find(tokens.access_token)
    assert found is not None
    assert set((await store.access_tokens.find_many([found.digest, b"unknown"])).tokens) == {found.digest}
    await DEATHS[death](rig, tokens)
    assert await store.access_tokens.find(tokens.access_token) is None
    assert not (await store.access_tokens.find_many([found.digest])).tokens
    assert await store.tokens.introspect(tokens.access_token, rig.client) == DEAD
    refresh_lives = death == "itself"
    assert (await store.tokens.introspect(tokens.refresh_token or "", rig.client) != DEAD) is refresh_lives
    assert await outcome(rig.refresh(tokens.refresh_token)) == ("ok" if refresh_lives else "invalid_grant")
    assert await store.access_tokens.find(tokens.access_token) is None


async def test_token_expires_to_the_second(rig: Rig, store: Store, clock: MovableClock) -> None:
    tokens = await rig.tokens()
    found = await store.access_tokens.find(tokens.access_token)
    assert found is not None
    clock.stop()
    clock.advance((found.expires_at - store.now()).total_seconds() - 0.5)
    assert await rig.lives(tokens)
    clock.advance(0.5)
    assert not await rig.lives(tokens)
    assert await store.tokens.introspect(tokens.access_token, rig.client) == DEAD


async def test_introspection_of_an_access_token_has_the_members_of_rfc_7662(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens(resource=(API,))
    found, session = await store.access_tokens.find(tokens.access_token), await store.sessions.find(rig.session_token)
    assert found is not None
    assert session is not None
    api, _ = await store.clients.create(NEW_CLIENT)
    assert await store.tokens.introspect(tokens.access_token, api) == {
        "active": True,
        "scope": "read write",
        "client_id": rig.client.client_id,
        "username": "ada",
        "token_type": "bearer",
        "exp": int(found.expires_at.timestamp()),
        "iat": int(found.issued_at.timestamp()),
        "sub": rig.user.subject,
        "aud": API,
        "auth_time": int(session.signed_in_at.timestamp()),  # RFC 9470, section 6.2
        "acr": "password",
    }


async def test_introspection_of_a_refresh_token_has_no_token_type(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens(resource=(API, "https://b.example"))
    members = await store.tokens.introspect(tokens.refresh_token or "", rig.client)
    assert members["active"] is True
    assert members["sub"] == rig.user.subject
    assert members["aud"] == [API, "https://b.example"]
    assert "token_type" not in members
    await rig.refresh(tokens.refresh_token)
    assert await store.tokens.introspect(tokens.refresh_token or "", rig.client) == DEAD


async def test_introspection_of_a_refresh_token_names_the_key_that_it_is_bound_to(store: Store) -> None:
    """RFC 9449, sections 5 and 6.2: that of a public client, so that only the operator asks."""
    public = await Rig.build(store, client=replace(NEW_CLIENT, confidential=False, grant_types=OF_PEOPLE))
    tokens = await public.redeem(await public.code(), jkt="k" * 43)
    members = await store.tokens.introspect(tokens.refresh_token or "", None)
    assert members["cnf"] == {"jkt": "k" * 43}
    assert "token_type" not in members
    unbound = await public.tokens()
    assert "cnf" not in await store.tokens.introspect(unbound.refresh_token or "", None)


async def test_introspection_of_a_clients_own_token_names_no_user(rig: Rig, store: Store) -> None:
    tokens = await store.tokens.client_credentials(rig.client, ClientCredentialsGrant(frozenset()), store.now())
    members = await store.tokens.introspect(tokens.access_token, rig.client)
    assert members["sub"] == rig.client.client_id
    assert members["scope"] == ""
    assert "username" not in members
    assert "aud" not in members


@pytest.mark.parametrize("token", ["", "unknown", "\0", "\ud800", "gwa_", "gwa_" + "x" * 40, "gwr_x", "x" * 10_000])
async def test_unknown_token_is_dead_everywhere(rig: Rig, store: Store, token: str) -> None:
    assert await store.access_tokens.find(token) is None
    assert await store.tokens.introspect(token, rig.client) == DEAD
    assert not await store.tokens.revoke(token, rig.client)
    assert not await store.tokens.revoke(token, None)


async def test_token_is_good_in_its_own_place_only(rig: Rig, store: Store, keyring: Keyring) -> None:
    code = await rig.code()
    tokens = await rig.tokens()
    for other in (tokens.refresh_token or "", code, tokens.access_token[:-1], tokens.access_token + "x"):
        assert await store.access_tokens.find(other) is None
    assert await store.access_tokens.find(keyring.new_token("gwa_")) is None
    assert await store.tokens.introspect(code, rig.client) == DEAD
    assert not await store.tokens.revoke(code, rig.client)


async def test_invented_token_costs_no_query(rig: Rig, store: Store) -> None:
    await store.close()
    for token in ("gwa_" + "x" * 40, "gwr_" + "x" * 40, "gwc_" + "x" * 40, ""):
        assert await store.access_tokens.find(token) is None
        assert await store.tokens.introspect(token, rig.client) == DEAD
        assert not await store.tokens.revoke(token, None)


async def test_token_of_another_shape_takes_the_database_path(rig: Rig, store: Store, database: str) -> None:
    tokens = await rig.tokens()
    connection = await connect(database, "gateway-test")
    await connection.execute(
        "update access_tokens set digest = sha256('imported') where token_type = $1", tokens.token_type
    )
    await connection.close()
    assert await store.access_tokens.find("imported") is not None
    assert await store.tokens.revoke("imported", rig.client)
    assert await store.access_tokens.find("imported") is None


async def test_another_client_revokes_nothing(rig: Rig, store: Store, database: str) -> None:
    tokens = await rig.tokens()
    other, _ = await store.clients.create(NEW_CLIENT)
    before = await everything(database)
    assert not await store.tokens.revoke(tokens.access_token, other)
    assert not await store.tokens.revoke(tokens.refresh_token or "", other)
    assert await everything(database) == before


async def test_revoked_access_token_takes_nothing_with_it(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens()
    again = await rig.refresh(tokens.refresh_token)
    assert await store.tokens.revoke(tokens.access_token, rig.client)
    assert not await store.tokens.revoke(tokens.access_token, rig.client)
    assert await rig.lives(again)
    assert await rig.lives(await rig.refresh(again.refresh_token))


async def test_revoked_refresh_token_takes_its_access_tokens_with_it(rig: Rig, store: Store) -> None:
    first = await rig.tokens()
    second = await rig.refresh(first.refresh_token)
    others = await rig.tokens()
    assert await store.tokens.revoke(second.refresh_token or "", rig.client)
    assert not await store.tokens.revoke(second.refresh_token or "", rig.client)
    assert not await rig.lives(first)
    assert not await rig.lives(second)
    assert await rig.lives(others)


async def test_operator_revokes_anybodys(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens()
    assert await store.tokens.revoke(tokens.access_token, None)
    assert not await rig.lives(tokens)


async def test_mac_key_of_a_lost_master_key_opens_nothing(rig: Rig, store: Store, database: str) -> None:
    tokens = await store.tokens.issue(rig.client.client_id, None, frozenset(), 60, "mac")
    assert await rig.lives(tokens)
    connection = await connect(database, "gateway-test")
    await connection.execute("update access_tokens set mac_key = set_byte(mac_key, 0, 255 - get_byte(mac_key, 0))")
    await connection.close()
    assert not await rig.lives(tokens)


async def test_what_ended_a_refresh_token_is_told(rig: Rig, store: Store, database: str) -> None:
    """Of what an operator wants to know, the nearest cause: what was done goes before what time does."""

    async def why(token: str | None) -> str:
        return (await store.tokens.explain(token or "")).why_dead or "it lives"

    first = await rig.tokens()
    assert await why(first.refresh_token) == "it lives"
    second = await rig.refresh(first.refresh_token)
    assert (await why(first.refresh_token)).startswith("it was used at 2")
    assert await why(second.refresh_token) == "it lives"
    assert await outcome(rig.refresh(first.refresh_token)) == "invalid_grant"
    for token in (second.refresh_token, second.access_token):
        assert (await why(token)).endswith("as when a refresh token is used twice")
    third = await rig.tokens()
    await fetch(database, "update grants set scopes = '{read}'")
    for token in (third.refresh_token, third.access_token):
        assert await why(token) == "the user's consent no longer covers write"
    await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    assert (await why(third.refresh_token)).startswith("the user took the client's access away at 2")


async def test_the_explanation_of_a_token_agrees_with_introspection(rig: Rig, store: Store, keyring: Keyring) -> None:
    tokens = await rig.tokens()
    for token in (tokens.access_token, tokens.refresh_token or "", keyring.new_token("gwa_"), "gwa_x", "", "x"):
        explained, told = await store.tokens.explain(token), await store.tokens.introspect(token, rig.client)
        assert (explained.why_dead is None) is told["active"], token
