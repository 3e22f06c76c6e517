"""The authorization endpoint, from a client's request to a code or a refusal."""

from urllib.parse import parse_qsl, quote, urlsplit

import pytest

from gateway.model import Client
from tests.web.conftest import Registered
from tests.web.rig import CHALLENGE, PASSWORD, REDIRECT, Browser, Plane, authorize_path, code_fields, row_counts


async def test_a_request_leads_through_sign_in_and_consent_to_a_code(
    plane: Plane, browser: Browser, ada: str, client: Client
) -> None:
    page = await browser.get(authorize_path(client))
    assert page.status == 200
    answer = await browser.submit(page.form, username="ada", password=PASSWORD)
    assert answer.location == authorize_path(client)
    consent = await browser.follow(answer)
    assert consent.status == 200
    answer = await browser.submit(consent.form, decision="allow")
    assert answer.status == 303
    assert answer.location.startswith(f"{REDIRECT}?code=gwc_")
    assert answer.members == {"code": answer.members["code"], "state": "xyz", "iss": plane.url}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_an_anonymous_visit_writes_nothing(database: str, browser: Browser, client: Client) -> None:
    before = await row_counts(database)
    for _ in range(3):
        assert (await browser.get(authorize_path(client))).status == 200
    assert await row_counts(database) == before


# RFC 6749, section 4.1.2.1: what must never be redirected.
@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "nobody"},
        {"client_id": "a\0b"},
        {"client_id": b"\xff"},
        {"redirect_uri": None},
        {"redirect_uri": REDIRECT + "/"},
        {"redirect_uri": REDIRECT.upper()},
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": REDIRECT + "?x=1"},
        {"redirect_uri": REDIRECT + "#f"},
        {"redirect_uri": "http://127.0.0.1/cb"},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": REDIRECT + "\r\nX: y"},
    ],
)
@pytest.mark.parametrize("other", [{}, {"response_type": "token"}, {"prompt": "none"}])
async def test_an_unproven_client_or_redirect_uri_is_a_page(
    browser: Browser, client: Client, changes: dict[str, str | bytes | None], other: dict[str, str]
) -> None:
    answer = await browser.get(authorize_path(client, **changes, **other))
    assert answer.status == 400
    assert "Location" not in answer.headers
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("twice", ["state=2", "client_id=x", "st%61te=2", "scope=", "nothing=1&nothing=1"])
async def test_a_repeated_parameter_is_a_page(browser: Browser, client: Client, twice: str) -> None:
    answer = await browser.get(f"{authorize_path(client)}&{twice}")
    assert (answer.status, "Location" in answer.headers) == (400, False)


async def test_a_disabled_client_is_a_page(plane: Plane, browser: Browser, client: Client) -> None:
    await plane.store.clients.disable(client.client_id)
    assert (await browser.get(authorize_path(client))).status == 400


async def test_a_client_disabled_while_somebody_signs_in_gets_no_code(
    plane: Plane, browser: Browser, ada: str, client: Client
) -> None:
    page = await browser.get(authorize_path(client))
    await plane.store.clients.disable(client.client_id)
    answer = await browser.submit(page.form, username="ada", password=PASSWORD)
    assert (answer.status, "Location" in answer.headers) == (400, False)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "notes:read nope"}, "invalid_scope"),
        ({"scope": 'a"b'}, "invalid_scope"),
        ({"resource": "https://evil.example/api"}, "invalid_target"),
        ({"resource": "/api/notes"}, "invalid_target"),
        ({"prompt": "none"}, "login_required"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"request_uri": "urn:x"}, "request_uri_not_supported"),
    ],
)
async def test_other_faults_go_back_to_the_client(
    plane: Plane, browser: Browser, public: Client, changes: dict[str, str | None], error: str
) -> None:
    answer = await browser.get(authorize_path(public, **changes))
    assert answer.status == 303
    assert answer.location.startswith(REDIRECT + "?")
    assert answer.members["error"] == error
    assert answer.members["state"] == "xyz"
    assert answer.members["iss"] == plane.url
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_a_confidential_client_may_be_exempt_from_pkce(signed_in: Browser, register: Registered) -> None:
    client, _ = await register(pkce_required=False)
    page = await signed_in.get(authorize_path(client, code_challenge=None, code_challenge_method=None))
    assert "code" in (await signed_in.submit(page.form, decision="allow")).members


