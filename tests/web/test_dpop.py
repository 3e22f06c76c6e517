"""Tokens that are bound to a key of their client's (DPoP, RFC 9449), from the proof to the refresh token."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.crypto import Keyring, random_text
from gateway.model import Client
from gateway.oauth import jws
from gateway.store import Store
from tests.oauth.proofs import ES256, OTHER, jkt_of, proof
from tests.oauth.signing import Signer
from tests.store.rig import fetch
from tests.web.conftest import Registered
from tests.web.rig import Answer, Browser, Plane, authorize_path, basic, code_fields, code_for, row_counts, serving
from tests.web.test_device_code import allowed

Fields = Sequence[tuple[str, str]]
GRANT = [("grant_type", "client_credentials"), ("scope", "notes:read")]


def proven(
    served: str, key: Signer = ES256, endpoint: str = "token", late: float = 0.0, **changes: Any
) -> dict[str, str]:
    """The DPoP field of a good request, with parts of its proof another; `late` are seconds that it took."""
    usual: dict[str, Any] = {
        "method": "POST", "url": f"{served}/oauth2/{endpoint}", "now": time.time() - late, "jti": random_text(),
    }  # fmt: skip
    return {"DPoP": proof(key, **(usual | changes))}


async def asked(browser: Browser, plane: Plane, fields: Fields, client: Client, key: Signer | None = ES256) -> Answer:
    """The token endpoint's answer to a public client, with a proof of that key."""
    headers = {} if key is None else proven(plane.url, key)
    return await browser.send("POST", "/oauth2/token", [*fields, ("client_id", client.client_id)], headers)


def refresh(token: str) -> list[tuple[str, str]]:
    return [("grant_type", "refresh_token"), ("refresh_token", token)]


async def test_token_is_bound_to_the_key_of_the_proof(
    plane: Plane, browser: Browser, register: Registered
) -> None:  # section 5
    client, secret = await register()
    credentials = basic(client.client_id, secret)
    ahead = proven(plane.url, late=-30)  # clocks differ
    assert (await browser.send("POST", "/oauth2/token", GRANT, credentials | ahead)).status == 200
    answer = await browser.send("POST", "/oauth2/token", GRANT, credentials | proven(plane.url, late=30))
    assert (answer.status, answer.json["token_type"]) == (200, "DPoP")
    form = [("token", answer.json["access_token"])]
    found = (await browser.send("POST", "/oauth2/introspect", form, credentials)).json
    assert (found["token_type"], found["cnf"]) == ("DPoP", {"jkt": jkt_of(ES256)})  # section 6.2
    plain = await browser.send("POST", "/oauth2/token", GRANT, credentials)
    assert plain.json["token_type"] == "bearer"
    assert not any("DPoP-Nonce" in given.headers for given in (answer, plain))  # who is given one must use it


async def test_refresh_token_of_a_public_client_is_bound_too(
    plane: Plane, signed_in: Browser, public: Client
) -> None:  # section 5
    code = await code_for(signed_in, public, ["notes:read"])
    first = (await asked(signed_in, plane, code_fields(code, public), public)).json
    assert first["token_type"] == "DPoP"
    for key in (OTHER, None):
        answer = await asked(signed_in, plane, refresh(first["refresh_token"]), public, key)
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    second = await asked(signed_in, plane, refresh(first["refresh_token"]), public)
    assert (second.status, second.json["token_type"]) == (200, "DPoP")
    third = await asked(signed_in, plane, refresh(second.json["refresh_token"]), public, OTHER)
    assert third.json["error"] == "invalid_grant"
    assert (await asked(signed_in, plane, refresh(second.json["refresh_token"]), public)).status == 200


async def test_refresh_token_is_bound_from_the_first_proof_on(plane: Plane, signed_in: Browser, public: Client) -> None:
    """Section 5: whichever request brings it, one that is issued upon a proof is bound to that key."""
    code = await code_for(signed_in, public, ["notes:read"])
    tokens = (await asked(signed_in, plane, code_fields(code, public), public, None)).json
    for key, kind in ((None, "bearer"), (ES256, "DPoP")):
        tokens = (await asked(signed_in, plane, refresh(tokens["refresh_token"]), public, key)).json
        assert tokens["token_type"] == kind
    for key in (OTHER, None):
        answer = await asked(signed_in, plane, refresh(tokens["refresh_token"]), public, key)
        assert (answer.status, answer.json.get("error")) == (400, "invalid_grant"), answer.text
    assert (await asked(signed_in, plane, refresh(tokens["refresh_token"]), public)).status == 200


