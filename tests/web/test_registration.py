"""The registration endpoint and what stands below it, as programs call them (RFC 7591, RFC 7592)."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from markupsafe import escape
from msgspec import NODEFAULT
from msgspec.structs import fields, replace

from gateway.crypto import Keyring
from gateway.model import About, Client, OpenID
from gateway.oauth.registration import Registration
from gateway.store import NewClient, Store, Unauthenticated
from gateway.store.registrations import MOST_REGISTRATIONS
from gateway.web.clients import described
from tests.oauth.signing import signer
from tests.store.rig import fetch
from tests.web.rig import (
    CHALLENGE,
    SCOPES,
    VERIFIER,
    Answer,
    Browser,
    Plane,
    authorize_path,
    basic,
    row_counts,
    serving,
    settings_for,
)

REGISTER = "/oauth2/register"
URIS = ["https://app.example/cb"]
METADATA = "/.well-known/oauth-authorization-server"


@pytest.fixture
async def plane(store: Store, keyring: Keyring, tmp_path: Path) -> AsyncIterator[Plane]:
    """Where anybody may register."""
    async with serving(store, keyring, tmp_path, registration={"policy": "open"}) as served:
        yield served


async def send(
    browser: Browser,
    method: str,
    path: str,
    members: object = None,
    token: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    body = members if isinstance(members, bytes) else None if members is None else json.dumps(members).encode()
    fields = {"Content-Type": "application/json"} if body is not None else {}
    fields |= {"Authorization": f"Bearer {token}"} if token is not None else {}
    return await browser.send(method, path, body, fields | (headers or {}))


async def registered(browser: Browser, **members: Any) -> dict[str, Any]:
    answer = await send(browser, "POST", REGISTER, {"redirect_uris": URIS, **members})
    assert answer.status == 201, answer.text
    found: dict[str, Any] = answer.json
    return found


def place_of(client: dict[str, Any]) -> str:
    """The path at which a client is managed."""
    return f"{REGISTER}/{client['client_id']}"


def managed(client: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a client sends to change itself: all that it was told, but for what only the server sets."""
    of_the_server = ("registration_access_token", "registration_client_uri", "client_secret_expires_at")
    kept = {name: value for name, value in client.items() if name not in (*of_the_server, "client_id_issued_at")}
    return kept | changes


async def redeemed(browser: Browser, client: dict[str, Any], redirect_uri: str, **form: str) -> Answer:
    """The whole code flow of a registered client, up to the token endpoint's answer."""
    query = {"client_id": client["client_id"], "redirect_uri": redirect_uri, "response_type": "code"}
    query |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    path = "/oauth2/authorize?" + "&".join(f"{name}={value}" for name, value in query.items())
    page = await browser.get(path)
    assert "Not verified" in page.text
    code = (await browser.submit(page.form, decision="allow")).members["code"]
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": VERIFIER}
    secret = client.get("client_secret")
    headers = basic(client["client_id"], secret) if secret else {}
    fields |= form | ({} if secret else {"client_id": client["client_id"]})
    return await browser.send("POST", "/oauth2/token", list(fields.items()), headers)


# -- RFC 7591 ------------------------------------------------------------------------------------------------------


async def test_a_client_registers_itself_and_is_answered_all_that_section_3_2_1_wants(
    plane: Plane, browser: Browser
) -> None:
    members = {"redirect_uris": URIS, "client_name": "Ω Notes", "policy_uri": "https://app.example/p", "x": "ignored"}
    answer = await send(browser, "POST", REGISTER, members)
    assert answer.status == 201
    assert answer.headers["Content-Type"].startswith("application/json")
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    found = answer.json
    assert type(found["client_secret_expires_at"]) is int
    assert found["client_name"] == "Ω Notes"
    assert found["policy_uri"] == "https://app.example/p"
    assert set(found["scope"].split()) == {*SCOPES, "openid", "profile", "email", "address", "phone"}
    assert found["registration_client_uri"] == f"{plane.url}{place_of(found)}", "RFC 7592, section 3"
    assert "x" not in found
    client = await plane.store.clients.find(found["client_id"])
    assert client is not None
    assert (client.verified, client.pkce_required, client.first_party) == (False, True, False)


