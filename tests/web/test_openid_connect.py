"""OpenID Connect over HTTP: what a client learns of who signed in, and how it may ask (Core 1.0)."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from msgspec import structs

from gateway.crypto import Keyring
from gateway.model import ACR, SIGNING_ALGORITHMS, Client, OpenID, SigningAlgorithm
from gateway.oauth import jwk, jws
from gateway.store import Store
from gateway.store.records import NewClient
from gateway.store.users import Known
from tests.web.conftest import Registered
from tests.web.rig import PASSWORD, Answer, Browser, Plane, authorize_path, basic, code_fields, new_client, serving

pytestmark = pytest.mark.usefixtures("patient_stores")  # no database is away here, though a machine may stand still
USERINFO = "/oauth2/userinfo"
EVERYTHING = frozenset({"openid", "profile", "email", "address", "phone", "offline_access", "notes:read"})
CLAIMS: dict[str, object] = {
    "given_name": "Ada",
    "family_name": "Lovelace",
    "birthdate": "1815-12-10",
    "zoneinfo": "Europe/London",
    "locale": "en-GB",
    "picture": "https://ada.example/me.png",
    "phone_number": "+44 20 7946 0000",
    "phone_number_verified": True,
    "address": {"formatted": "12 St James’s Square\nLondon"},
}


@dataclass
class Party:
    """An application that signs people in, with nothing but what the protocol gives it."""

    browser: Browser
    plane: Plane
    client: Client
    secret: str

    async def code(self, scope: str = "openid", **changes: str | None) -> str:
        page = await self.asked(scope=scope, **changes)
        if page.status != 303:
            boxes = sorted(set(scope.split(" ")) - {"openid"})
            page = await self.browser.submit(page.form, decision="allow", scope=boxes)
        return page.members["code"]

    async def redeem(self, code: str) -> Answer:
        fields = code_fields(code, self.client)
        return await self.browser.send("POST", "/oauth2/token", fields, basic(self.client.client_id, self.secret))

    async def tokens(self, scope: str = "openid", **changes: str | None) -> dict[str, Any]:
        answer = await self.redeem(await self.code(scope, **changes))
        assert answer.status == 200, answer.text
        return dict(answer.json)

    async def refreshed(self, token: str) -> dict[str, Any]:
        fields = [("grant_type", "refresh_token"), ("refresh_token", token)]
        answer = await self.browser.send("POST", "/oauth2/token", fields, basic(self.client.client_id, self.secret))
        assert answer.status == 200, answer.text
        return dict(answer.json)

    async def verified(self, token: str) -> dict[str, Any]:
        """The claims of a token whose signature a published key made, by the algorithm that this key is for."""
        keys = (await self.browser.get("/.well-known/jwks.json")).json
        header, _, signature = token.split(".")
        said = json.loads(jws.decoded(header))
        (key,) = [key for key in jwk.keys_of(json.dumps(keys)) if key.kid == said["kid"]]
        signed = token.rpartition(".")[0].encode()
        assert key.verifies(said["alg"], signed, jws.decoded(signature))
        return dict(json.loads(jws.decoded(token.split(".")[1])))

    async def userinfo(self, token: str) -> Answer:
        return await self.browser.get(USERINFO, {"Authorization": f"Bearer {token}"})

    async def asked(self, **changes: str | None) -> Answer:
        return await self.browser.get(authorize_path(self.client, **{"scope": "openid", **changes}))


@pytest.fixture
async def party(plane: Plane, signed_in: Browser, register: Registered) -> Party:
    """A confidential application that ada, who is signed in, has not allowed anything yet."""
    await plane.store.users.update("ada", None, None, None, Known(claims=CLAIMS, email_verified=True))
    client, secret = await register(scopes=EVERYTHING)
    return Party(signed_in, plane, client, secret)


async def with_settings(party: Party, **changes: Any) -> Party:
    changed = structs.replace(NewClient.like(party.client), openid=OpenID(**changes))
    client = await party.plane.store.clients.update(party.client.client_id, changed)
    assert client is not None
    return replace(party, client=client)


# -- the ID token (sections 2 and 3.1.3) -----------------------------------------------------------------------


async def test_an_id_token_tells_who_signed_in_and_when_and_nothing_that_was_not_asked_for(
    party: Party, ada: str
) -> None:
    body = await party.tokens(nonce="n-0S6_WzA2Mj")
    claims = await party.verified(body["id_token"])
    session = await party.browser.get("/oauth2/account")
    assert session.status == 200
    half = hashlib.sha256(body["access_token"].encode()).digest()[:16]
    assert {name: claims[name] for name in ("iss", "sub", "aud", "nonce", "acr", "amr")} == {
        "iss": party.plane.url,
        "sub": ada,
        "aud": party.client.client_id,
        "nonce": "n-0S6_WzA2Mj",
        "acr": ACR,
        "amr": ["pwd"],
    }
    assert claims["at_hash"] == base64.urlsafe_b64encode(half).decode().rstrip("=")
    assert claims["auth_time"] <= claims["iat"] < claims["exp"] <= claims["iat"] + body["expires_in"]
    assert claims.keys() == {
        *("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash"),
    }


async def test_without_the_scope_there_is_no_id_token_and_no_userinfo(party: Party) -> None:
    body = await party.tokens("notes:read")
    assert "id_token" not in body
    refused = await party.userinfo(body["access_token"])
    assert refused.status == 403
    assert 'error="insufficient_scope", scope="openid"' in refused.headers["WWW-Authenticate"]


async def test_a_request_without_nonce_and_without_pkce_gets_its_code(party: Party) -> None:
    """oidcc-ensure-request-without-nonce-succeeds-for-code-flow; the client is one whose PKCE is not demanded."""
    changed = await party.plane.store.clients.update(
        party.client.client_id, structs.replace(NewClient.like(party.client), pkce_required=False)
    )
    assert changed is not None
    code = await party.code(code_challenge=None, code_challenge_method=None)
    fields = code_fields(code, party.client, code_verifier=None)
    answer = await party.browser.send("POST", "/oauth2/token", fields, basic(party.client.client_id, party.secret))
    assert "nonce" not in await party.verified(answer.json["id_token"])


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
async def test_a_client_chooses_what_signs_for_it(party: Party, algorithm: SigningAlgorithm) -> None:
    party = await with_settings(party, id_token_alg=algorithm, userinfo_alg=algorithm)
    body = await party.tokens("openid email")
    header = json.loads(jws.decoded(body["id_token"].split(".")[0]))
    assert (header["alg"], header["typ"]) == (algorithm, "JWT")
    await party.verified(body["id_token"])
    answer = await party.userinfo(body["access_token"])
    assert answer.headers["Content-Type"].startswith("application/jwt")
    said = await party.verified(answer.text)
    assert (said["iss"], said["aud"], said["email"]) == (party.plane.url, party.client.client_id, "ada@example.org")


async def test_a_refresh_gives_a_new_id_token_of_the_same_sign_in(party: Party) -> None:
    """Section 12.2: the same iss, sub, aud and auth_time, and no nonce."""
    body = await party.tokens("openid offline_access", prompt="consent", nonce="once")
    first = await party.verified(body["id_token"])
    later = await party.verified((await party.refreshed(body["refresh_token"]))["id_token"])
    same = ("iss", "sub", "aud", "auth_time", "acr", "sid")
    assert [later[name] for name in same] == [first[name] for name in same]
    assert "nonce" not in later
    assert later["iat"] >= first["iat"]


async def test_who_does_not_allow_offline_access_is_not_acted_for_while_away(party: Party) -> None:
    page = await party.asked(scope="openid offline_access notes:read")
    page = await party.browser.submit(page.form, decision="allow", scope=["notes:read"])
    body = (await party.redeem(page.members["code"])).json
    assert body["scope"] == "notes:read openid"
    assert "refresh_token" not in body


async def test_a_client_with_a_sector_knows_people_by_subjects_of_its_own(party: Party, ada: str) -> None:
    """Section 8.1: the same at all clients of the sector, another at others, and never the person's own."""
    subjects = list[str]()
    for sector in ("app.example", "app.example", "other.example"):
        other, secret = await party.plane.client(scopes=EVERYTHING, openid=OpenID(sector=sector))
        one = replace(party, client=other, secret=secret)
        body = await one.tokens("openid")
        subject = (await one.verified(body["id_token"]))["sub"]
        assert (await one.userinfo(body["access_token"])).json["sub"] == subject
        subjects.append(subject)
    assert subjects[0] == subjects[1] != subjects[2]
    assert ada not in subjects


