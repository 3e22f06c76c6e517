"""Routes that ask how lately and how somebody signed in, and what tokens know of that (RFC 9470)."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.config import ConfigError, compile_routes, parse
from gateway.errors import Refused
from gateway.guard import Allowed, Guard
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store.records import IssuedTokens
from tests.guard.conftest import TABLES, World, settings_for
from tests.store.rig import NEW_CLIENT, Rig

UPSTREAMS = ["http://127.0.0.1:9"]
ROUTES: list[dict[str, Any]] = [
    {"name": "lately", "path": "/lately", "upstreams": UPSTREAMS, "auth": ["bearer", "mac"], "max_age": "5m"},
    {"name": "so", "path": "/so", "upstreams": UPSTREAMS, "auth": ["bearer"], "acr": "password"},
    {
        "name": "both",
        "path": "/both",
        "upstreams": UPSTREAMS,
        "auth": ["bearer"],
        "dpop": "optional",
        "max_age": "5m",
        "acr": "password",
        "scopes": ["write"],
    },
    {"name": "ever", "path": "/ever", "upstreams": UPSTREAMS, "auth": ["bearer"]},
]


@pytest.fixture
async def asking(world: World) -> AsyncIterator[World]:
    settings = settings_for(world.keyring, routes=ROUTES)
    world.routes = {route.name: route for route in compile_routes(settings.config)}
    world.guard = Guard(world.store, settings, clock=world.clock)
    yield world
    await world.guard.close()


async def verdict(world: World, tokens: IssuedTokens, route: str) -> Allowed | Refused:
    return await world.check(world.call(f"Bearer {tokens.access_token}", route=route))


def told(refused: Allowed | Refused, scheme: str = "Bearer") -> str:
    """What the challenge of a scheme says."""
    assert isinstance(refused, Refused)
    [challenge] = [one for one in refused.values("WWW-Authenticate") if one.startswith(scheme + " ")]
    return challenge


async def test_token_of_a_sign_in_that_is_too_long_ago_is_told_what_is_needed(asking: World) -> None:
    """Section 3: 401, insufficient_user_authentication, and max_age in the challenge of the scheme that was used."""
    tokens = await (await Rig.build(asking.store)).tokens()
    assert isinstance(await verdict(asking, tokens, "lately"), Allowed)
    asking.clock.offset = 301
    refused = await verdict(asking, tokens, "lately")
    assert isinstance(refused, Refused)
    assert (refused.status, refused.error) == (401, "insufficient_user_authentication")
    assert (refused.cause, bool(refused.mend)) == ("signed in too long ago", True)
    assert 'error="insufficient_user_authentication"' in told(refused)
    assert ', max_age="300", ' in told(refused)
    assert "acr_values" not in told(refused)
    assert "max_age" not in told(refused, "MAC")
    assert refused.identity is not None
    for route in ("so", "ever"):
        assert isinstance(await verdict(asking, tokens, route), Allowed)


async def test_challenge_names_all_that_is_needed_and_scopes_come_first(asking: World) -> None:
    """Nobody is sent to sign in again for what they could not do even then."""
    rig = await Rig.build(asking.store)
    asking.clock.offset = 301
    low = await verdict(asking, await rig.tokens(scopes=frozenset({"read"})), "both")
    assert isinstance(low, Refused)
    assert (low.status, low.error) == (403, "insufficient_scope")
    refused = await verdict(asking, await rig.tokens(), "both")
    assert ', max_age="300", ' in told(refused)
    assert ', acr_values="password", ' in told(refused)
    assert "max_age" not in told(refused, "DPoP")


async def test_refreshing_makes_no_sign_in_newer(asking: World) -> None:
    """Section 6.1 of RFC 9470, and OpenID Connect Core 12.2: auth_time is that of the sign-in."""
    rig = await Rig.build(asking.store)
    tokens = await rig.tokens()
    asking.clock.offset = 301
    again = await rig.refresh(tokens.refresh_token)
    refused = await verdict(asking, again, "lately")
    assert isinstance(refused, Refused)
    assert refused.cause == "signed in too long ago"
    told_of = await asking.store.tokens.introspect(again.access_token, None)
    found = await asking.store.sessions.find(rig.session_token)
    assert found is not None
    assert (told_of["auth_time"], told_of["acr"]) == (int(found.signed_in_at.timestamp()), "password")


@pytest.mark.parametrize("route", ["lately", "so", "both"])
async def test_token_that_nobody_signed_in_for_opens_no_such_route(asking: World, route: str) -> None:
    rig = await Rig.build(asking.store)
    grant = ClientCredentialsGrant(frozenset({"read", "write"}))
    own = await asking.store.tokens.client_credentials(rig.client, grant, asking.store.now())
    by_operator = await asking.store.tokens.issue(rig.client.client_id, "ada", grant.scopes, 3600, "bearer")
    for tokens in (own, by_operator):
        refused = await verdict(asking, tokens, route)
        assert isinstance(refused, Refused)
        assert (refused.status, refused.cause) == (401, "nobody signed in for the token")
        assert isinstance(await verdict(asking, tokens, "ever"), Allowed)
        introspected = await asking.store.tokens.introspect(tokens.access_token, None)
        assert not {"auth_time", "acr"} & set(introspected)


async def test_signed_call_that_is_told_to_sign_in_again_keeps_its_nonce(asking: World) -> None:
    rig = await Rig.build(asking.store, client=replace(NEW_CLIENT, token_type="mac"))
    tokens = await rig.tokens()
    asking.clock.offset = 301
    refused = await asking.check(asking.signed(tokens, route="lately"))
    assert isinstance(refused, Refused)
    assert ', max_age="300", ' in told(refused, "MAC")
    assert "max_age" not in told(refused)
    assert await asking.nonces() == 0


async def test_worker_that_has_the_token_in_its_cache_judges_its_sign_in_each_time(asking: World) -> None:
    tokens = await (await Rig.build(asking.store)).tokens()
    await asking.guard.start()
    assert isinstance(await verdict(asking, tokens, "both"), Allowed)
    assert isinstance(await verdict(asking, tokens, "both"), Allowed)
    asking.clock.offset = 299
    assert isinstance(await verdict(asking, tokens, "both"), Allowed)
    asking.clock.offset = 302
    assert isinstance(await verdict(asking, tokens, "both"), Refused)


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ({"auth": "none", "max_age": "5m"}, "routes[0].max_age"),
        ({"auth": "none", "acr": "password"}, "routes[0].acr"),
        ({"auth": ["bearer"], "acr": "urn:mace:incommon:iap:silver"}, "routes[0].acr"),
        ({"auth": ["bearer"], "acr": "two words"}, "routes[0].acr"),
        ({"auth": ["bearer"], "acr": '"'}, "routes[0].acr"),
        ({"auth": ["bearer"], "acr": ["password"]}, "routes[0].acr"),
        ({"auth": ["bearer"], "max_age": 300}, "routes[0].max_age"),
        ({"auth": ["bearer"], "max_age": "5"}, "routes[0].max_age"),
        ({"auth": ["bearer"], "max_age": "-5m"}, "routes[0].max_age"),
    ],
)
def test_what_no_sign_in_could_meet_is_refused(route: dict[str, Any], told: str) -> None:
    whole = {"name": "a", "path": "/a", "upstreams": UPSTREAMS, **route}
    with pytest.raises(ConfigError) as refused:
        parse({"server": TABLES["server"], "routes": [whole]})
    assert [fault.path for fault in refused.value.faults] == [told]