async def test_refresh_token_of_a_confidential_client_is_bound_to_the_client_alone(
    plane: Plane, signed_in: Browser, register: Registered
) -> None:  # section 5
    client, secret = await register()
    code = await code_for(signed_in, client, ["notes:read"])
    credentials = basic(client.client_id, secret)

    async def ask(fields: Fields, headers: dict[str, str]) -> Answer:
        return await signed_in.send("POST", "/oauth2/token", fields, credentials | headers)

    first = await ask(code_fields(code, client), proven(plane.url))
    second = await ask(refresh(first.json["refresh_token"]), proven(plane.url, OTHER))
    assert (second.status, second.json["token_type"]) == (200, "DPoP")
    form = [("token", second.json["access_token"])]
    found = (await signed_in.send("POST", "/oauth2/introspect", form, credentials)).json
    assert found["cnf"] == {"jkt": jkt_of(OTHER)}


@pytest.mark.parametrize("pushed", [False, True])
async def test_code_is_bound_by_dpop_jkt(plane: Plane, signed_in: Browser, public: Client, pushed: bool) -> None:
    """Sections 10 and 10.1."""
    path = authorize_path(public, dpop_jkt=jkt_of(ES256))
    if pushed:
        form = parse_qsl(urlsplit(authorize_path(public)).query)
        form.append(("dpop_jkt", ""))  # without a value, as if it were left out (RFC 6749, section 3.1)
        answer = await signed_in.send("POST", "/oauth2/par", form, proven(plane.url, endpoint="par"))
        assert answer.status == 201, answer.text
        path = f"/oauth2/authorize?client_id={public.client_id}&request_uri={answer.json['request_uri']}"
    page = await signed_in.get(path)
    page = await signed_in.submit(page.form, decision="allow", scope=["notes:read"])
    fields = code_fields(page.members["code"], public)
    for key in (OTHER, None):
        refused = await asked(signed_in, plane, fields, public, key)
        assert (refused.status, refused.json["error"]) == (400, "invalid_grant")
    assert (await asked(signed_in, plane, fields, public)).json["token_type"] == "DPoP"


@pytest.mark.parametrize("jkt", ["x", "A" * 42, "A" * 44, "A" * 42 + "=", "ä" * 43])
async def test_dpop_jkt_is_a_thumbprint(signed_in: Browser, public: Client, jkt: str) -> None:
    answer = await signed_in.get(authorize_path(public, dpop_jkt=jkt))
    assert (answer.status, answer.members["error"]) == (303, "invalid_request")


async def test_pushed_request_names_one_key(
    plane: Plane, browser: Browser, public: Client, database: str
) -> None:  # section 10.1
    form = parse_qsl(urlsplit(authorize_path(public, dpop_jkt=jkt_of(OTHER))).query)
    answer = await browser.send("POST", "/oauth2/par", form, proven(plane.url, endpoint="par"))
    assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof")
    for wrong in (proven(plane.url), {"DPoP": ""}):  # of another endpoint; none
        answer = await browser.send("POST", "/oauth2/par", form, wrong)
        assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof")
    assert (await row_counts(database))["pushed_requests"] == 0
    same = parse_qsl(urlsplit(authorize_path(public, dpop_jkt=jkt_of(ES256))).query)
    twice = [*same, ("dpop_jkt", jkt_of(ES256))]
    answer = await browser.send("POST", "/oauth2/par", twice, proven(plane.url, endpoint="par"))
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert (await browser.send("POST", "/oauth2/par", same, proven(plane.url, endpoint="par"))).status == 201


