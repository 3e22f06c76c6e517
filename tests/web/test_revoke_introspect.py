"""Revocation (RFC 7009) and introspection (RFC 7662)."""

import pytest

from gateway.model import Client
from tests.web.conftest import Registered
from tests.web.rig import Answer, Browser, Plane, basic, code_fields, code_for

REVOKE, INTROSPECT = "/oauth2/revoke", "/oauth2/introspect"


async def tokens_of(browser: Browser, client: Client, secret: str) -> dict[str, str]:
    fields = code_fields(await code_for(browser, client), client, client_id=client.client_id)
    headers = basic(client.client_id, secret) if secret else {}
    answer: dict[str, str] = (await browser.send("POST", "/oauth2/token", fields, headers)).json
    return answer


async def introspect(browser: Browser, token: str, client: Client, secret: str, hint: str | None = None) -> Answer:
    fields = [("token", token)] + ([] if hint is None else [("token_type_hint", hint)])
    return await browser.send("POST", INTROSPECT, fields, basic(client.client_id, secret))


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_a_live_token_is_described(
    plane: Plane, signed_in: Browser, register: Registered, ada: str, kind: str
) -> None:
    client, secret = await register()
    tokens = await tokens_of(signed_in, client, secret)
    answer = await introspect(signed_in, tokens[kind], client, secret)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    body = answer.json
    assert body["active"] is True
    assert (body["sub"], body["client_id"], body["iss"]) == (ada, client.client_id, plane.url)
    assert body["scope"] == "notes:read notes:write"


@pytest.mark.parametrize("hint", [None, "access_token", "refresh_token", "nonsense"])
async def test_a_refresh_token_is_active_for_its_own_client_only(
    signed_in: Browser, register: Registered, public: Client, hint: str | None
) -> None:
    # RFC 7662, section 4: a resource server would take it for an access token
    client, secret = await register()
    other, others_secret = await register()
    for tokens in (await tokens_of(signed_in, client, secret), await tokens_of(signed_in, public, "")):
        refused = await introspect(signed_in, tokens["refresh_token"], other, others_secret, hint)
        assert (refused.status, refused.json) == (200, {"active": False})
        seen = await introspect(signed_in, tokens["access_token"], other, others_secret, hint)
        assert seen.json["active"] is True
    own = await tokens_of(signed_in, client, secret)
    assert (await introspect(signed_in, own["refresh_token"], client, secret, hint)).json["active"] is True


@pytest.mark.parametrize("token", ["gwa_" + "a" * 40, "x", "\0", "é", "gwc_" + "a" * 40])
async def test_an_unknown_token_is_inactive_and_nothing_more(
    browser: Browser, register: Registered, token: str
) -> None:
    client, secret = await register()
    answer = await introspect(browser, token, client, secret)
    assert (answer.status, answer.json) == (200, {"active": False})


async def test_introspection_needs_a_client_with_a_secret(
    signed_in: Browser, register: Registered, public: Client
) -> None:
    client, secret = await register()
    token = (await tokens_of(signed_in, client, secret))["access_token"]
    for fields, headers in (
        ([("token", token)], {}),
        ([("token", token), ("client_id", public.client_id)], {}),
        ([("token", token), ("client_id", client.client_id)], {}),
        ([("token", token)], basic(client.client_id, "wrong")),
        ([("token", token)], {"Authorization": f"Bearer {token}"}),
    ):
        answer = await signed_in.send("POST", INTROSPECT, fields, headers)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
        assert "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize("hint", [None, "access_token", "refresh_token", "nonsense"])
@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_a_token_is_revoked_whatever_the_hint(
    signed_in: Browser, register: Registered, kind: str, hint: str | None
) -> None:
    client, secret = await register()
    tokens = await tokens_of(signed_in, client, secret)
    fields = [("token", tokens[kind])] + ([("token_type_hint", hint)] if hint else [])
    answer = await signed_in.send("POST", REVOKE, fields, basic(client.client_id, secret))
    assert (answer.status, answer.json) == (200, {})
    assert answer.headers["Cache-Control"] == "no-store"
    assert (await introspect(signed_in, tokens[kind], client, secret)).json == {"active": False}
    if kind == "refresh_token":  # section 2.1: the access tokens of the same grant die too
        assert (await introspect(signed_in, tokens["access_token"], client, secret)).json == {"active": False}


@pytest.mark.parametrize("token", ["gwa_" + "a" * 40, "unknown", "\0"])
async def test_an_unknown_token_is_revoked_with_the_same_answer(
    browser: Browser, register: Registered, token: str
) -> None:
    client, secret = await register()
    answer = await browser.send("POST", REVOKE, [("token", token)], basic(client.client_id, secret))
    assert (answer.status, answer.json) == (200, {})


async def test_a_public_client_revokes_its_own_and_no_other(
    signed_in: Browser, register: Registered, public: Client
) -> None:
    client, secret = await register()
    own, other = await tokens_of(signed_in, public, ""), await tokens_of(signed_in, client, secret)
    for token in (own["access_token"], other["access_token"]):
        fields = [("token", token), ("client_id", public.client_id)]
        assert (await signed_in.send("POST", REVOKE, fields)).status == 200
    assert (await introspect(signed_in, own["access_token"], client, secret)).json == {"active": False}
    assert (await introspect(signed_in, other["access_token"], client, secret)).json["active"] is True


@pytest.mark.parametrize("path", [REVOKE, INTROSPECT])
@pytest.mark.parametrize("fields", [[], [("token", "")], [("token", "a"), ("token", "b")]])
async def test_one_token_is_needed(
    browser: Browser, register: Registered, path: str, fields: list[tuple[str, str]]
) -> None:
    client, secret = await register()
    answer = await browser.send("POST", path, fields, basic(client.client_id, secret))
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("path", [REVOKE, INTROSPECT])
async def test_a_token_in_the_query_is_refused(browser: Browser, register: Registered, path: str) -> None:
    client, secret = await register()
    headers = basic(client.client_id, secret)
    answer = await browser.send("POST", f"{path}?token=gwa_x", [("token", "gwa_x")], headers)
    assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert (await browser.send("GET", f"{path}?token=gwa_x", None, headers)).status == 405
