"""X-Auth-Jwt: what the upstream of a route is told of who calls, by a signature that it can verify itself."""

import json
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.model import Client, User
from gateway.oauth import jwk, jws
from gateway.oauth.signing import SigningKey
from gateway.proxy.asserting import Assertions
from gateway.store import Store
from tests.proxy.rig import RawUpstream, Rig, rig
from tests.proxy.test_credentials import ada, client, request
from tests.serving import serving, until
from tests.store.rig import fetch

__all__ = ["ada", "client"]

ROUTES: list[dict[str, Any]] = [
    {"name": "one", "path": "/one", "auth": ["bearer"], "identity_jwt": True},
    {"name": "two", "path": "/two", "auth": ["bearer"], "identity_jwt": True},
    {"name": "plain", "path": "/plain", "auth": ["bearer"]},
    {"name": "public", "path": "/public", "auth": "none"},
]
SPOOFED = ["X-Auth-Jwt: evil", "x-auth-JWT: worse", "X.Auth.Jwt: dotted", "Connection: x-auth-jwt"]


class Time:
    """Seconds since 1970, as a test sets them."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def running(tmp_path: Path, store: Store, time: Time) -> AsyncIterator[Rig]:
    async with rig(tmp_path, store, routes=ROUTES) as made:
        made.proxy.assertions = Assertions("http://gateway.test", time)
        made.proxy.assertions.key = await store.signing_keys.key("ES256")
        yield made


async def token(store: Store, client: Client, username: str | None = None) -> str:
    return (
        await store.tokens.issue(client.client_id, username, frozenset({"notes:read"}), 3600, "bearer")
    ).access_token


async def asserted(running: Rig, path: str, credential: str, *fields: str) -> str:
    reply = await running.talk(request(path, f"Authorization: Bearer {credential}", *fields))
    assert reply.status == 200
    return running.upstream.requests[-1].one("x-auth-jwt")


async def verified(text: str, store: Store) -> dict[str, Any]:
    """The claims of an assertion, as an upstream takes them that has nothing but jwks.json."""
    header, claims, signature = text.split(".")
    read = json.loads(jws.decoded(header))
    assert (read["alg"], read["typ"]) == ("ES256", "JWT")
    keys = jwk.keys_of(json.dumps({"keys": await store.signing_keys.published()}))
    [key] = [key for key in keys if key.kid == read["kid"]]
    assert key.verifies("ES256", f"{header}.{claims}".encode(), jws.decoded(signature))
    return dict(json.loads(jws.decoded(claims)))


async def test_upstream_learns_who_calls_for_a_minute_and_for_its_own_route(
    running: Rig, store: Store, client: Client, ada: User, time: Time
) -> None:
    claims = await verified(await asserted(running, "/one/x", await token(store, client, "ada")), store)
    assert claims == {
        "iss": "http://gateway.test",
        "sub": ada.subject,
        "aud": "http://gateway.test/one",
        "iat": int(time.now),
        "exp": int(time.now) + 60,
        "client_id": client.client_id,
        "scope": "notes:read",
        "preferred_username": "ada",
        "email": "ada@example.test",
    }


async def test_each_route_and_each_caller_has_an_assertion_of_its_own(
    running: Rig, store: Store, client: Client, ada: User
) -> None:
    own, adas = await token(store, client), await token(store, client, "ada")
    found = [
        await verified(await asserted(running, path, used), store) for path in ("/one", "/two") for used in (own, adas)
    ]
    assert [(claims["aud"][-4:], claims["sub"]) for claims in found] == [
        ("/one", client.client_id),
        ("/one", ada.subject),
        ("/two", client.client_id),
        ("/two", ada.subject),
    ]
    assert "email" not in found[0]


async def test_assertion_is_signed_once_in_half_of_its_life(
    running: Rig, store: Store, client: Client, time: Time
) -> None:
    used = await token(store, client)
    first = await asserted(running, "/one", used)
    time.now += 29
    assert await asserted(running, "/one", used) == first
    time.now += 2
    second = await asserted(running, "/one", used)
    assert (await verified(second, store))["exp"] == int(time.now) + 60


async def test_assertions_can_be_verified_before_between_and_behind_a_change_of_keys(
    running: Rig, store: Store, client: Client, database: str
) -> None:
    def kid(assertion: str) -> str:
        return str(json.loads(jws.decoded(assertion.partition(".")[0]))["kid"])

    async def key_now() -> SigningKey:
        store.signing_keys._read_at = -inf  # as half a minute later
        return await store.signing_keys.key("ES256")

    assertions, used = running.proxy.assertions, await token(store, client)
    assert assertions is not None
    old = kid(await asserted(running, "/one", used))
    [made] = [key for key in await store.signing_keys.rotate() if key.algorithm == "ES256"]
    assertions.sign_with(await key_now())
    assertion = await asserted(running, "/one", used)
    assert kid(assertion) == old
    await verified(assertion, store)
    await fetch(database, f"update signing_keys set signs_from = now() - interval '1 second' where kid = '{made.kid}'")
    await fetch(database, f"update signing_keys set signs_until = now() - interval '1 second' where kid = '{old}'")
    assertions.sign_with(await key_now())
    fresh = await asserted(running, "/one", used)
    assert kid(fresh) == made.kid
    for each in (fresh, assertion):  # which is still on its way somewhere
        await verified(each, store)
    await store.upkeep.sweep()
    await verified(assertion, store)

    [last] = [key for key in await store.signing_keys.rotate(at_once=True) if key.algorithm == "ES256"]
    assertions.sign_with(await key_now())
    assertion = await asserted(running, "/one", used)
    assert kid(assertion) == last.kid
    await verified(assertion, store)


async def test_new_names_are_told_at_once(running: Rig, store: Store, client: Client, ada: User) -> None:
    used = await token(store, client, ada.username)
    await asserted(running, "/one", used)
    assert await store.users.update("ada", None, "new@example.test", None)
    assert (await verified(await asserted(running, "/one", used), store))["email"] == "new@example.test"


@pytest.mark.parametrize("spoofed", SPOOFED)
async def test_what_a_client_sends_never_passes_as_ours(
    running: Rig, store: Store, client: Client, spoofed: str
) -> None:
    used = await token(store, client)
    await verified(await asserted(running, "/one", used, spoofed), store)
    for path in ("/plain", "/public"):
        fields = [f"Authorization: Bearer {used}"] if path == "/plain" else []
        assert (await running.talk(request(path, *fields, spoofed))).status == 200
        received = running.upstream.requests[-1]
        assert [name for name, _ in received.fields if "jwt" in name.lower()] == []


async def test_nothing_passes_without_a_key(running: Rig, store: Store, client: Client) -> None:
    assert running.proxy.assertions is not None
    running.proxy.assertions.key = None
    credential = f"Authorization: Bearer {await token(store, client)}"
    assert (await running.talk(request("/one", credential))).status == 503
    assert running.upstream.requests == []
    assert (await running.talk(request("/plain", credential))).status == 200


@pytest.mark.plain
async def test_many_callers_are_not_remembered_for_ever(
    running: Rig, store: Store, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.asserting._MOST", 3)
    for _ in range(8):
        await asserted(running, "/one", await token(store, client))
    assert running.proxy.assertions is not None
    assert len(running.proxy.assertions._kept) <= 3


async def test_a_real_gateway_signs_by_what_it_publishes(tmp_path: Path, database: str, store: Store) -> None:
    async with RawUpstream().serving() as upstream:
        route = {**ROUTES[0], "upstreams": [f"http://127.0.0.1:{upstream.port}"]}
        async with serving(tmp_path, dsn=database, routes=[route], workers=1) as gateway:
            made = await gateway.run("client", "create", "--name", "App", "--grant-type", "client_credentials")
            issued = await gateway.run("token", "issue", "--client", made["client_id"])

            async def passes() -> bool:
                headers = {"Authorization": f"Bearer {issued['access_token']}"}
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"{gateway.url}/one", headers=headers) as got,
                ):
                    return got.status == 200

            await until(passes)
            claims = await verified(upstream.requests[-1].one("x-auth-jwt"), store)
            assert (claims["iss"], claims["aud"]) == (gateway.url, f"{gateway.url}/one")