WRONG: dict[str, dict[str, Any]] = {
    "method": {"method": "GET"},
    "url": {"url": "http://127.0.0.1/oauth2/token"},
    "another endpoint": {"endpoint": "par"},
    "too old": {"late": 75},
    "clock ahead": {"late": -120},
    "no jti": {"jti": None},
    "no htm": {"htm": None},
    "no htu": {"htu": None},
    "no iat": {"iat": None},
    "typ": {"header": {"typ": "JWT"}},
    "alg": {"header": {"alg": "HS256"}},
    "private key": {"header": {"jwk": {**ES256.jwk, "d": "AAAA"}}},
    "signed by another": {"header": {"jwk": OTHER.jwk}},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
async def test_wrong_proof_gives_no_token_and_stores_nothing(
    plane: Plane, browser: Browser, register: Registered, database: str, changes: dict[str, Any]
) -> None:
    client, secret = await register()
    before = await row_counts(database)
    headers = basic(client.client_id, secret) | proven(plane.url, **changes)
    answer = await browser.send("POST", "/oauth2/token", GRANT, headers)
    assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof"), answer.text
    assert await row_counts(database) == before


async def test_proof_comes_once_in_a_request(plane: Plane, browser: Browser, register: Registered) -> None:
    client, secret = await register()
    two = [*basic(client.client_id, secret).items(), *proven(plane.url).items(), *proven(plane.url).items()]
    answer = await browser.send("POST", "/oauth2/token", GRANT, two)
    assert answer.json["error"] == "invalid_dpop_proof"


async def test_proof_counts_once(
    plane: Plane, browser: Browser, register: Registered, database: str
) -> None:  # section 11.1
    client, secret = await register()
    headers = basic(client.client_id, secret) | proven(plane.url, late=-45)
    answers = await asyncio.gather(*(browser.send("POST", "/oauth2/token", GRANT, headers) for _ in range(50)))
    assert Counter(answer.status for answer in answers) == {200: 1, 400: 49}
    assert {answer.json["error"] for answer in answers if answer.status == 400} == {"invalid_dpop_proof"}
    kept = "select extract(epoch from expires_at - now()) as seconds from token_nonces"
    assert [row["seconds"] > 45 + 60 for row in await fetch(database, kept)] == [True], "for as long as it is fresh"


async def test_client_that_must_prove_its_key_gets_no_token_without(
    plane: Plane, browser: Browser, register: Registered
) -> None:  # section 5.2
    client, secret = await register(dpop_required=True)
    credentials = basic(client.client_id, secret)
    answer = await browser.send("POST", "/oauth2/token", GRANT, credentials)
    assert (answer.status, answer.json["error"]) == (400, "invalid_dpop_proof")
    assert (await browser.send("POST", "/oauth2/token", GRANT, credentials | proven(plane.url))).status == 200


async def test_demanded_nonce_is_given_and_then_taken(store: Store, keyring: Keyring, tmp_path: Path) -> None:
    """Section 8."""
    async with serving(store, keyring, tmp_path, tokens={"dpop_nonce": True}) as plane:
        browser = Browser(plane.url)
        client, secret = await plane.client()
        credentials = basic(client.client_id, secret)
        refused = await browser.send("POST", "/oauth2/token", GRANT, credentials | proven(plane.url))
        assert (refused.status, refused.json["error"]) == (400, "use_dpop_nonce")
        assert "DPoP-Nonce" in refused.headers["Access-Control-Expose-Headers"]
        assert [*refused.headers].count("DPoP-Nonce") == 1
        nonce = refused.headers["DPoP-Nonce"]
        answer = await browser.send("POST", "/oauth2/token", GRANT, credentials | proven(plane.url, nonce=nonce))
        assert (answer.status, answer.json["token_type"]) == (200, "DPoP")
        assert answer.headers["DPoP-Nonce"]  # section 8.2
        form = parse_qsl(urlsplit(authorize_path(client)).query)
        pushed = await browser.send(
            "POST", "/oauth2/par", form, credentials | proven(plane.url, endpoint="par", nonce=nonce)
        )
        assert (pushed.status, bool(pushed.headers["DPoP-Nonce"])) == (201, True)
        plain = await browser.send("POST", "/oauth2/token", GRANT, credentials)
        assert (plain.json["token_type"], "DPoP-Nonce" in plain.headers) == ("bearer", False)
        other = await browser.send("POST", "/oauth2/token", GRANT, credentials | proven(plane.url, nonce="made-up"))
        assert (other.json["error"], bool(other.headers["DPoP-Nonce"])) == ("use_dpop_nonce", True)
        bare = await browser.send("POST", "/oauth2/token", GRANT, credentials | proven(plane.url))
        assert bare.json["error"] == "use_dpop_nonce"  # section 11.3
        token = answer.json["access_token"]
        field = proven(plane.url, method="GET", endpoint="userinfo", token=token)
        asked_anew = await browser.get("/oauth2/userinfo", {"Authorization": f"DPoP {token}", **field})  # section 9
        assert (asked_anew.status, asked_anew.json["error"]) == (401, "use_dpop_nonce")
        assert asked_anew.headers["WWW-Authenticate"].startswith("DPoP ")
        assert asked_anew.headers["DPoP-Nonce"]
        await browser.close()


async def test_device_s_token_is_bound(plane: Plane, signed_in: Browser, public: Client) -> None:
    started = await signed_in.send("POST", "/oauth2/device_authorization", [("client_id", public.client_id)])
    await allowed(signed_in, started.json["user_code"])
    grant = "urn:ietf:params:oauth:grant-type:device_code"
    fields = [("grant_type", grant), ("device_code", started.json["device_code"])]
    answer = await asked(signed_in, plane, fields, public)
    assert (answer.status, answer.json.get("token_type")) == (200, "DPoP"), answer.text
    assert (await asked(signed_in, plane, refresh(answer.json["refresh_token"]), public, None)).status == 400


async def test_userinfo_takes_a_bound_token_with_its_proof_alone(
    plane: Plane, signed_in: Browser, register: Registered
) -> None:  # section 7
    client, secret = await register(scopes=frozenset({"openid"}))
    code = await code_for(signed_in, client, scope="openid")
    headers = basic(client.client_id, secret) | proven(plane.url)
    issued = (await signed_in.send("POST", "/oauth2/token", code_fields(code, client), headers)).json
    token = issued["access_token"]

    async def ask(credential: str, **changes: Any) -> Answer:
        usual: dict[str, Any] = {"method": "GET", "endpoint": "userinfo", "token": token}
        return await signed_in.get(
            "/oauth2/userinfo", {"Authorization": credential, **proven(plane.url, **(usual | changes))}
        )

    assert (await ask(f"DPoP {token}")).status == 200
    for credential, changes, error in (
        (f"Bearer {token}", {}, "invalid_token"),
        (f"DPoP {token}", {"key": OTHER}, "invalid_token"),
        (f"DPoP {token}", {"method": "POST"}, "invalid_dpop_proof"),
        (f"DPoP {token}", {"token": "gwa_other"}, "invalid_dpop_proof"),
        (f"DPoP {token}", {"endpoint": "token"}, "invalid_dpop_proof"),
    ):
        refused = await ask(credential, **changes)
        assert (refused.status, refused.json["error"]) == (401, error)
        challenge = refused.headers["WWW-Authenticate"]
        assert challenge.startswith(f"{credential.partition(' ')[0]} realm=")
        assert f'error="{error}"' in challenge
    field = proven(plane.url, method="GET", endpoint="userinfo", token=token)
    for times in (1, 2):  # section 11.1: once, and one at a time
        again = await signed_in.get("/oauth2/userinfo", {"Authorization": f"DPoP {token}", **field})
        assert again.status == (200 if times == 1 else 401)
    assert again.json["error"] == "invalid_dpop_proof"
    bare = await signed_in.get("/oauth2/userinfo", {"Authorization": f"DPoP {token}"})
    assert (bare.status, bare.json["error"]) == (401, "invalid_dpop_proof")
    free = await signed_in.send(
        "POST", "/oauth2/token", refresh(issued["refresh_token"]), basic(client.client_id, secret)
    )
    plain = free.json["access_token"]
    assert (await ask(f"DPoP {plain}", token=plain)).status == 401
    assert (await ask(f"Bearer {plain}")).status == 200


async def test_metadata_and_preflights_tell_of_it(browser: Browser) -> None:  # section 5.1
    document = (await browser.get("/.well-known/oauth-authorization-server")).json
    assert document["dpop_signing_alg_values_supported"] == list(jws.ALGORITHMS)
    assert "DPoP" in (await browser.send("OPTIONS", "/oauth2/token")).headers["Access-Control-Allow-Headers"]


async def test_resource_tells_that_it_takes_bound_tokens(store: Store, keyring: Keyring, tmp_path: Path) -> None:
    """RFC 9728, section 2."""
    routes = [
        {"name": name, "path": f"/{name}", "upstreams": ["http://127.0.0.1:1"], "auth": ["bearer"], "dpop": name}
        for name in ("off", "optional", "required")
    ]
    async with serving(store, keyring, tmp_path, routes=routes) as plane:
        browser = Browser(plane.url)
        for name, told in {"off": None, "optional": False, "required": True}.items():
            document = (await browser.get(f"/.well-known/oauth-protected-resource/{name}")).json
            assert document["bearer_methods_supported"] == ["header"]
            assert document.get("dpop_bound_access_tokens_required") is told
            assert ("dpop_signing_alg_values_supported" in document) is (told is not None)
        await browser.close()