# -- UserInfo (section 5.3) ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("openid", set()),
        (
            "openid profile",
            {
                *("name", "given_name", "family_name", "preferred_username", "birthdate", "zoneinfo", "locale"),
                *("picture", "updated_at"),
            },
        ),
        ("openid email", {"email", "email_verified"}),
        ("openid address", {"address"}),
        ("openid phone", {"phone_number", "phone_number_verified"}),
    ],
)
async def test_a_scope_stands_for_its_claims_at_userinfo(party: Party, scope: str, names: set[str], ada: str) -> None:
    """Section 5.4; what is not known is left out."""
    body = await party.tokens(scope)
    claims = (await party.userinfo(body["access_token"])).json
    assert claims.pop("sub") == ada
    assert claims.keys() == names
    assert {name: value for name, value in claims.items() if name in CLAIMS} == {
        name: value for name, value in CLAIMS.items() if name in names
    }
    assert all(value not in (None, "") for value in claims.values())


async def test_a_token_is_presented_in_the_header_or_in_a_form_but_not_twice(party: Party) -> None:
    token = (await party.tokens())["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    answers = [
        await party.browser.get(USERINFO, bearer),
        await party.browser.send("POST", USERINFO, None, bearer),
        await party.browser.send("POST", USERINFO, [("access_token", token)]),
    ]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len({answer.body for answer in answers}) == 1
    assert answers[0].headers["Access-Control-Allow-Origin"] == "*"  # for applications that live in a browser
    assert answers[0].headers["Cache-Control"] == "no-store"
    twice = await party.browser.send("POST", USERINFO, [("access_token", token)], bearer)
    assert (twice.status, twice.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    ("headers", "status", "challenge"),
    [
        ({}, 401, 'Bearer realm="{url}"'),
        ({"Authorization": "Bearer gwa_invented"}, 401, 'Bearer realm="{url}", error="invalid_token"'),
        ({"Authorization": "Bearer"}, 400, 'Bearer realm="{url}", error="invalid_request"'),
        ({"Authorization": "Basic YTpi"}, 401, 'Bearer realm="{url}", error="invalid_token"'),
    ],
)
async def test_userinfo_without_a_good_token_says_how_to_come(
    plane: Plane, browser: Browser, headers: Mapping[str, str], status: int, challenge: str
) -> None:
    answer = await browser.get(USERINFO, headers)
    assert answer.status == status
    assert answer.headers["WWW-Authenticate"] == challenge.format(url=plane.url)