async def test_a_client_without_the_code_grant_is_refused(browser: Browser, register: Registered) -> None:
    client, _ = await register(grant_types=frozenset({"client_credentials"}))
    assert (await browser.get(authorize_path(client))).members["error"] == "unauthorized_client"


@pytest.mark.parametrize("state", [b"\xff\xfe\x00\r\n", b"a+b c&d=e#f%20", "ünï✓".encode(), b'"><script>', b"x" * 2000])
@pytest.mark.parametrize("decision", ["allow", "deny"])
async def test_state_comes_back_exactly(signed_in: Browser, client: Client, state: bytes, decision: str) -> None:
    page = await signed_in.get(authorize_path(client, state=state))
    answer = await signed_in.submit(page.form, decision=decision)
    query = urlsplit(answer.location).query
    members = dict(parse_qsl(query, encoding="latin-1", strict_parsing=True))
    assert members["state"].encode("latin-1") == state


async def test_without_state_none_comes_back(signed_in: Browser, client: Client) -> None:
    page = await signed_in.get(authorize_path(client, state=None))
    assert "state" not in (await signed_in.submit(page.form, decision="allow")).members


async def test_a_redirect_uris_own_query_is_kept(signed_in: Browser, register: Registered) -> None:
    client, _ = await register(redirect_uris=("https://app.example/cb?tenant=1",))
    page = await signed_in.get(authorize_path(client))
    answer = await signed_in.submit(page.form, decision="allow")
    assert answer.location.startswith("https://app.example/cb?tenant=1&code=")


# RFC 8252, section 7.3
@pytest.mark.parametrize(
    ("uri", "good"),
    [
        ("http://127.0.0.1:49152/cb", True),
        ("http://127.0.0.1/cb", True),
        ("http://localhost:49152/cb", False),
        ("http://127.0.0.1:49152/other", False),
        ("http://127.0.0.1:49152@evil.example/cb", False),
    ],
)
async def test_only_the_port_of_a_loopback_redirect_varies(
    signed_in: Browser, register: Registered, uri: str, good: bool
) -> None:
    client, _ = await register(confidential=False, redirect_uris=("http://127.0.0.1:8000/cb",))
    page = await signed_in.get(authorize_path(client, redirect_uri=uri))
    assert page.status == (200 if good else 400)
    if good:
        answer = await signed_in.submit(page.form, decision="allow")
        assert answer.location.startswith(f"{uri}?code=")
        fields = code_fields(answer.members["code"], client, redirect_uri=uri, client_id=client.client_id)
        assert (await signed_in.send("POST", "/oauth2/token", fields)).status == 200


async def test_remembered_consent_is_not_asked_again(signed_in: Browser, client: Client) -> None:
    page = await signed_in.get(authorize_path(client))
    await signed_in.submit(page.form, decision="allow")
    assert "code" in (await signed_in.get(authorize_path(client))).members
    assert "code" in (await signed_in.get(authorize_path(client, scope="notes:read"))).members
    assert "code" in (await signed_in.get(authorize_path(client, prompt="none"))).members
    assert (await signed_in.get(authorize_path(client, prompt="consent"))).status == 200


async def test_more_than_was_allowed_is_asked_for(signed_in: Browser, client: Client) -> None:
    page = await signed_in.get(authorize_path(client))
    await signed_in.submit(page.form, decision="allow", scope="notes:read")
    assert "code" in (await signed_in.get(authorize_path(client, scope="notes:read"))).members
    assert (await signed_in.get(authorize_path(client))).status == 200
    assert (await signed_in.get(authorize_path(client, prompt="none"))).members["error"] == "consent_required"


async def test_a_public_client_is_asked_again(signed_in: Browser, public: Client) -> None:
    page = await signed_in.get(authorize_path(public))
    await signed_in.submit(page.form, decision="allow")
    assert (await signed_in.get(authorize_path(public))).status == 200
    assert (await signed_in.get(authorize_path(public, prompt="none"))).members["error"] == "consent_required"