async def test_each_registration_is_another_client_by_section_3_2_1(plane: Plane, browser: Browser) -> None:
    one, other = await registered(browser), await registered(browser)
    for name in ("client_id", "client_secret", "registration_access_token"):
        assert one[name] != other[name]


async def test_what_fastmcp_registers_works_to_the_end(plane: Plane, signed_in: Browser) -> None:
    members = {
        "redirect_uris": ["http://localhost:49152/callback"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "client_name": "FastMCP Client",
        "scope": "",
    }
    client = await registered(signed_in, **members)
    assert "client_secret" not in client
    answer = await redeemed(signed_in, client, "http://localhost:50321/callback")
    assert answer.status == 200
    assert set(answer.json["scope"].split()) == set(SCOPES)
    assert "refresh_token" in answer.json


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_a_loopback_address_is_met_at_any_port(plane: Plane, signed_in: Browser, host: str) -> None:
    """RFC 8252, section 7.3."""
    client = await registered(signed_in, redirect_uris=[f"http://{host}:1/cb"], token_endpoint_auth_method="none")
    assert (await redeemed(signed_in, client, f"http://{host}:65535/cb")).status == 200


async def test_a_client_that_registers_for_offline_access_may_use_refresh_tokens(
    plane: Plane, signed_in: Browser
) -> None:
    """As the MCP SDKs register, with the scopes of the 401 and offline_access behind them."""
    client = await registered(signed_in, scope="notes:read offline_access", token_endpoint_auth_method="none")
    assert client["scope"] == "notes:read offline_access"
    assert client["grant_types"] == ["authorization_code", "refresh_token"]
    answer = await redeemed(signed_in, client, URIS[0])
    assert (answer.status, answer.json["scope"]) == (200, "notes:read offline_access")
    assert "refresh_token" in answer.json


async def test_a_client_with_a_secret_works_to_the_end(plane: Plane, signed_in: Browser) -> None:
    client = await registered(signed_in, grant_types=["authorization_code", "refresh_token"], scope="notes:read")
    assert client["scope"] == "notes:read"
    answer = await redeemed(signed_in, client, URIS[0])
    assert (answer.status, answer.json["scope"]) == (200, "notes:read")


async def test_people_are_told_that_nobody_has_verified_it(plane: Plane, signed_in: Browser) -> None:
    """RFC 7591, section 5: what a client says of itself is its own word."""
    client = await registered(signed_in, client_name="<b>Your Bank</b>", client_uri="https://app.example/?a=1&b=2")
    page = await signed_in.get(authorize_path(plane_client(client)))
    assert "Not verified" in page.text
    assert "&lt;b&gt;Your Bank&lt;/b&gt;" in page.text
    assert 'href="https://app.example/?a=1&amp;b=2" target="_blank" rel="noopener noreferrer"' in page.text
    await signed_in.submit(page.form, decision="allow")
    assert "Not verified" in (await signed_in.get("/oauth2/account")).text


async def test_a_name_with_any_byte_in_it_is_refused_or_shown_as_the_text_that_it_is(
    plane: Plane, signed_in: Browser
) -> None:
    printable = {byte for byte in range(256) if chr(byte).isprintable()}
    raw = {byte for byte in printable if byte < 0x80} - {*b'"\\'}  # what stands in JSON as it is
    refused = [bytes((byte,)) for byte in range(256) if byte not in raw]
    refused += [b"\\u%04x" % byte for byte in range(256) if byte not in printable]
    for written in refused:
        body = b'{"redirect_uris": ["https://app.example/cb"], "client_name": "a' + written + b'b"}'
        answer = await send(signed_in, "POST", REGISTER, body)
        assert answer.status == 400, written
        assert answer.text.replace("\n", "").isprintable()
    marks = "".join(map(chr, sorted(printable)))
    for name in (marks[1:95], marks[95:]):  # those of ASCII but for the space, and the others
        client = await registered(signed_in, client_name=name)
        page = await signed_in.get(authorize_path(plane_client(client)))
        assert f"<bdi>{escape(name)}</bdi>" in page.text
        await signed_in.submit(page.form, decision="allow")
        account = await signed_in.get("/oauth2/account")
        for text in (page.text, account.text):
            assert all(mark.isprintable() or mark == "\n" for mark in text)
            assert "<=>" not in text  # as it stands in the name


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": URIS, "client_name": "evil\u202etxt"}, "invalid_client_metadata"),
        ({"redirect_uris": URIS, "client_name": "x" * 10_000}, "invalid_client_metadata"),
        ({"redirect_uris": URIS, "logo_uri": "data:image/png,x"}, "invalid_client_metadata"),
        ({"redirect_uris": URIS, "scope": "notes:read admin"}, "invalid_client_metadata"),
        ({"redirect_uris": URIS, "grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        (b'{"redirect_uris": [', "invalid_request"),
        (b"[]", "invalid_request"),
        (b'{"a": "' + b"x" * 70_000 + b'"}', "invalid_request"),
    ],
)
async def test_nothing_is_stored_of_a_request_that_is_refused(
    plane: Plane, browser: Browser, database: str, members: object, error: str
) -> None:
    before = await row_counts(database)
    answer = await send(browser, "POST", REGISTER, members)
    assert answer.status in (400, 413)
    assert answer.json["error"] == error
    assert answer.json["error_description"]
    assert await row_counts(database) == before


async def test_a_form_and_another_method_are_refused_by_section_3_1(plane: Plane, browser: Browser) -> None:
    assert (await browser.send("POST", REGISTER, [("redirect_uris", URIS[0])])).json["error"] == "invalid_request"
    for method in ("GET", "PUT", "DELETE"):
        assert (await send(browser, method, REGISTER)).status == 405


@pytest.mark.parametrize(
    ("policy", "announced", "status"), [("closed", False, 404), ("token", True, 401), ("open", True, 201)]
)
async def test_the_policy_says_who_may_register_and_the_metadata_says_where(
    store: Store, keyring: Keyring, tmp_path: Path, database: str, policy: str, announced: bool, status: int
) -> None:
    async with serving(store, keyring, tmp_path, registration={"policy": policy}) as plane:
        browser = Browser(plane.url)
        document = (await browser.get(METADATA)).json
        assert document.get("registration_endpoint") == (f"{plane.url}{REGISTER}" if announced else None)
        before = await row_counts(database)
        answer = await send(browser, "POST", REGISTER, {"redirect_uris": URIS})
        assert answer.status == status
        if status != 201:
            assert await row_counts(database) == before
        if status == 401:
            assert answer.headers["WWW-Authenticate"] == f'Bearer realm="{plane.url}"', "RFC 6750, section 3.1"
        await browser.close()


async def test_an_initial_access_token_is_good_for_its_uses_and_no_more(
    store: Store, keyring: Keyring, tmp_path: Path, database: str
) -> None:
    """RFC 7591, section 3: also by many at once, and a refused request uses none up."""
    async with serving(store, keyring, tmp_path, registration={"policy": "token"}) as plane:
        browser = Browser(plane.url)
        token = await store.registrations.create_token(60, 3)
        bad = await send(browser, "POST", REGISTER, {"redirect_uris": ["data:x"]}, token)
        assert bad.json["error"] == "invalid_redirect_uri"
        answers = await asyncio.gather(
            *(send(browser, "POST", REGISTER, {"redirect_uris": URIS}, token) for _ in range(12))
        )
        assert sorted(answer.status for answer in answers) == [201] * 3 + [401] * 9
        (late,) = [answer for answer in answers if answer.status == 401][:1]
        assert late.json["error"] == "invalid_token"
        assert 'error="invalid_token"' in late.headers["WWW-Authenticate"]
        assert len(await store.clients.all()) == 3
        revoked = await store.registrations.create_token(60, 100)
        assert await store.registrations.revoke_tokens() == 1
        for dead in (revoked, await store.registrations.create_token(0, 1), "gwi_unknown", "x" * 5000, "ü"):
            assert (await send(browser, "POST", REGISTER, {"redirect_uris": URIS}, dead)).status == 401
        for text in await fetch(database, "select t::text from registration_tokens t"):
            assert token not in text["t"]
        await browser.close()


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer a b", "MAC id=x", ""])
async def test_another_credential_registers_nothing_even_where_none_is_asked(
    plane: Plane, browser: Browser, value: str
) -> None:
    headers = {"Authorization": value}
    assert (await send(browser, "POST", REGISTER, {"redirect_uris": URIS}, headers=headers)).status == 401
    assert await plane.store.clients.all() == []


async def test_one_address_registers_so_many_in_an_hour_whatever_it_deletes(
    plane: Plane, browser: Browser, database: str
) -> None:
    """RFC 7591, section 3: an open endpoint limits who registers."""
    first = await registered(browser)
    assert (await send(browser, "DELETE", place_of(first), token=first["registration_access_token"])).status == 204
    sent = (send(browser, "POST", REGISTER, {"redirect_uris": URIS}) for _ in range(MOST_REGISTRATIONS + 10))
    answers = await asyncio.gather(*sent)
    statuses = [answer.status for answer in answers]
    assert statuses.count(201) == MOST_REGISTRATIONS - 1
    (refused, *_) = [answer for answer in answers if answer.status == 429]
    assert refused.headers["Retry-After"] == "3600"
    assert refused.json["error"] == "temporarily_unavailable"
    assert len(await plane.store.clients.all()) == MOST_REGISTRATIONS - 1
    elsewhere = {"X-Forwarded-For": "2001:db8::1"}
    assert (await send(browser, "POST", REGISTER, {"redirect_uris": URIS}, headers=elsewhere)).status == 201
    await fetch(database, "update registration_attempts set at = at - interval '61 minutes'")
    assert (await send(browser, "POST", REGISTER, {"redirect_uris": URIS})).status == 201


async def test_no_secret_of_a_registration_stands_in_the_database(
    plane: Plane, browser: Browser, database: str
) -> None:
    client = await registered(browser)
    for table in ("clients", "client_secrets", "registrations", "events"):
        for row in await fetch(database, f"select t::text from {table} t"):
            for name in ("client_secret", "registration_access_token"):
                assert client[name] not in row["t"]


# -- RFC 7592 ------------------------------------------------------------------------------------------------------


async def test_a_client_reads_what_is_registered_by_section_2_1(plane: Plane, browser: Browser) -> None:
    client = await registered(browser, application_type="native", contacts=["ada@example.org"])
    answer = await send(browser, "GET", place_of(client), token=client["registration_access_token"])
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.json == {name: value for name, value in client.items() if name != "client_secret"}, (
        "its digest is all that is known by now; the token has just been shown (section 3)"
    )


async def test_what_is_sent_replaces_what_was_registered_by_section_2_2(plane: Plane, browser: Browser) -> None:
    client = await registered(browser, client_uri="https://app.example/", contacts=["ada@example.org"])
    changed = managed(client, client_name="Another", redirect_uris=["https://app.example/new"])
    del changed["client_uri"]
    changed["contacts"] = None
    answer = await send(browser, "PUT", place_of(client), changed, client["registration_access_token"])
    assert answer.status == 200
    assert answer.json["client_name"] == "Another"
    assert not {"client_uri", "contacts", "client_secret"} & answer.json.keys()
    assert answer.json["client_secret_expires_at"] == 0
    again = await send(browser, "GET", place_of(client), token=client["registration_access_token"])
    assert again.json == answer.json
    kept = await plane.store.clients.authenticate(client["client_id"], client["client_secret"])
    assert isinstance(kept, Client)


def test_all_that_a_client_says_of_itself_is_in_what_it_becomes(keyring: Keyring, tmp_path: Path) -> None:
    settings = settings_for("https://id.example", keyring, tmp_path, tokens={"format": "jwt"})
    said = Registration(
        name="Notes",
        authentication_method="private_key_jwt",
        redirect_uris=("https://app.example/cb",),
        grant_types=frozenset({"authorization_code"}),
        scopes=frozenset({"notes:read"}),
        default_scopes=frozenset({"notes:read"}),
        about=About(description="Notes"),
        openid=OpenID(userinfo_alg="ES256"),
        dpop_required=True,
        jwks="{}",
    )
    made = described(settings.config, said)
    unsaid = {
        one.name
        for one in fields(NewClient)
        if getattr(made, one.name) == (one.default if one.default_factory is NODEFAULT else one.default_factory())
    }
    of_the_operator = {"allow_groups", "decided", "first_party", "par_required", "pkce_required"}
    assert unsaid == of_the_operator | {"logo"}, "`described` says nothing of a property, so that its default holds"
    by_mac = settings_for("https://id.example", keyring, tmp_path, tokens={"type": "mac"}).config
    kinds = [described(by_mac, replace(said, dpop_required=wants)).token_type for wants in (True, False)]
    assert kinds == ["bearer", "mac"], "DPoP binds bearer tokens, so whoever wants it gets these"


async def test_a_change_of_the_way_to_authenticate_makes_or_ends_the_secret(plane: Plane, browser: Browser) -> None:
    client = await registered(browser)
    token, path = client["registration_access_token"], place_of(client)
    public = await send(browser, "PUT", path, managed(client, token_endpoint_auth_method="none"), token)
    assert "client_secret_expires_at" not in public.json
    old = await plane.store.clients.authenticate(client["client_id"], client["client_secret"])
    assert old == Unauthenticated("wrong secret")
    back = await send(
        browser, "PUT", path, managed(public.json, token_endpoint_auth_method="client_secret_post"), token
    )
    assert back.json["client_secret"] != client["client_secret"]
    assert back.json["client_secret_expires_at"] == 0


async def test_a_change_needs_all_that_section_2_2_says(plane: Plane, browser: Browser, database: str) -> None:
    client, other = await registered(browser), await registered(browser)
    token, path = client["registration_access_token"], place_of(client)
    before = await fetch(database, "select t::text from clients t order by 1")
    invalid = "invalid_client_metadata"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"client_id": other["client_id"]}, invalid),
        ({"client_id": None}, invalid),
        ({"client_id": [client["client_id"]]}, invalid),
        ({"client_secret": other["client_secret"]}, invalid),
        ({"client_secret": "chosen by the client"}, invalid),
        ({"registration_access_token": token}, invalid),
        ({"client_id_issued_at": client["client_id_issued_at"]}, invalid),
        ({"redirect_uris": ["javascript:x"]}, "invalid_redirect_uri"),
        ({"redirect_uris": None}, "invalid_redirect_uri"),
        ({"grant_types": ["client_credentials"]}, invalid),
    ]
    for changes, error in cases:
        answer = await send(browser, "PUT", path, managed(client, client_name="Evil", **changes), token)
        assert (answer.status, answer.json["error"]) == (400, error), changes
    whole = json.dumps(managed(client, client_name="Evil"))
    twice = whole[:-1] + ', "client_name": "Evil"}'
    for body in (b"", b"[]", whole[:-1].encode(), twice.encode(), whole.encode("utf-16"), b'"' + b"x" * 70_000 + b'"'):
        answer = await send(browser, "PUT", path, body, token)
        assert (answer.status in (400, 413), answer.json["error"]) == (True, "invalid_request"), body[:40]
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await send(browser, "PUT", path, whole.encode(), token, form)).json["error"] == "invalid_request"
    assert await fetch(database, "select t::text from clients t order by 1") == before