async def test_userinfo_ends_with_the_token(party: Party) -> None:
    token = (await party.tokens())["access_token"]
    await party.plane.store.tokens.revoke(token, None)
    assert (await party.userinfo(token)).status == 401


# -- what a request may ask for (sections 3.1.2.1 and 5.5) -----------------------------------------------------


async def test_claims_that_are_named_come_where_they_are_named(party: Party) -> None:
    """oidcc-claims-essential."""
    asked = {"userinfo": {"name": {"essential": True}, "unknown": None}, "id_token": {"email": None, "auth_time": {}}}
    body = await party.tokens(claims=json.dumps(asked))
    assert (await party.userinfo(body["access_token"])).json.keys() == {"sub", "name"}
    claims = await party.verified(body["id_token"])
    assert claims["email"] == "ada@example.org"
    assert "name" not in claims


@pytest.mark.parametrize(
    "changes",
    [
        {"extra": "foobar"},  # oidcc-ensure-request-with-unknown-parameter-succeeds
        {"display": "popup"},
        {"ui_locales": "se"},
        {"claims_locales": "se"},
        {"acr_values": "1 2"},
        {"login_hint": "buffy@op.example"},
        {"claims": "{}"},
        {"claims": '{"id_token": {"acr": {"essential": true, "values": ["x", "password"]}}}'},
        {"claims": '{"id_token": {"acr": {"values": ["x"]}}}'},
        {"max_age": "10000"},
        {"scope": "notes:read email openid"},
    ],
)
async def test_what_may_be_ignored_does_no_harm(party: Party, changes: Mapping[str, str]) -> None:
    assert "id_token" in await party.tokens(**{"scope": "openid", **changes})


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"max_age": "soon"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1.5"}, "invalid_request"),
        ({"max_age": "9" * 11}, "invalid_request"),
        ({"claims": "{"}, "invalid_request"),
        ({"claims": "[]"}, "invalid_request"),
        ({"claims": '{"userinfo": []}'}, "invalid_request"),
        ({"claims": '{"userinfo": {"name": 1}}'}, "invalid_request"),
        ({"claims": '{"userinfo": {}, "userinfo": {}}'}, "invalid_request"),
        ({"claims": '{"id_token": {"sub": {"value": 1}}}'}, "invalid_request"),
        ({"claims": json.dumps({"userinfo": {f"claim{n}": None for n in range(101)}})}, "invalid_request"),
        ({"claims": '{"id_token": {"acr": {"essential": true, "value": "x"}}}'}, "unmet_authentication_requirements"),
        ({"nonce": "x" * 1025}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "https://app.example/r"}, "request_uri_not_supported"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"id_token_hint": "nonsense"}, "invalid_request"),
    ],
)
async def test_what_cannot_be_is_told_to_the_client(party: Party, changes: Mapping[str, str], error: str) -> None:
    answer = await party.asked(**changes)
    assert answer.status == 303, answer.text
    assert (answer.members["error"], answer.members["state"], answer.members["iss"]) == (error, "xyz", party.plane.url)
    assert "code" not in answer.members


