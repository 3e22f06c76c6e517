"""Clients that sign and that no operator knows: by registration (RFC 7591) or by a document of theirs."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.crypto import Keyring, random_text
from gateway.oauth.client_assertion import TYPE
from gateway.oauth.jws import decoded, encoded
from gateway.oauth.registration import SIGNED
from gateway.store import NewClient, Store
from gateway.web.plane import PLANE
from tests.oauth.signing import Signer, signer
from tests.serving import until
from tests.test_fetching import Site, a_site, document
from tests.web.rig import VERIFIER, Answer, Browser, Plane, basic, row_counts, serving
from tests.web.test_client_keys import named
from tests.web.test_client_keys import publish as publish_keys
from tests.web.test_documents import REDIRECT, path_of, publish
from tests.web.test_registration import decide, managed, place_of, registered, send

Fields = Sequence[tuple[str, str]]
SIGNS: dict[str, Any] = {"token_endpoint_auth_method": "private_key_jwt"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as served:
        yield served


@pytest.fixture
async def plane(store: Store, keyring: Keyring, tmp_path: Path, site: Site) -> AsyncIterator[Plane]:
    """Where anybody may register, or have a document."""
    tables: dict[str, Any] = {"registration": {"policy": "open"}, "client_metadata_documents": {"enabled": True}}
    async with serving(store, keyring, tmp_path, fetcher=site.fetcher, **tables) as served:
        yield served


def signed(plane: Plane, client_id: str, one: Signer, **header: Any) -> list[tuple[str, str]]:
    claims = {"iss": client_id, "sub": client_id, "aud": plane.url, "exp": int(time.time()) + 60, "jti": random_text()}
    return [("client_assertion_type", TYPE), ("client_assertion", one.assertion(claims, **header))]


async def code_of(browser: Browser, client_id: str) -> list[tuple[str, str]]:
    """A token request's fields but for who asks, after the person has allowed it."""
    page = await browser.get(path_of(client_id, scope="notes:read"))
    answer = page if page.status == 303 else await browser.submit(page.form, decision="allow")
    fields = {"grant_type": "authorization_code", "code": answer.members["code"], "redirect_uri": REDIRECT}
    return [*fields.items(), ("code_verifier", VERIFIER)]


async def ask(browser: Browser, fields: Fields, headers: dict[str, str] | None = None) -> Answer:
    return await browser.send("POST", "/oauth2/token", fields, headers or {})


def refresh(answer: Answer) -> list[tuple[str, str]]:
    return [("grant_type", "refresh_token"), ("refresh_token", answer.json["refresh_token"])]


@pytest.mark.parametrize("where", ["jwks", "jwks_uri"])
async def test_a_client_registers_its_keys_and_signs(plane: Plane, signed_in: Browser, site: Site, where: str) -> None:
    """RFC 7591, section 2; RFC 7523, section 3."""
    one, other = signer("ES256"), signer("EdDSA")
    keys = {"jwks": {"keys": [one.jwk]}} if where == "jwks" else {"jwks_uri": publish_keys(site, one)}
    grants = {"grant_types": ["authorization_code", "refresh_token"]}
    client = await registered(signed_in, redirect_uris=[REDIRECT], **SIGNS, **keys, **grants)
    assert client[where] == keys[where], "section 3.2.1: all that is registered"
    assert client["token_endpoint_auth_method"] == "private_key_jwt"
    assert not client.keys() & {"client_secret", "client_secret_expires_at"}
    client_id = client["client_id"]
    fields = await code_of(signed_in, client_id)
    for refused in ([("client_id", client_id)], signed(plane, client_id, other)):
        assert (await ask(signed_in, [*fields, *refused])).json["error"] == "invalid_client"
    assert (await ask(signed_in, fields, basic(client_id, "x"))).status == 401
    tokens = await ask(signed_in, [*fields, *signed(plane, client_id, one)])
    assert tokens.status == 200, tokens.text
    assert (await ask(signed_in, [*refresh(tokens), *signed(plane, client_id, one)])).status == 200