async def test_a_change_takes_away_what_an_operator_gave(plane: Plane, browser: Browser) -> None:
    """Who holds a registration access token is no operator: trust in what was registered is none in what is."""
    client = await registered(browser)
    found = await plane.store.clients.find(client["client_id"])
    assert found is not None
    trusted = replace(NewClient.like(found), first_party=True, verified=True)
    await plane.store.clients.update(found.client_id, trusted)
    answer = await send(
        browser,
        "PUT",
        place_of(client),
        managed(client, redirect_uris=["https://evil.example/cb"]),
        client["registration_access_token"],
    )
    assert answer.status == 200
    after = await plane.store.clients.find(client["client_id"])
    assert after is not None
    assert (after.first_party, after.verified) == (False, False)


async def test_a_change_leaves_what_an_operator_demands(plane: Plane, browser: Browser) -> None:
    made = await registered(browser)
    found = await plane.store.clients.find(made["client_id"])
    assert found is not None
    demanded = replace(NewClient.like(found), par_required=True, jwks=signer("ES256").jwks)
    await plane.store.clients.update(found.client_id, demanded)
    answer = await send(
        browser, "PUT", place_of(made), managed(made, client_secret=None), made["registration_access_token"]
    )
    assert answer.status == 200, answer.text
    assert not answer.json.keys() & {"client_secret", "client_secret_expires_at"}
    after = await plane.store.clients.find(made["client_id"])
    assert after is not None
    assert after.par_required
    assert json.loads(after.jwks or "") == json.loads(demanded.jwks or "")


