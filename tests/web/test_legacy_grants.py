"""What OAuth 2.1 has given up, for the clients that an operator names: RFC 6749, sections 4.2 and 4.3."""

import asyncio
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.model import Client
from tests.web.conftest import Registered
from tests.web.rig import (
    PASSWORD,
    REDIRECT,
    Answer,
    Browser,
    Plane,
    authorize_path,
    basic,
    code_fields,
    row_counts,
)

METADATA = "/.well-known/oauth-authorization-server"
IMPLICIT = frozenset({"authorization_code", "refresh_token", "implicit"})
WITHOUT_PKCE = {"code_challenge": None, "code_challenge_method": None}


def fragment(answer: Answer) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(answer.location).fragment, strict_parsing=True))


async def asked(browser: Browser, client: Client, secret: str = "", **fields: str) -> Answer:
    """A password grant."""
    sent = {"grant_type": "password", "username": "ada", "password": PASSWORD, **fields}
    headers = basic(client.client_id, secret) if secret else {}
    named = {} if secret else {"client_id": client.client_id}
    return await browser.send("POST", "/oauth2/token", [*{**sent, **named}.items()], headers)


# -- the implicit grant ------------------------------------------------------------------------------------------


async def test_a_token_comes_at_once_in_the_fragment(
    plane: Plane, signed_in: Browser, register: Registered, ada: str
) -> None:
    """Section 4.2.2: with its type, lifetime, scope and state, and never with a refresh token."""
    client, _ = await register(confidential=False, grant_types=IMPLICIT)
    page = await signed_in.get(authorize_path(client, response_type="token", **WITHOUT_PKCE))
    answer = await signed_in.submit(page.form, decision="allow", scope=["notes:read"])
    assert answer.status == 303
    assert answer.location.startswith(f"{REDIRECT}#")
    members = fragment(answer)
    assert members.keys() == {"access_token", "token_type", "expires_in", "scope", "state", "iss"}
    assert (members["scope"], members["state"], members["iss"]) == ("notes:read", "xyz", plane.url)
    assert answer.headers["Cache-Control"] == "no-store"
    found = await plane.store.tokens.introspect(members["access_token"], None)
    assert (found["sub"], found["client_id"], found["scope"]) == (ada, client.client_id, "notes:read")
    await plane.store.grants.withdraw(ada, client.client_id)
    assert (await plane.store.tokens.introspect(members["access_token"], None))["active"] is False


async def test_a_token_may_come_beside_a_code(plane: Plane, signed_in: Browser, register: Registered) -> None:
    """OAuth 2.0 Multiple Response Type Encoding Practices, section 5. The code keeps its PKCE."""
    client, secret = await register(grant_types=IMPLICIT)
    page = await signed_in.get(authorize_path(client, response_type="code token"))
    members = fragment(await signed_in.submit(page.form, decision="allow", scope=["notes:read"]))
    assert members["code"].startswith("gwc_")
    assert members["scope"] == "notes:read"
    assert "refresh_token" not in members
    redeemed = await signed_in.send(
        "POST", "/oauth2/token", code_fields(members["code"], client), basic(client.client_id, secret)
    )
    assert (redeemed.status, "refresh_token" in redeemed.json) == (200, True)
    without = await signed_in.get(authorize_path(client, response_type="code token", **WITHOUT_PKCE))
    assert fragment(without)["error"] == "invalid_request"
    again = fragment(await signed_in.get(authorize_path(client, response_type="token code", scope="notes:read")))
    assert {"code", "access_token"} <= again.keys()  # the consent stands


async def test_a_token_is_shown_once(signed_in: Browser, register: Registered, database: str) -> None:
    client, _ = await register(confidential=False, grant_types=IMPLICIT)
    page = await signed_in.get(authorize_path(client, response_type="token", **WITHOUT_PKCE))
    answers = await asyncio.gather(*(signed_in.submit(page.form, decision="allow") for _ in range(20)))
    assert Counter(answer.status for answer in answers)[303] == 1
    assert (await row_counts(database))["access_tokens"] == 1


@pytest.mark.parametrize("decision", ["deny", None])
async def test_a_refusal_comes_in_the_fragment_too(
    signed_in: Browser, register: Registered, decision: str | None
) -> None:
    """Section 4.2.2.1."""
    client, _ = await register(confidential=False, grant_types=IMPLICIT)
    path = authorize_path(client, response_type="token", **WITHOUT_PKCE)
    if decision is None:
        answer, error = await signed_in.get(path.replace("notes%3Aread", "nope")), "invalid_scope"
    else:
        answer, error = await signed_in.submit((await signed_in.get(path)).form, decision=decision), "access_denied"
    members = fragment(answer)
    assert (members["error"], members["state"]) == (error, "xyz")


async def test_for_all_other_clients_there_is_none(
    signed_in: Browser, client: Client, public: Client, database: str
) -> None:
    before = await row_counts(database)
    for one in (client, public):
        for response_type in ("token", "code token", "token code"):
            answer = await signed_in.get(authorize_path(one, response_type=response_type))
            assert answer.members["error"] == "unsupported_response_type"
    assert await row_counts(database) == before


# -- the password grant ------------------------------------------------------------------------------------------