async def test_a_client_changes_its_keys_and_its_way_by_section_2_2_of_rfc_7592(plane: Plane, browser: Browser) -> None:
    old, new = signer("ES256"), signer("EdDSA")
    client = await registered(browser, **SIGNS, jwks={"keys": [old.jwk]})
    token, path, client_id = client["registration_access_token"], place_of(client), client["client_id"]

    async def status(one: Signer) -> int:
        fields = [("token", "x"), *signed(plane, client_id, one)]
        return (await browser.send("POST", "/oauth2/introspect", fields)).status

    assert [await status(old), await status(new)] == [200, 401]
    read = await send(browser, "GET", path, token=token)
    assert read.json["jwks"] == {"keys": [old.jwk]}
    same = await send(browser, "PUT", path, managed(read.json), token)
    assert (same.status, await status(old)) == (200, 200)
    changed = await send(browser, "PUT", path, managed(read.json, jwks={"keys": [new.jwk]}), token)
    assert changed.json["jwks"] == {"keys": [new.jwk]}
    assert [await status(old), await status(new)] == [401, 200]
    secret = await send(
        browser, "PUT", path, managed(client, jwks=None, token_endpoint_auth_method="client_secret_basic"), token
    )
    assert secret.json["client_secret"]
    assert "jwks" not in secret.json
    assert await status(new) == 401, "keys of its own end with its way to authenticate"
    back = await send(browser, "PUT", path, managed(client, jwks={"keys": [old.jwk]}), token)
    assert "client_secret" not in back.json
    assert await status(old) == 200


async def test_keys_that_an_operator_gave_are_told_and_stay(plane: Plane, browser: Browser) -> None:
    client = await registered(browser)
    found = await plane.store.clients.find(client["client_id"])
    assert found is not None
    one = signer("ES256")
    await plane.store.clients.update(found.client_id, replace(NewClient.like(found), jwks=one.jwks))
    token = client["registration_access_token"]
    read = await send(browser, "GET", place_of(client), token=token)
    assert (read.json["token_endpoint_auth_method"], read.json["jwks"]) == ("private_key_jwt", json.loads(one.jwks))
    answer = await send(browser, "PUT", place_of(client), managed(client, client_secret=None), token)
    assert answer.json["jwks"] == json.loads(one.jwks)


@pytest.mark.parametrize("where", ["jwks", "jwks_uri"])
async def test_a_client_of_a_document_signs(plane: Plane, signed_in: Browser, site: Site, where: str) -> None:
    """draft-ietf-oauth-client-id-metadata-document-01, section 6.2: it is confidential from then on."""
    one, other = signer("ES256"), signer("EdDSA")
    keys = {"jwks": {"keys": [one.jwk]}} if where == "jwks" else {"jwks_uri": publish_keys(site, one)}
    client_id = publish(site, **SIGNS, **keys)
    fields = await code_of(signed_in, client_id)
    for refused in ([("client_id", client_id)], signed(plane, client_id, other)):
        assert (await ask(signed_in, [*fields, *refused])).json["error"] == "invalid_client"
    tokens = await ask(signed_in, [*fields, *signed(plane, client_id, one)])
    assert tokens.status == 200, tokens.text
    unsigned = await ask(signed_in, [*refresh(tokens), ("client_id", client_id)])
    assert unsigned.json["error"] == "invalid_client"
    assert (await ask(signed_in, [*refresh(tokens), *signed(plane, client_id, one)])).status == 200
    assert len(site.heads) == (1 if where == "jwks" else 2), "each was had once"


async def test_a_client_of_a_document_pushes_what_it_signs(
    plane: Plane, signed_in: Browser, site: Site, database: str
) -> None:
    """RFC 9126, section 2, by a client that nobody has met: nothing is written of it before it is proven."""
    one = signer("ES256")
    client_id = publish(site, **SIGNS, jwks={"keys": [one.jwk]})
    asked = [("response_type", "code"), ("redirect_uri", REDIRECT), ("scope", "notes:read")]
    asked += [("code_challenge", "x" * 43), ("code_challenge_method", "S256")]

    async def push(credential: Fields) -> Answer:
        return await signed_in.send("POST", "/oauth2/par", [*asked, *credential])

    before = await row_counts(database)
    for refused in (signed(plane, client_id, signer("EdDSA")), [("client_id", client_id)]):
        assert (await push(refused)).json["error"] == "invalid_client"
    assert (await ask(signed_in, [("grant_type", "refresh_token"), *signed(plane, client_id, one)])).status == 401
    assert await row_counts(database) == before
    answer = await push(signed(plane, client_id, one))
    assert answer.status == 201, answer.text
    known = await plane.store.clients.find(client_id)
    assert known is not None
    assert known.confidential


