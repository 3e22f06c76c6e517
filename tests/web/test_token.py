"""The token endpoint over HTTP (RFC 6749, sections 3.2 and 5)."""

import asyncio
import gzip
from collections.abc import Sequence
from urllib.parse import quote

import pytest

from gateway.model import Client
from tests.web.conftest import Registered
from tests.web.rig import REDIRECT, VERIFIER, Answer, Browser, Plane, authorize_path, basic, code_fields, code_for

TOKEN = "/oauth2/token"
Fields = Sequence[tuple[str, str]]


async def ask(browser: Browser, fields: Fields, client: Client, secret: str) -> Answer:
    return await browser.send("POST", TOKEN, fields, basic(client.client_id, secret))


def refresh_fields(token: str) -> list[tuple[str, str]]:
    return [("grant_type", "refresh_token"), ("refresh_token", token)]


async def test_a_code_becomes_tokens(signed_in: Browser, register: Registered) -> None:
    client, secret = await register()
    answer = await ask(signed_in, code_fields(await code_for(signed_in, client), client), client, secret)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    body = answer.json
    assert body.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert body["access_token"].startswith("gwa_")
    assert body["refresh_token"].startswith("gwr_")
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("bearer", 3600, "notes:read notes:write")


async def test_the_scope_of_the_answer_is_what_was_ticked(signed_in: Browser, register: Registered) -> None:
    client, secret = await register()
    code = await code_for(signed_in, client, ["notes:read"])
    assert (await ask(signed_in, code_fields(code, client), client, secret)).json["scope"] == "notes:read"


async def test_a_mac_clients_answer_carries_its_key(signed_in: Browser, register: Registered) -> None:
    client, secret = await register(token_type="mac")
    body = (await ask(signed_in, code_fields(await code_for(signed_in, client), client), client, secret)).json
    assert body["token_type"] == "mac"
    assert body["mac_algorithm"] == "hmac-sha-256"
    assert len(body["mac_key"]) >= 32


async def test_a_public_client_names_itself(signed_in: Browser, public: Client) -> None:
    fields = code_fields(await code_for(signed_in, public), public, client_id=public.client_id)
    assert (await signed_in.send("POST", TOKEN, fields)).status == 200


@pytest.mark.parametrize("way", ["basic", "post"])
async def test_a_confidential_client_authenticates_in_either_way(
    browser: Browser, register: Registered, way: str
) -> None:
    client, secret = await register()
    fields = [("grant_type", "client_credentials")]
    if way == "basic":
        answer = await ask(browser, fields, client, secret)
    else:
        answer = await browser.send(
            "POST", TOKEN, [*fields, ("client_id", client.client_id), ("client_secret", secret)]
        )
    assert answer.status == 200
    assert answer.json["scope"] == "notes:read notes:write"
    assert "refresh_token" not in answer.json


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"redirect_uri": REDIRECT + "/"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"code_verifier": VERIFIER[:-1] + "y"}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_grant"),
        ({"code_verifier": "é" * 43}, "invalid_grant"),
        ({"code": "gwc_" + "a" * 40}, "invalid_grant"),
        ({"code": "another shape \0"}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"grant_type": None}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"resource": "https://evil.example"}, "invalid_target"),
    ],
)
async def test_a_bad_redemption_is_refused_and_spends_nothing(
    signed_in: Browser, register: Registered, changes: dict[str, str | None], error: str
) -> None:
    client, secret = await register()
    code = await code_for(signed_in, client)
    answer = await ask(signed_in, code_fields(code, client, **changes), client, secret)
    assert (answer.status, answer.json["error"]) == (400, error)
    assert answer.json["error_description"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await ask(signed_in, code_fields(code, client), client, secret)).status == 200


async def test_another_clients_code_is_refused(signed_in: Browser, register: Registered) -> None:
    (client, secret), (other, other_secret) = await register(), await register()
    code = await code_for(signed_in, client)
    answer = await ask(signed_in, code_fields(code, client), other, other_secret)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    assert (await ask(signed_in, code_fields(code, client), client, secret)).status == 200


async def test_a_replayed_code_ends_what_came_from_it(signed_in: Browser, register: Registered) -> None:
    client, secret = await register()
    code = await code_for(signed_in, client)
    tokens = (await ask(signed_in, code_fields(code, client), client, secret)).json
    answer = await ask(signed_in, code_fields(code, client), client, secret)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    refreshed = await ask(signed_in, refresh_fields(tokens["refresh_token"]), client, secret)
    assert refreshed.json["error"] == "invalid_grant"


async def test_of_redemptions_at_once_one_succeeds(signed_in: Browser, register: Registered) -> None:
    client, secret = await register()
    code = await code_for(signed_in, client)
    answers = await asyncio.gather(*(ask(signed_in, code_fields(code, client), client, secret) for _ in range(20)))
    assert [answer.status for answer in answers].count(200) == 1