Decided = list[tuple[dict[str, Any], dict[str, Any]]]
DECIDED: Decided = [  # what an operator made of a client that registered itself, and what this says of itself then
    ({"allow_groups": frozenset({"staff"})}, {}),
    ({"par_required": True}, {}),
    ({"dpop_required": True}, {"dpop_bound_access_tokens": False}),
    ({"scopes": frozenset({"notes:read"})}, {"scope": " ".join(sorted(SCOPES))}),
    ({"scopes": frozenset()}, {}),
    ({"grant_types": frozenset({"authorization_code"})}, {"grant_types": ["authorization_code", "refresh_token"]}),
    ({"token_type": "mac"}, {}),
    ({"token_format": "jwt"}, {}),
    ({"mac_algorithm": "hmac-sha-1", "mac_drafts": ("01", "00")}, {}),
    ({"confidential": True}, {"token_endpoint_auth_method": "none"}),
    ({"jwks": signer("ES256").jwks}, {"token_endpoint_auth_method": "none"}),
    ({"openid": OpenID(sector="inner.example")}, {"subject_type": "public"}),
    ({"openid": OpenID(sector="inner.example")}, {"subject_type": "pairwise"}),
]


async def decide(plane: Plane, client_id: str, **changes: Any) -> Client:
    """What `gateway client update` does."""
    found = await plane.store.clients.find(client_id)
    assert found is not None
    changed = await plane.store.clients.update(client_id, replace(NewClient.like(found), **changes))
    assert changed is not None
    return changed