async def test_keys_change_with_the_document_and_old_ones_are_good_no_more(
    plane: Plane, signed_in: Browser, site: Site
) -> None:
    """Section 6.3.1."""
    old, new = named("old"), named("new", "EdDSA")
    client_id = publish(site, **SIGNS, jwks={"keys": [old.jwk]})
    held = await ask(signed_in, [*await code_of(signed_in, client_id), *signed(plane, client_id, old)])
    publish(site, **SIGNS, jwks={"keys": [new.jwk]})
    documents = plane.app[PLANE].documents
    documents._kept.clear()
    held = await ask(signed_in, [*refresh(held), *signed(plane, client_id, new)])
    assert held.status == 200, held.text
    assert (await ask(signed_in, [*refresh(held), *signed(plane, client_id, old)])).status == 401
    # Where the document is away, the client is known as it was last.
    site.answers["/app"] = document(b"{")
    documents._kept.clear()
    assert (await ask(signed_in, [*refresh(held), *signed(plane, client_id, old)])).status == 401
    assert (await ask(signed_in, [*refresh(held), *signed(plane, client_id, new)])).status == 200


async def test_a_client_that_does_not_sign_any_more_is_public_again(
    plane: Plane, signed_in: Browser, site: Site
) -> None:
    one = signer("ES256")
    client_id = publish(site, **SIGNS, jwks={"keys": [one.jwk]})
    held = await ask(signed_in, [*await code_of(signed_in, client_id), *signed(plane, client_id, one)])
    publish(site)
    plane.app[PLANE].documents._kept.clear()
    assert (await ask(signed_in, [*refresh(held), *signed(plane, client_id, one)])).status == 401
    fields = await code_of(signed_in, client_id)
    assert (await ask(signed_in, [*fields, ("client_id", client_id)])).status == 200


async def test_keys_of_strangers_that_come_slowly_make_nobody_else_wait(
    plane: Plane, browser: Browser, site: Site
) -> None:
    """What clients have elsewhere is fetched outside of the turns at the database."""
    one = signer("ES256")
    keys, slow = plane.app[PLANE].client_keys, asyncio.Event()
    found, original = list[str](), keys._fetched

    async def held(uri: str) -> Any:
        found.append(uri)
        await slow.wait()
        return await original(uri)

    keys._fetched = held  # type: ignore[method-assign]  # a host that answers when the test says so
    ids = [(await registered(browser, **SIGNS, jwks_uri=site.url(f"/{n}")))["client_id"] for n in range(8)]
    token = [("token", "x")]
    asking = [
        asyncio.create_task(browser.send("POST", "/oauth2/revoke", [*token, *signed(plane, client_id, one)]))
        for client_id in ids
    ]
    try:
        await until(lambda: len(found) == len(ids))
        client, secret = await plane.client()
        async with asyncio.timeout(30):
            answer = await browser.send("POST", "/oauth2/revoke", token, basic(client.client_id, secret))
        assert answer.status == 200
    finally:
        slow.set()
        answers = await asyncio.gather(*asking)
    assert {answer.status for answer in answers} == {401}