async def test_refresh_rotates_and_narrows(signed_in: Browser, register: Registered) -> None:
    client, secret = await register()
    first = (await ask(signed_in, code_fields(await code_for(signed_in, client), client), client, secret)).json
    fields = [*refresh_fields(first["refresh_token"]), ("scope", "notes:read")]
    second = (await ask(signed_in, fields, client, secret)).json
    assert second["scope"] == "notes:read"
    assert second["refresh_token"] != first["refresh_token"]
    wider = [*refresh_fields(second["refresh_token"]), ("scope", "notes:read admin")]
    answer = await ask(signed_in, wider, client, secret)
    assert (answer.status, answer.json["error"]) == (400, "invalid_scope")
    again = await ask(signed_in, refresh_fields(first["refresh_token"]), client, secret)
    assert again.json["error"] == "invalid_grant"
    dead = await ask(signed_in, refresh_fields(second["refresh_token"]), client, secret)
    assert dead.json["error"] == "invalid_grant"


async def test_a_token_is_for_the_resource_that_was_asked_for(
    plane: Plane, signed_in: Browser, register: Registered
) -> None:
    client, secret = await register()
    resource = f"{plane.url}/api/notes"
    code = await code_for(signed_in, client, resource=resource)
    body = (await ask(signed_in, code_fields(code, client, resource=resource), client, secret)).json
    token = await plane.store.access_tokens.find(body["access_token"])
    assert token is not None
    assert token.audience == (resource,)


async def test_of_several_resources_each_token_is_for_those_that_it_was_asked_for(
    plane: Plane, signed_in: Browser, register: Registered
) -> None:
    """RFC 8707, sections 2.1 and 2.2, with RFC 7662's `aud`: the grant covers both, a refresh takes either."""
    client, secret = await register()
    notes, other = f"{plane.url}/api/notes", f"http://other.example:{plane.url.rpartition(':')[2]}/other"
    query = f"&resource={quote(notes, safe='')}&resource={quote(other, safe='')}"
    page = await signed_in.get(authorize_path(client) + query)
    assert notes in page.text
    assert other in page.text
    code = (await signed_in.submit(page.form, decision="allow")).members["code"]
    tokens = (await ask(signed_in, code_fields(code, client), client, secret)).json
    for asked, aud in (([], [notes, other]), ([other], other), ([notes], notes), ([notes, other], [notes, other])):
        fields = [("token", tokens["access_token"])]
        if asked:
            refresh = [*refresh_fields(tokens["refresh_token"]), *(("resource", name) for name in asked)]
            tokens = (await ask(signed_in, refresh, client, secret)).json
            fields = [("token", tokens["access_token"])]
        told = await signed_in.send("POST", "/oauth2/introspect", fields, basic(client.client_id, secret))
        assert told.json["aud"] == aud
    beyond = [*refresh_fields(tokens["refresh_token"]), ("resource", f"{plane.url}/api/none")]
    refused = await ask(signed_in, beyond, client, secret)
    assert (refused.status, refused.json["error"]) == (400, "invalid_target")
    assert (await ask(signed_in, refresh_fields(tokens["refresh_token"]), client, secret)).status == 200, "not spent"


@pytest.mark.parametrize("allowed", [["notes:read", "offline_access"], ["notes:read"]])
async def test_who_was_asked_for_access_while_away_decides_on_the_refresh_token(
    signed_in: Browser, public: Client, allowed: list[str]
) -> None:
    """OpenID Connect Core, section 11; MCP 2026-07-28, Refresh Tokens."""
    scope = "notes:read offline_access"
    page = await signed_in.get(authorize_path(public, scope=scope, prompt="consent"))
    assert "Keep this access while you’re away, until you remove it" in page.text
    code = await code_for(signed_in, public, allowed, scope=scope, prompt="consent")
    fields = code_fields(code, public, client_id=public.client_id)
    body = (await signed_in.send("POST", TOKEN, fields)).json
    assert body["scope"] == " ".join(allowed)
    assert ("refresh_token" in body) == ("offline_access" in allowed)
    if "refresh_token" in body:
        refresh = [*refresh_fields(body["refresh_token"]), ("client_id", public.client_id)]
        assert (await signed_in.send("POST", TOKEN, refresh)).json["scope"] == scope


# RFC 6749, section 5.2
@pytest.mark.parametrize(
    "which", ["wrong secret", "unknown", "empty secret", "no secret", "public with a secret", "disabled"]
)
async def test_who_cannot_authenticate_learns_not_why(
    plane: Plane, browser: Browser, register: Registered, public: Client, which: str
) -> None:
    client, secret = await register()
    if which == "disabled":
        await plane.store.clients.disable(client.client_id)
    fields = [("grant_type", "client_credentials")]
    headers = {
        "wrong secret": basic(client.client_id, "x" * len(secret)),
        "unknown": basic("nobody", secret),
        "empty secret": basic(client.client_id, ""),
        "public with a secret": basic(public.client_id, "x"),
        "disabled": basic(client.client_id, secret),
    }.get(which, {})
    if which == "no secret":
        fields.append(("client_id", client.client_id))
    answer = await browser.send("POST", TOKEN, fields, headers)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert {name: value for name, value in answer.json.items() if name != "request_id"} == {
        "error": "invalid_client",
        "error_description": "Client authentication failed.",
    }