async def test_a_request_may_come_as_a_form_from_another_site(party: Party) -> None:
    """Section 3.1.2.1; oidcc-ensure-post-request-succeeds. No cookie comes along until the browser opens a link."""
    await party.tokens()
    query = urlsplit(authorize_path(party.client, scope="openid")).query
    from_elsewhere = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    answer = await party.browser.send("POST", "/oauth2/authorize", parse_qsl(query), from_elsewhere)
    assert answer.status == 303
    assert dict(parse_qsl(urlsplit(answer.location).query)) == dict(parse_qsl(query))
    assert "code" in (await party.browser.follow(answer)).members


async def test_an_application_may_ask_in_a_frame_whether_somebody_is_still_signed_in(party: Party) -> None:
    """As oidc-client-ts renews without a refresh token: no page is shown for it, whatever comes of it."""
    await party.tokens()
    in_a_frame = {"Sec-Fetch-Dest": "iframe", "Sec-Fetch-Site": "same-site"}
    renewed = await party.browser.get(authorize_path(party.client, scope="openid", prompt="none"), in_a_frame)
    assert "code" in renewed.members
    one_would_be_asked: list[dict[str, str | None]] = [{"scope": "openid email"}, {"max_age": "0"}]
    for changes in one_would_be_asked:
        asked = authorize_path(party.client, **{"scope": "openid", "prompt": "none", **changes})
        assert "error" in (await party.browser.get(asked, in_a_frame)).members
    wrong = await party.browser.get(
        authorize_path(party.client, prompt="none", redirect_uri="https://evil.example/"), in_a_frame
    )
    assert (wrong.status, "frame-ancestors 'none'" in wrong.headers["Content-Security-Policy"]) == (400, True)
    pages: list[dict[str, str | None]] = [{}, {"prompt": "none login"}, {"prompt": "none", "request_uri": "urn:x"}]
    for changes in pages:
        asked = authorize_path(party.client, **{"scope": "openid", **changes})
        assert (await party.browser.get(asked, in_a_frame)).status == 403
    script = await party.browser.get(
        authorize_path(party.client, scope="openid", prompt="none"), {"Sec-Fetch-Dest": "empty"}
    )
    assert script.status == 403


@pytest.mark.parametrize("path", ["/oauth2/authorize", "/oauth2/logout"])
async def test_a_form_that_no_address_can_hold_is_refused(party: Party, path: str) -> None:
    fields = [("client_id", party.client.client_id), ("state", "x" * 8000)]
    answer = await party.browser.send("POST", path, fields)
    assert answer.status == 413


async def test_a_decision_from_another_site_still_moves_nothing(party: Party) -> None:
    page = await party.asked()
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    fields = page.form.filled(decision="allow")
    answer = await party.browser.send("POST", page.form.action, fields, foreign)
    assert answer.status == 403


# -- when somebody must have signed in, and who ----------------------------------------------------------------


async def test_who_signed_in_too_long_ago_signs_in_again(party: Party) -> None:
    """max_age; oidcc-max-age-1 and oidcc-max-age-10000. `0` stands for prompt=login."""
    before = await party.verified((await party.tokens(max_age="15000"))["id_token"])
    again = await party.verified((await party.tokens(max_age="10000"))["id_token"])
    assert (again["auth_time"], again["sub"]) == (before["auth_time"], before["sub"])
    page = await party.asked(max_age="0")
    assert "password" in dict(page.form.fields) or 'type="password"' in page.text
    silent = await party.asked(max_age="0", prompt="none")
    assert silent.members["error"] == "login_required"
    answer = await party.browser.submit(page.form, username="ada", password=PASSWORD)
    later = await party.verified((await party.redeem(answer.members["code"])).json["id_token"])
    assert later["auth_time"] >= before["auth_time"]
    assert later["sid"] != before["sid"]