@pytest.mark.parametrize(("decided", "said"), DECIDED)
async def test_what_an_operator_decided_stays_whatever_the_client_says_of_itself(
    plane: Plane, browser: Browser, decided: dict[str, Any], said: dict[str, Any]
) -> None:
    method = "none" if "confidential" in decided else "client_secret_basic"
    grants = ["authorization_code", "refresh_token"]
    client = await registered(browser, grant_types=grants, token_endpoint_auth_method=method)
    before = await decide(plane, client["client_id"], **decided)
    for _ in range(2):
        answer = await send(
            browser,
            "PUT",
            place_of(client),
            managed(client, client_secret=None) | said,
            client["registration_access_token"],
        )
        assert answer.status == 200, answer.text
        after = await plane.store.clients.find(client["client_id"])
        assert after is not None
        for name in decided:
            assert getattr(after, name) == getattr(before, name), name


async def test_a_client_narrows_what_an_operator_left_and_demands_more(plane: Plane, browser: Browser) -> None:
    client = await registered(browser, grant_types=["authorization_code", "refresh_token"])
    await decide(plane, client["client_id"], scopes=frozenset({"notes:read"}), openid=OpenID())
    said = {"grant_types": ["authorization_code"], "dpop_bound_access_tokens": True, "subject_type": "pairwise"}
    token = client["registration_access_token"]
    answer = await send(
        browser, "PUT", place_of(client), managed(client, client_secret=None, scope=None, **said), token
    )
    assert (answer.json["scope"], answer.json["grant_types"]) == ("notes:read", ["authorization_code"])
    after = await plane.store.clients.find(client["client_id"])
    assert after is not None
    assert (after.dpop_required, after.openid.sector) == (True, "app.example")
    # What it said itself is its own to take back.
    await send(browser, "PUT", place_of(client), managed(client, client_secret=None, scope=None), token)
    again = await plane.store.clients.find(client["client_id"])
    assert again is not None
    assert (again.dpop_required, again.openid.sector) == (False, None)
    assert again.scopes == {"notes:read"}