@pytest.mark.parametrize(
    ("query", "body", "auth", "status", "error"),
    [
        ("", "grant_type=client_credentials&client_secret=SECRET&client_id=ID", True, 400, "invalid_request"),
        ("", "grant_type=client_credentials&client_id=other", True, 400, "invalid_request"),
        ("", "grant_type=client_credentials&client_id=ID", True, 200, None),
        ("?client_secret=SECRET&client_id=ID", "grant_type=client_credentials", False, 400, "invalid_request"),
        ("?client_secret=SECRET", "grant_type=client_credentials&client_id=ID", False, 400, "invalid_request"),
        ("?unrelated=1", "grant_type=client_credentials", True, 200, None),
        ("", "grant_type=client_credentials&grant_type=client_credentials", True, 400, "invalid_request"),
        ("", "grant_type=client_credentials&x=1&%78=1", True, 400, "invalid_request"),
        ("", "grant_type=client_credentials&scope=", True, 200, None),
        ("", "grant_type=client_credentials&scope=nope", True, 400, "invalid_scope"),
        ("", "grant_type=client_credentials&scope=a%00", True, 400, "invalid_scope"),
        ("", "", True, 400, "invalid_request"),
        ("", "&".join(["a=1"] * 200), True, 400, "invalid_request"),
    ],
)
async def test_parameters_come_once_and_in_their_place(
    browser: Browser, register: Registered, query: str, body: str, auth: bool, status: int, error: str | None
) -> None:
    client, secret = await register()
    filled = (text.replace("SECRET", secret).replace("ID", client.client_id) for text in (query, body))
    query, body = filled
    answer = await browser.send("POST", TOKEN + query, body.encode(), basic(client.client_id, secret) if auth else {})
    assert (answer.status, answer.json.get("error")) == (status, error)


async def test_two_authorization_fields_are_refused(browser: Browser, register: Registered) -> None:
    client, secret = await register()
    fields = list(basic(client.client_id, secret).items()) * 2
    answer = await browser.send("POST", TOKEN, [("grant_type", "client_credentials")], fields)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
async def test_only_post_is_allowed(browser: Browser, method: str) -> None:
    answer = await browser.send(method, TOKEN)
    assert answer.status == 405
    assert answer.headers["Allow"] == "OPTIONS,POST"


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/x-www-form-urlencoded", 200),
        ("application/x-www-form-urlencoded;charset=UTF-8", 200),
        ("APPLICATION/X-WWW-FORM-URLENCODED; charset=utf-8", 200),
        ("application/json", 400),
        ("text/plain", 400),
        ("multipart/form-data; boundary=x", 400),
    ],
)
async def test_only_form_bodies_are_read(
    browser: Browser, register: Registered, content_type: str, status: int
) -> None:
    client, secret = await register()
    headers = basic(client.client_id, secret) | {"Content-Type": content_type}
    answer = await browser.send("POST", TOKEN, b"grant_type=client_credentials", headers)
    assert answer.status == status
    if status != 200:
        assert answer.json["error"] == "invalid_request"


@pytest.mark.parametrize(("extra", "status"), [(0, 200), (1, 413)])
async def test_a_body_has_at_most_64_kib(browser: Browser, register: Registered, extra: int, status: int) -> None:
    client, secret = await register()
    start = b"grant_type=client_credentials&x="
    body = start + b"a" * (64 * 1024 - len(start) + extra)
    answer = await browser.send("POST", TOKEN, body, basic(client.client_id, secret))
    assert answer.status == status
    if status == 413:
        assert answer.json["error"] == "invalid_request"


async def test_an_encoded_body_is_not_inflated(browser: Browser, register: Registered) -> None:
    client, secret = await register()
    body = gzip.compress(b"grant_type=client_credentials&x=" + b"a" * 10_000_000)
    headers = basic(client.client_id, secret) | {"Content-Encoding": "gzip"}
    answer = await browser.send("POST", TOKEN, body, headers)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


async def test_what_a_client_may_not_do_is_refused(browser: Browser, register: Registered, public: Client) -> None:
    client, secret = await register(grant_types=frozenset({"authorization_code"}))
    for fields in ([("grant_type", "client_credentials")], refresh_fields("gwr_x")):
        assert (await ask(browser, fields, client, secret)).json["error"] == "unauthorized_client"
    fields = [("grant_type", "client_credentials"), ("client_id", public.client_id)]
    assert (await browser.send("POST", TOKEN, fields)).json["error"] == "unauthorized_client"


async def test_errors_carry_the_request_id(browser: Browser) -> None:
    answer = await browser.send("POST", TOKEN, [], {"X-Request-Id": "req-1"})
    assert answer.json["request_id"] == "req-1"


async def test_a_withdrawn_request_leaves_no_code(signed_in: Browser, register: Registered) -> None:
    client, secret = await register()
    code = await code_for(signed_in, client)
    await signed_in.submit((await signed_in.get("/oauth2/account")).form)
    answer = await ask(signed_in, code_fields(code, client), client, secret)
    assert (answer.status, answer.json["error"]) == (400, "invalid_grant")
    assert (await signed_in.get(authorize_path(client))).status == 200