async def test_a_hint_of_the_person_who_is_signed_in_needs_no_page(party: Party) -> None:
    """oidcc-id-token-hint."""
    body = await party.tokens()
    answer = await party.asked(prompt="none", id_token_hint=body["id_token"])
    claims = await party.verified((await party.redeem(answer.members["code"])).json["id_token"])
    assert claims["sub"] == (await party.verified(body["id_token"]))["sub"]


async def test_a_hint_of_somebody_else_is_answered_for_nobody(party: Party) -> None:
    """Section 3.1.2.1: the person of the hint is signed in, or the client is told that they are not."""
    hint = (await party.tokens())["id_token"]
    await party.plane.user("eve", "Eve")
    await party.browser.sign_in("eve")
    silent = await party.asked(prompt="none", id_token_hint=hint)
    assert silent.members["error"] == "login_required"
    page = await party.asked(id_token_hint=hint)
    wrong = await party.browser.submit(page.form, username="eve", password=PASSWORD)
    while wrong.status == 303 and wrong.location.startswith("/"):
        wrong = await party.browser.follow(wrong)
    assert wrong.members["error"] == "login_required"
    page = await party.asked(id_token_hint=hint)
    right = await party.browser.submit(page.form, username="ada", password=PASSWORD)
    assert "code" in right.members


async def test_a_subject_that_is_demanded_is_the_only_one_that_counts(party: Party, ada: str) -> None:
    await party.tokens()
    for subject, member in ((ada, "code"), ("u-somebody-else", "error")):
        claims = json.dumps({"id_token": {"sub": {"value": subject}}})
        assert member in (await party.asked(prompt="none", claims=claims)).members


def forged(token: str, header: Mapping[str, object], claims: Mapping[str, object] | None = None) -> str:
    parts = token.split(".")
    said = json.loads(jws.decoded(parts[0])) | header
    payload = json.loads(jws.decoded(parts[1])) | (claims or {})
    return ".".join([jws.encoded(json.dumps(said).encode()), jws.encoded(json.dumps(payload).encode()), parts[2]])


async def test_a_hint_that_we_did_not_give_this_client_is_refused(party: Party) -> None:
    """OIDC: alg none, another key, HS256 with the public key, another client's, another kind of token."""
    body = await party.tokens()
    other, secret = await party.plane.client(scopes=EVERYTHING)
    foreign = (await replace(party, client=other, secret=secret).tokens())["id_token"]
    unsigned = forged(body["id_token"], {"alg": "none"}).rpartition(".")[0] + "."
    for hint in (
        unsigned,
        forged(body["id_token"], {"alg": "HS256"}),
        forged(body["id_token"], {}, {"sub": "u-somebody-else"}),
        forged(body["id_token"], {"kid": "unknown"}),
        foreign,
        body["access_token"],
        body["id_token"] + "A",
    ):
        answer = await party.asked(prompt="none", id_token_hint=hint)
        assert answer.members["error"] == "invalid_request", hint


# -- discovery -------------------------------------------------------------------------------------------------


async def test_discovery_says_what_is_there(plane: Plane, browser: Browser) -> None:
    """Discovery 1.0, section 3; oidcc-discovery-endpoint-verification."""
    document = (await browser.get("/.well-known/openid-configuration")).json
    assert document["userinfo_endpoint"] == f"{plane.url}{USERINFO}"
    assert "RS256" in document["id_token_signing_alg_values_supported"]
    assert {"openid", "profile", "email", "address", "phone", "offline_access"} <= set(document["scopes_supported"])
    assert document["subject_types_supported"] == ["public", "pairwise"]
    assert document["claims_parameter_supported"] is True
    assert document["request_parameter_supported"] is False
    assert document["request_uri_parameter_supported"] is False
    kids = [key["kid"] for key in (await browser.get(document["jwks_uri"])).json["keys"]]
    assert len(set(kids)) == len(kids) >= len(SIGNING_ALGORITHMS)