async def test_a_first_party_client_is_not_asked_about(browser: Browser, ada: str, register: Registered) -> None:
    client, _ = await register(first_party=True)
    page = await browser.get(authorize_path(client))
    answer = await browser.submit(page.form, username="ada", password=PASSWORD)
    assert answer.location.startswith(f"{REDIRECT}?code=")
    assert "code" in (await browser.get(authorize_path(client))).members


async def test_remembered_consent_leads_on_from_sign_in_itself(
    plane: Plane, signed_in: Browser, stranger: Browser, client: Client
) -> None:
    page = await signed_in.get(authorize_path(client))
    await signed_in.submit(page.form, decision="allow")
    page = await stranger.get(authorize_path(client))
    answer = await stranger.submit(page.form, username="ada", password=PASSWORD)
    assert answer.status == 303
    assert answer.location.startswith(f"{REDIRECT}?code=")


async def test_prompt_login_asks_for_a_password_although_somebody_is_signed_in(
    signed_in: Browser, client: Client
) -> None:
    before = signed_in.cookies["gateway_session"]
    page = await signed_in.get(authorize_path(client, prompt="login"))
    assert page.status == 200
    answer = await signed_in.submit(page.form, username="ada", password=PASSWORD)
    assert signed_in.cookies["gateway_session"] != before
    consent = await signed_in.follow(answer)
    assert "code" in (await signed_in.submit(consent.form, decision="allow")).members


async def test_two_tabs_are_two_flows(signed_in: Browser, client: Client, public: Client) -> None:
    one = await signed_in.get(authorize_path(client, state="one"))
    two = await signed_in.get(authorize_path(public, state="two"))
    assert (await signed_in.submit(two.form, decision="deny")).members["state"] == "two"
    assert (await signed_in.submit(one.form, decision="allow")).members["state"] == "one"


async def test_without_a_scope_all_of_the_clients_are_shown(signed_in: Browser, client: Client) -> None:
    page = await signed_in.get(authorize_path(client, scope=None))
    assert [value for name, value in page.form.fields if name == "scope"] == ["notes:read", "notes:write"]


async def test_a_login_hint_fills_the_user_name(browser: Browser, client: Client) -> None:
    page = await browser.get(authorize_path(client, login_hint='ada"><script>'))
    assert page.form.value("username") == 'ada"><script>'
    assert "<script" not in page.text


@pytest.mark.parametrize("path", ["/oauth2/login?", None])
async def test_a_login_hint_of_odd_bytes_still_gives_the_form(
    browser: Browser, client: Client, path: str | None
) -> None:
    page = await browser.get((path or authorize_path(client) + "&") + "login_hint=a%ff%00%ed%a0%80")
    assert page.status == 200
    assert page.form.value("username").startswith("a")


async def test_names_are_escaped_wherever_they_are_shown(plane: Plane, browser: Browser) -> None:
    evil = "<script>alert(1)</script>"
    await plane.store.scopes.create("evil", evil)
    await plane.user("eve", evil)
    client, _ = await plane.client(name=evil, scopes=frozenset({"evil"}))
    page = await browser.get(authorize_path(client, scope="evil"))
    consent = await browser.follow(await browser.submit(page.form, username="eve", password=PASSWORD))
    await browser.submit(consent.form, decision="allow")
    for shown in (page, consent, await browser.get("/oauth2/account"), await browser.get("/oauth2/logout")):
        assert "<script" not in shown.text
        assert "&lt;script&gt;" in shown.text


async def test_the_way_it_was_said_does_not_matter(browser: Browser, client: Client) -> None:
    """Parameters that the client encodes in its own way, in any order, with unknown ones between (section 3.1)."""
    redirect = quote(REDIRECT, safe="")
    path = (
        f"/oauth2/authorize?x=1&scope=notes%3Aread+notes%3Awrite&redirect_uri={redirect}&client_id={client.client_id}"
        f"&code_challenge_method=S256&code_challenge={CHALLENGE}&response%5Ftype=code"
    )
    assert (await browser.get(path)).status == 200


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_other_methods_get_nowhere(signed_in: Browser, client: Client, method: str) -> None:
    answer = await signed_in.send(method, authorize_path(client))
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET,HEAD,OPTIONS,POST"
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