async def test_what_an_operator_takes_back_is_the_clients_to_say_again(plane: Plane, browser: Browser) -> None:
    client = await registered(browser)
    client_id, token = client["client_id"], client["registration_access_token"]
    given: list[dict[str, Any]] = [{"dpop_required": True, "jwks": signer("ES256").jwks}]
    given.append({"dpop_required": False, "jwks": None})
    for changes in given:
        after = await decide(plane, client_id, **changes)
    assert after.decided == frozenset()
    answer = await send(browser, "PUT", place_of(client), managed(client, client_secret=None), token)
    assert "dpop_bound_access_tokens" not in answer.json
    assert (answer.json["token_endpoint_auth_method"], "jwks" in answer.json) == ("client_secret_basic", False)


async def test_a_client_that_deletes_itself_is_gone_with_its_tokens_by_section_2_3(
    plane: Plane, signed_in: Browser
) -> None:
    client = await registered(signed_in)
    access = (await redeemed(signed_in, client, URIS[0])).json["access_token"]
    assert await plane.store.access_tokens.find(access) is not None
    token, path = client["registration_access_token"], place_of(client)
    answer = await send(signed_in, "DELETE", path, token=token)
    assert (answer.status, answer.body, answer.headers["Cache-Control"]) == (204, b"", "no-store")
    assert await plane.store.access_tokens.find(access) is None
    assert (await signed_in.get(authorize_path(plane_client(client)))).status == 400
    for method in ("GET", "PUT", "DELETE"):
        again = await send(signed_in, method, path, managed(client) if method == "PUT" else None, token)
        assert again.status == 401, "RFC 7592, section 2.1: as for a token that is none"