async def test_a_password_brings_tokens_and_leaves_nobody_signed_in(
    plane: Plane, browser: Browser, register: Registered, ada: str, database: str
) -> None:
    """Section 4.3."""
    client, secret = await register(grant_types=frozenset({"password", "refresh_token"}))
    answer = await asked(browser, client, secret, scope="notes:read")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert (answer.json["scope"], answer.json["token_type"]) == ("notes:read", "bearer")
    assert answer.json["refresh_token"].startswith("gwr_")
    assert not answer.set_cookies
    assert (await row_counts(database))["sessions"] == 0
    assert (await plane.store.tokens.introspect(answer.json["access_token"], None))["sub"] == ada
    by_email = await asked(browser, client, secret, username="ada@example.org")
    assert by_email.json["scope"] == "notes:read notes:write"
    await plane.store.grants.withdraw(ada, client.client_id)  # the person sees it in their account, and ends it there
    assert (await plane.store.tokens.introspect(answer.json["access_token"], None))["active"] is False


async def test_a_public_client_that_may_use_it_names_itself(browser: Browser, register: Registered, ada: str) -> None:
    client, _ = await register(confidential=False, grant_types=frozenset({"password"}))
    answer = await asked(browser, client)
    assert (answer.status, "refresh_token" in answer.json) == (200, False)


async def test_wrong_passwords_are_heard_as_often_as_at_the_sign_in_page(
    browser: Browser, stranger: Browser, register: Registered, ada: str, database: str
) -> None:
    """Section 4.3.2: protected against brute force; one counter with the page."""
    client, secret = await register(grant_types=frozenset({"password"}))
    before = await row_counts(database)
    for _ in range(5):
        answer = await asked(browser, client, secret, password="wrong")
        unknown = await asked(browser, client, secret, username="nobody", password="wrong")
        assert answer.status == 400
        assert {**answer.json, "request_id": ""} == {**unknown.json, "request_id": ""}
        assert answer.json["error"] == "invalid_grant"
        await stranger.sign_in(password="wrong")
    held = await asked(browser, client, secret)
    assert (held.status, held.json["error"]) == (429, "invalid_grant")
    assert 0 < int(held.headers["Retry-After"]) <= 900
    assert (await row_counts(database))["access_tokens"] == before["access_tokens"] == 0


async def test_bad_requests_leave_nothing(
    plane: Plane, browser: Browser, register: Registered, client: Client, ada: str, database: str
) -> None:
    allowed, secret = await register(grant_types=frozenset({"password"}))
    before = await row_counts(database)
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"username": ""}, 400, "invalid_request"),
        ({"password": ""}, 400, "invalid_request"),
        ({"scope": "nope"}, 400, "invalid_scope"),
        ({"resource": "https://evil.example/"}, 400, "invalid_target"),
        ({"username": "\0"}, 400, "invalid_grant"),
        ({"username": "x" * 5000}, 400, "invalid_grant"),
        ({"password": "x" * 5000}, 400, "invalid_grant"),
        ({"password": "\udc80"}, 400, "invalid_grant"),
        ({"grant_type": "implicit"}, 400, "unsupported_grant_type"),
    ]
    for fields, status, error in cases:
        sent = {"grant_type": "password", "username": "ada", "password": PASSWORD, **fields}
        body = "&".join(f"{name}={_escaped(value)}" for name, value in sent.items()).encode()
        answer = await browser.send("POST", "/oauth2/token", body, basic(allowed.client_id, secret))
        assert (answer.status, answer.json["error"]) == (status, error), fields
    twice = [("grant_type", "password"), ("username", "ada"), ("password", PASSWORD), ("password", PASSWORD)]
    doubled = await browser.send("POST", "/oauth2/token", twice, basic(allowed.client_id, secret))
    assert doubled.json["error"] == "invalid_request"
    query = await browser.send("POST", f"/oauth2/token?password={PASSWORD}", [], basic(allowed.client_id, secret))
    assert query.json["error"] == "invalid_request"
    assert (await asked(browser, allowed, "wrong")).status == 401
    counts = await row_counts(database)
    for table in ("access_tokens", "refresh_tokens", "families", "codes", "grants", "sessions"):
        assert counts[table] == before[table] == 0


def _escaped(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogateescape"))


async def test_for_all_other_clients_there_is_no_password_grant(
    browser: Browser, register: Registered, public: Client, ada: str
) -> None:
    client, secret = await register()
    for answer in (await asked(browser, client, secret), await asked(browser, public)):
        assert (answer.status, answer.json["error"]) == (400, "unsupported_grant_type")


async def test_a_disabled_person_or_client_gets_nothing(
    plane: Plane, browser: Browser, register: Registered, ada: str
) -> None:
    client, secret = await register(grant_types=frozenset({"password"}))
    await plane.store.users.disable("ada")
    assert (await asked(browser, client, secret)).json["error"] == "invalid_grant"
    await plane.store.clients.disable(client.client_id)
    assert (await asked(browser, client, secret)).json["error"] == "invalid_client"


# -- what is said of it ------------------------------------------------------------------------------------------


async def test_the_metadata_tell_of_it_only_where_somebody_may_use_it(plane: Plane, browser: Browser) -> None:
    async def announced() -> tuple[list[str], list[str], set[str]]:
        document = (await browser.get(METADATA)).json
        legacy = {"implicit", "password"} & set(document["grant_types_supported"])
        return document["response_types_supported"], document["response_modes_supported"], legacy

    assert await announced() == (["code"], ["query", "form_post"], set())
    client, _ = await plane.client(grant_types=IMPLICIT)
    await plane.client(grant_types=frozenset({"password"}))
    types, modes = ["code", "token", "code token"], ["query", "fragment", "form_post"]
    assert await announced() == (types, modes, {"implicit", "password"})
    await plane.store.clients.disable(client.client_id)
    assert await announced() == (["code"], ["query", "form_post"], {"password"})