async def test_strangers_make_us_fetch_so_many_keys_and_no_more(plane: Plane, browser: Browser, site: Site) -> None:
    """However many clients they register; those of an operator's clients are fetched all the same."""
    one = signer("ES256")
    client = await registered(browser, **SIGNS, jwks_uri=site.url("/first"))
    found = await plane.store.clients.find(client["client_id"])
    assert found is not None
    ids = [client["client_id"]]
    for number in range(34):
        keys = json.dumps({"jwks_uri": site.url(f"/keys/{number}")})
        made, _ = await plane.store.clients.create(replace(NewClient.like(found), jwks=keys))
        ids.append(made.client_id)
    for client_id in ids:
        answer = await browser.send("POST", "/oauth2/revoke", [("token", "x"), *signed(plane, client_id, one)])
        assert answer.status == 401
    assert len(site.heads) == 30
    trusted, _ = await plane.client(jwks=json.dumps({"jwks_uri": publish_keys(site, one)}))
    fields = [("token", "x"), *signed(plane, trusted.client_id, one)]
    assert (await browser.send("POST", "/oauth2/revoke", fields)).status == 200


async def test_a_key_that_a_client_gave_up_is_good_for_nobody_whatever_strangers_use_up(
    plane: Plane, signed_in: Browser, stranger: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    stolen, new = signer("ES256"), signer("EdDSA")
    client_id = publish(site, **SIGNS, jwks={"keys": [stolen.jwk]})
    tokens = await ask(signed_in, [*await code_of(signed_in, client_id), *signed(plane, client_id, stolen)])
    publish(site, **SIGNS, jwks={"keys": [new.jwk]})
    documents, thief = plane.app[PLANE].documents, {"X-Forwarded-For": "198.51.100.9"}
    documents._kept.clear()  # as its time is over
    for number in range(30):
        await stranger.get(path_of(site.url(f"/{number}")), thief)
    got = await ask(stranger, [*refresh(tokens), *signed(plane, client_id, stolen)], thief)
    assert (got.status, got.json["error"]) == (401, "invalid_client")
    own = await ask(signed_in, [*refresh(tokens), *signed(plane, client_id, new)])
    assert own.status == 200, own.text
    # Where it is our own bound that keeps us from asking, nothing says that any key is still the client's.
    documents._kept.clear()
    monkeypatch.setattr(documents._fetches._known, "_by_name", 0)
    for one in (stolen, new):
        late = await ask(signed_in, [*refresh(own), *signed(plane, client_id, one)])
        assert (late.status, late.json["error"]) == (429, "temporarily_unavailable")
        assert late.headers["Retry-After"] == "60"


async def test_an_operators_decisions_outlive_what_a_document_says(
    plane: Plane, signed_in: Browser, site: Site
) -> None:
    """At the next sign-in, and when a request is kept by what was read before an operator decided."""
    client_id = publish(site)
    assert (await signed_in.get(path_of(client_id, scope="notes:read"))).status == 200
    read_before = await plane.store.clients.find(client_id)
    assert read_before is not None
    decided: dict[str, Any] = {"allow_groups": frozenset({"staff"}), "dpop_required": True}
    await decide(plane, client_id, **decided, scopes=frozenset({"notes:read"}))
    stale = replace(NewClient.like(read_before), name="Renamed")
    assert await plane.store.registrations.keep(client_id, stale, idle=60.0, place=None)
    page = await signed_in.get(path_of(client_id, scope="notes:read"))
    assert page.status == 403, page.text
    await decide(plane, client_id, allow_groups=frozenset())
    page = await signed_in.get(path_of(client_id, scope="notes:read notes:write"))
    assert page.members["error"] == "invalid_scope"
    found = await plane.store.clients.find(client_id)
    assert found is not None
    assert (found.name, set(found.scopes), found.dpop_required) == ("Renamed", {"notes:read"}, True)


async def test_a_client_with_keys_of_an_operator_never_comes_back_to_a_secret(plane: Plane, browser: Browser) -> None:
    """It may name keys of its own in their place; less than a signature proves it no more."""
    own = signer("EdDSA")
    client = await registered(browser)
    await decide(plane, client["client_id"], jwks=signer("ES256").jwks)
    token, bare = client["registration_access_token"], managed(client, client_secret=None)
    signs = await send(browser, "PUT", place_of(client), bare | SIGNS | {"jwks": {"keys": [own.jwk]}}, token)
    assert signs.json["jwks"] == {"keys": [own.jwk]}
    for method in ("client_secret_basic", "none"):
        answer = await send(browser, "PUT", place_of(client), bare | {"token_endpoint_auth_method": method}, token)
        assert (answer.json["token_endpoint_auth_method"], answer.json["jwks"]) == (SIGNED, {"keys": [own.jwk]})
        assert "client_secret" not in answer.json


def costly(bits: int, exponent: int) -> dict[str, str]:
    """A public RSA key that nobody holds the private half of."""
    modulus = (1 << (bits - 1)) | random.getrandbits(bits - 1) | 1
    return {"kty": "RSA", "n": encoded(modulus.to_bytes(bits // 8)), "e": encoded(exponent.to_bytes(8).lstrip(b"\0"))}


@pytest.mark.parametrize(("bits", "exponent"), [(8192, 65537), (4104, 65537), (2048, 2**32 - 1), (2048, 3)])
async def test_keys_of_strangers_that_cost_more_than_usual_are_refused(
    plane: Plane, browser: Browser, site: Site, bits: int, exponent: int
) -> None:
    """RFC 7591, section 3.2.2; at `jwks_uri` there is none among them then."""
    key = costly(bits, exponent)
    members = {"redirect_uris": [REDIRECT], **SIGNS}
    answer = await send(browser, "POST", "/oauth2/register", {**members, "jwks": {"keys": [key]}})
    assert (answer.status, answer.json["error"]) == (400, "invalid_client_metadata")
    assert "2048 to 4096 bits, and the exponent 65537" in answer.json["error_description"]
    one = named("one")
    site.answers["/keys"] = document(json.dumps({"keys": [key, one.jwk]}).encode())
    client = await registered(browser, **SIGNS, jwks_uri=site.url("/keys"))
    fields = [("token", "x"), *signed(plane, client["client_id"], one, kid="one")]
    assert (await browser.send("POST", "/oauth2/revoke", fields)).status == 200
    kept = plane.app[PLANE].client_keys._kept[site.url("/keys")]
    assert [jwk["kty"] for jwk in json.loads(kept.jwks or "")["keys"]] == ["EC"]


async def test_a_client_learns_of_people_by_introspection_what_its_scopes_tell_it(
    plane: Plane, signed_in: Browser, site: Site, ada: str
) -> None:
    """OpenID Connect Core, section 8.1, and RFC 7662, section 5: of its own tokens, and of others as a stranger; an
    API that an operator made learns who it is."""
    secret = {"token_endpoint_auth_method": "client_secret_basic"}
    client = await registered(signed_in, redirect_uris=[REDIRECT], subject_type="pairwise", **secret)
    stranger = await registered(signed_in, redirect_uris=[REDIRECT], **secret)
    api, api_secret = await plane.client()
    seen = dict[str, dict[str, Any]]()
    for scope, ticked in (("openid", []), ("openid profile", ["profile"])):
        page = await signed_in.get(path_of(client["client_id"], scope=scope))
        answer = await signed_in.submit(page.form, decision="allow", scope=ticked)
        fields = {"grant_type": "authorization_code", "code": answer.members["code"], "redirect_uri": REDIRECT}
        headers = basic(client["client_id"], client["client_secret"])
        tokens = await ask(signed_in, [*fields.items(), ("code_verifier", VERIFIER)], headers)
        known_as = json.loads(decoded(tokens.json["id_token"].split(".")[1]))["sub"]
        assert known_as != ada
        for name, (asker, its_secret) in {
            "itself": (client["client_id"], client["client_secret"]),
            "stranger": (stranger["client_id"], stranger["client_secret"]),
            "api": (api.client_id, api_secret),
        }.items():
            told = await signed_in.send(
                "POST", "/oauth2/introspect", [("token", tokens.json["access_token"])], basic(asker, its_secret)
            )
            seen[name] = told.json
        assert seen["itself"]["sub"] == seen["stranger"]["sub"] == known_as
        assert ("username" in seen["itself"], "username" in seen["stranger"]) == ("profile" in scope,) * 2
        assert (seen["api"]["sub"], seen["api"]["username"]) == (ada, "ada")