def plane_client(client: dict[str, Any]) -> Any:
    """What `authorize_path` needs of a client."""

    class Known:
        client_id = client["client_id"]
        redirect_uris = tuple(client["redirect_uris"])

    return Known


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_nobody_manages_a_client_without_its_token_by_section_2(
    plane: Plane, browser: Browser, database: str, method: str
) -> None:
    client, other = await registered(browser), await registered(browser)
    initial = await plane.store.registrations.create_token(60, 1)
    ours, _ = await plane.client()
    before = await fetch(database, known := "select t::text from clients t order by 1")
    tokens = [None, other["registration_access_token"], client["client_secret"], initial, "gwm_unknown", "x" * 5000]
    for token in tokens:
        for path in (place_of(client), f"{REGISTER}/{ours.client_id}", f"{REGISTER}/nobody", f"{REGISTER}/%00"):
            members = managed(client, client_name="Evil") if method == "PUT" else None
            answer = await send(browser, method, path, members, token)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    twice = [("Authorization", f"Bearer {token}") for token in (client["registration_access_token"], initial)]
    answer = await browser.send(method, place_of(client), None, twice)
    assert (answer.status, answer.json["error"]) == (401, "invalid_token")
    assert await fetch(database, known) == before


async def test_a_registration_access_token_cannot_be_guessed_by_section_5(browser: Browser) -> None:
    tokens = {(await registered(browser))["registration_access_token"] for _ in range(2)}
    assert len(tokens) == 2
    assert all(re.fullmatch(r"gwm_[A-Za-z0-9_-]{32}", token) for token in tokens), "192 random bits"


@pytest.mark.parametrize("method", ["POST", "PATCH", "TRACE"])
async def test_other_methods_get_nowhere_at_a_registration_by_section_2(browser: Browser, method: str) -> None:
    client = await registered(browser)
    answer = await send(browser, method, place_of(client), token=client["registration_access_token"])
    assert answer.status == 405
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) >= {"GET", "PUT", "DELETE"}


async def test_a_disabled_client_manages_nothing_by_section_2_1(plane: Plane, browser: Browser) -> None:
    client = await registered(browser)
    await plane.store.clients.disable(client["client_id"])
    for method in ("GET", "PUT", "DELETE"):
        members = managed(client) if method == "PUT" else None
        answer = await send(browser, method, place_of(client), members, client["registration_access_token"])
        assert answer.status == 403, "RFC 7592, section 2.1"


async def test_changes_count_with_registrations(plane: Plane, browser: Browser) -> None:
    client = await registered(browser)
    token, path = client["registration_access_token"], place_of(client)
    statuses = [(await send(browser, "PUT", path, managed(client), token)).status for _ in range(MOST_REGISTRATIONS)]
    assert statuses == [200] * (MOST_REGISTRATIONS - 1) + [429]


async def test_who_registered_still_manages_that_when_registration_is_closed(
    store: Store, keyring: Keyring, tmp_path: Path, plane: Plane, browser: Browser
) -> None:
    client = await registered(browser)
    async with serving(store, keyring, tmp_path, registration={"policy": "closed"}) as closed:
        later = Browser(closed.url)
        token = client["registration_access_token"]
        assert (await send(later, "DELETE", place_of(client), token=token)).status == 204
        await later.close()
