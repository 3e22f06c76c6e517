"""Clients that authenticate by what they sign (RFC 7523, OpenID Connect Core, section 9), at every endpoint."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from msgspec.structs import replace

from gateway.crypto import random_text
from gateway.model import Client
from gateway.oauth.client_assertion import TYPE
from gateway.store import NewClient
from tests.oauth.signing import Signer, signer
from tests.web.rig import Answer, Browser, Plane, authorize_path, basic, row_counts

Fields = Sequence[tuple[str, str]]
GRANT = [("grant_type", "client_credentials"), ("scope", "notes:read")]


async def keyed(plane: Plane, algorithm: str = "ES256") -> tuple[Client, Signer]:
    """A client that has registered its key."""
    one = signer(algorithm)
    client, secret = await plane.client(jwks=one.jwks)
    assert secret == ""
    return client, one


def claims(plane: Plane, client: Client, **changes: Any) -> dict[str, Any]:
    members = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": plane.url,
        "exp": int(time.time()) + 60,
        "jti": random_text(),
    }
    return {name: value for name, value in (members | changes).items() if value is not None}


def signed(plane: Plane, client: Client, one: Signer, **changes: Any) -> list[tuple[str, str]]:
    return [
        ("client_assertion_type", TYPE),
        ("client_assertion", one.assertion(claims(plane, client, **changes))),
    ]


async def token(browser: Browser, fields: Fields, headers: dict[str, str] | None = None) -> Answer:
    return await browser.send("POST", "/oauth2/token", [*GRANT, *fields], headers or {})


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
async def test_a_client_that_signs_gets_a_token(plane: Plane, browser: Browser, algorithm: str) -> None:
    client, one = await keyed(plane, algorithm)
    for aud in (plane.url, f"{plane.url}/oauth2/token", [plane.url]):
        answer = await token(browser, signed(plane, client, one, aud=aud))
        assert (answer.status, answer.json.get("scope")) == (200, "notes:read"), answer.text
    named = [*signed(plane, client, one), ("client_id", client.client_id)]
    assert (await token(browser, named)).status == 200


async def test_it_does_so_at_every_endpoint(plane: Plane, browser: Browser, ada: str) -> None:
    """RFC 7009, section 2.1; RFC 7662, section 2.1; RFC 8628, section 3.1; RFC 9126, section 2."""
    client, one = await keyed(plane)
    issued = (await token(browser, signed(plane, client, one))).json["access_token"]

    async def ask(path: str, fields: Fields, **changes: Any) -> Answer:
        return await browser.send("POST", f"/oauth2/{path}", [*fields, *signed(plane, client, one, **changes)])

    assert (await ask("introspect", [("token", issued)])).json["active"] is True
    assert (await ask("device_authorization", [])).json["user_code"]
    asked = parse_qsl(urlsplit(authorize_path(client)).query)
    for aud in (plane.url, f"{plane.url}/oauth2/token", f"{plane.url}/oauth2/par"):
        assert (await ask("par", asked, aud=aud)).status == 201
    assert (await token(browser, signed(plane, client, one, aud=f"{plane.url}/oauth2/par"))).status == 401
    assert (await ask("revoke", [("token", issued)])).json == {}
    assert (await ask("introspect", [("token", issued)])).json == {"active": False}


async def test_an_assertion_counts_once(plane: Plane, browser: Browser, database: str) -> None:
    """RFC 7523, section 3, number 7: `jti`, through the nonces that are spent."""
    client, one = await keyed(plane)
    fields = signed(plane, client, one)
    answers = await asyncio.gather(*(token(browser, fields) for _ in range(50)))
    assert Counter(answer.status for answer in answers) == {200: 1, 401: 49}
    assert (await browser.send("POST", "/oauth2/introspect", [("token", "x"), *fields])).status == 401
    assert (await row_counts(database))["token_nonces"] == 1
    again = signed(plane, client, one, jti="same")
    assert [(await token(browser, again)).status for _ in range(2)] == [200, 401]
    other, key = await keyed(plane)
    assert (await token(browser, signed(plane, other, key, jti="same"))).status == 200  # each client has its own


async def test_whatever_is_wrong_is_one_refusal_and_spends_nothing(
    plane: Plane, browser: Browser, database: str
) -> None:
    client, one = await keyed(plane)
    other, theirs = await keyed(plane, "EdDSA")
    secretive, secret = await plane.client()
    public, _ = await plane.client(confidential=False)
    good = signed(plane, client, one)
    text = good[1][1]
    kind = ("client_assertion_type", TYPE)
    before = await row_counts(database)
    cases: list[tuple[Fields, dict[str, str], int, str]] = [
        (signed(plane, client, theirs), {}, 401, "invalid_client"),
        (signed(plane, other, one), {}, 401, "invalid_client"),
        (signed(plane, secretive, one), {}, 401, "invalid_client"),  # it has no keys
        (signed(plane, public, one), {}, 401, "invalid_client"),
        (signed(plane, client, one, sub="nobody", iss="nobody"), {}, 401, "invalid_client"),
        (signed(plane, client, one, sub="\0", iss="\0"), {}, 401, "invalid_client"),
        (signed(plane, client, one, exp=int(time.time()) - 3600), {}, 401, "invalid_client"),
        (signed(plane, client, one, exp=int(time.time()) + 86400), {}, 401, "invalid_client"),
        (signed(plane, client, one, exp=None), {}, 401, "invalid_client"),
        (signed(plane, client, one, jti=None), {}, 401, "invalid_client"),
        (signed(plane, client, one, aud="https://other.example"), {}, 401, "invalid_client"),
        (signed(plane, client, one, aud=f"{plane.url}/oauth2/introspect"), {}, 401, "invalid_client"),
        ([kind, ("client_assertion", text[:-2])], {}, 401, "invalid_client"),
        ([kind, ("client_assertion", "x")], {}, 401, "invalid_client"),
        ([kind, ("client_assertion", "é.é.é")], {}, 401, "invalid_client"),
        ([kind, ("client_assertion", "x" * 60000)], {}, 401, "invalid_client"),
        ([("client_assertion_type", TYPE + "x"), good[1]], {}, 401, "invalid_client"),
        ([("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), good[1]], {}, 401,
         "invalid_client"),
        ([*good, ("client_id", other.client_id)], {}, 401, "invalid_client"),
        ([("client_id", client.client_id)], {}, 401, "invalid_client"),  # no authentication at all
        ([("client_id", client.client_id), ("client_secret", "x")], {}, 401, "invalid_client"),
        ([good[1]], {}, 400, "invalid_request"),
        ([kind], {}, 400, "invalid_request"),
        ([kind, ("client_assertion", "")], {}, 400, "invalid_request"),
        ([*good, good[1]], {}, 400, "invalid_request"),
        ([*good, ("client_secret", secret)], {}, 400, "invalid_request"),
        (good, basic(secretive.client_id, secret), 400, "invalid_request"),
        (good, basic(client.client_id, "x"), 400, "invalid_request"),
    ]  # fmt: skip
    for fields, headers, status, error in cases:
        answer = await token(browser, fields, headers)
        assert (answer.status, answer.json["error"]) == (status, error), (fields, answer.text)
        if status == 401:
            assert answer.json["error_description"] == "Client authentication failed."
    query = await browser.send("POST", f"/oauth2/token?client_assertion={text}", GRANT)
    assert query.json["error"] == "invalid_request"
    after = await row_counts(database)
    assert {**after, "events": 0} == {**before, "events": 0}
    await plane.store.clients.disable(client.client_id)
    assert (await token(browser, good)).status == 401
    await plane.store.clients.enable(client.client_id)
    assert (await token(browser, good)).status == 200  # none of that has spent it


async def test_a_code_is_redeemed_by_who_signs(plane: Plane, signed_in: Browser) -> None:
    client, one = await keyed(plane)
    page = await signed_in.get(authorize_path(client))
    code = (await signed_in.submit(page.form, decision="allow")).members["code"]
    fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", client.redirect_uris[0]),
        ("code_verifier", "obviously-a-fake-verifier-of-43-characters-x"),
    ]
    unsigned = await signed_in.send("POST", "/oauth2/token", [*fields, ("client_id", client.client_id)])
    assert unsigned.status == 401
    answer = await signed_in.send("POST", "/oauth2/token", [*fields, *signed(plane, client, one)])
    assert answer.status == 200


async def test_keys_replace_secrets_and_the_other_way_round(plane: Plane, browser: Browser) -> None:
    client, secret = await plane.client()
    one, two = signer("ES256"), signer("EdDSA")
    store = plane.store.clients
    like = NewClient.like(client)
    await store.update(client.client_id, replace(like, jwks=one.jwks))
    assert (await token(browser, [], basic(client.client_id, secret))).status == 401
    assert (await token(browser, signed(plane, client, one))).status == 200
    assert await store.rotate_secret(client.client_id) is None
    await store.update(client.client_id, replace(like, jwks=two.jwks))
    assert (await token(browser, signed(plane, client, one))).status == 401
    assert (await token(browser, signed(plane, client, two))).status == 200
    await store.update(client.client_id, like)
    assert (await token(browser, signed(plane, client, two))).status == 401
    fresh = await store.rotate_secret(client.client_id)
    assert fresh is not None
    assert (await token(browser, [], basic(client.client_id, fresh))).status == 200


async def test_the_metadata_tells_of_it(browser: Browser) -> None:
    """RFC 8414, section 2: the algorithms must be there, and `none` must not be among them."""
    document = (await browser.get("/.well-known/oauth-authorization-server")).json
    for endpoint in ("token", "revocation", "introspection"):
        assert "private_key_jwt" in document[f"{endpoint}_endpoint_auth_methods_supported"]
        algorithms = document[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]
        assert algorithms == ["RS256", "PS256", "ES256", "EdDSA"]