async def test_a_client_may_register_how_it_is_told_of_people(store: Store, keyring: Keyring, tmp_path: Path) -> None:
    """OpenID Connect Registration 1.0, section 2."""
    async with serving(store, keyring, tmp_path, registration={"policy": "open"}) as plane:
        browser = Browser(plane.url)
        said = {
            "redirect_uris": ["https://app.example/cb", "https://app.example/other"],
            "id_token_signed_response_alg": "ES256",
            "userinfo_signed_response_alg": "EdDSA",
            "subject_type": "pairwise",
        }
        as_json = {"Content-Type": "application/json"}
        made = await browser.send("POST", "/oauth2/register", json.dumps(said).encode(), as_json)
        assert made.status == 201, made.text
        assert said.items() <= made.json.items()
        client = await plane.store.clients.find(made.json["client_id"])
        assert client is not None
        assert client.openid == OpenID(id_token_alg="ES256", userinfo_alg="EdDSA", sector="app.example")
        for changes in (
            {"id_token_signed_response_alg": "none"},
            {"id_token_signed_response_alg": "HS256"},
            {"subject_type": "secret"},
            {"redirect_uris": ["https://app.example/cb", "https://b.example/cb"]},
        ):
            content = json.dumps(said | changes).encode()
            refused = await browser.send("POST", "/oauth2/register", content, as_json)
            assert (refused.status, refused.json["error"]) == (400, "invalid_client_metadata"), changes
        await browser.close()


# -- who may use an application, and what the operator has it told ---------------------------------------------


async def test_claims_of_the_operators_own_come_with_their_scope_to_their_clients(
    store: Store, keyring: Keyring, tmp_path: Path
) -> None:
    favoured, secret = await new_client(store, scopes=EVERYTHING)
    other, other_secret = await new_client(store, scopes=EVERYTHING)
    claims = {
        "groups": "groups",
        "https://example.org/mail": {"value": "email", "scope": "email", "id_token": True},
        "login": {"value": "username", "clients": [favoured.client_id]},
    }
    async with serving(store, keyring, tmp_path, claims=claims) as plane:
        browser = Browser(plane.url)
        await plane.user()
        await store.users.update("ada", None, None, None, Known(groups=("admins", "staff")))
        await browser.sign_in()
        told = dict[str, Any]()
        for name, client, its in (("favoured", favoured, secret), ("other", other, other_secret)):
            party = Party(browser, plane, client, its)
            body = await party.tokens("openid profile email")
            told[name] = (await party.userinfo(body["access_token"])).json
            in_token = await party.verified(body["id_token"])
            assert in_token["https://example.org/mail"] == "ada@example.org"
            assert "groups" not in in_token
        assert told["favoured"]["groups"] == ["admins", "staff"]
        assert told["favoured"]["login"] == "ada"
        assert "login" not in told["other"]
        document = (await browser.get("/.well-known/openid-configuration")).json
        assert {"groups", "login"} <= set(document["claims_supported"])
        await browser.close()


async def test_only_people_in_a_clients_groups_may_use_it_and_others_are_told_so(party: Party) -> None:
    store = party.plane.store
    await store.users.update("ada", None, None, None, Known(groups=("staff",)))
    changed = structs.replace(NewClient.like(party.client), allow_groups=frozenset({"staff", "admins"}))
    client = await store.clients.update(party.client.client_id, changed)
    assert client is not None
    body = await party.tokens("openid offline_access", prompt="consent")
    unspent = await party.code("openid offline_access")
    await store.users.update("ada", None, None, None, Known(groups=("guests",)))
    page = await party.asked()
    assert page.status == 403
    assert f"You can’t use {client.name}" in page.text
    assert "Use another account" in page.ways
    assert (await party.asked(prompt="none")).members["error"] == "access_denied"
    # What was issued ends as well.
    assert await store.access_tokens.find(body["access_token"]) is None
    assert (await party.redeem(unspent)).json["error"] == "invalid_grant"
    fields = [("grant_type", "refresh_token"), ("refresh_token", body["refresh_token"])]
    refused = await party.browser.send("POST", "/oauth2/token", fields, basic(client.client_id, party.secret))
    assert refused.json["error"] == "invalid_grant"
    await party.plane.user("eve", "Eve")
    await store.users.update("eve", None, None, None, Known(groups=("admins",)))
    page = await party.browser.get(page.ways["Use another account"][0])
    let_in = await party.browser.submit(page.form, username="eve", password=PASSWORD)
    while let_in.status == 303 and let_in.location.startswith("/"):
        let_in = await party.browser.follow(let_in)
    assert let_in.status == 200
    assert 'value="allow"' in let_in.text
