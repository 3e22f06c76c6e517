"""The consent form: what it shows, and what becomes of an answer that was not asked for."""

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.model import Client
from gateway.oauth.redirect_uris import form_action_source
from gateway.store import NewClient
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


async def codes(database: str) -> int:
    return (await row_counts(database))["codes"]


def changed(client: Client, **changes: Any) -> NewClient:
    """What an operator makes of a client."""
    return replace(NewClient.like(client), **changes)


async def consent(browser: Browser, client: Client, **changes: str | None) -> Answer:
    page = await browser.get(authorize_path(client, **changes))
    assert page.status == 200, page.text
    return page


async def test_it_says_who_asks_for_what_and_where_that_leads(signed_in: Browser, client: Client) -> None:
    page = await consent(signed_in, client)
    for words in (
        "Notes Desktop",
        "Registered by Example",
        "Read your notes",
        "Change your notes",
        "app.example",
        "Ada Lovelace",
        "Use another account",
        "remove this access",
    ):
        assert words in page.text
    assert [value for name, value in page.form.fields if name == "scope"] == ["notes:read", "notes:write"]
    assert {value for name, value in page.form.buttons if name == "decision"} == {"allow", "deny"}


@pytest.mark.parametrize(
    ("kind", "said", "unsaid"),
    [
        ({}, ["Registered by Example"], ["confirm", "hasn’t checked"]),
        # Anybody can pose as a public client (RFC 6749, section 10.2).
        (
            {"confidential": False},
            ["Example can’t confirm that this is really <bdi>Notes Desktop</bdi>", "only if you just started it"],
            ["Registered by", "hasn’t checked"],
        ),
        (
            {"verified": False},
            ["Not verified", "Example hasn’t checked this application.", "know who runs <strong>app.example</strong>"],
            ["Registered by", "confirm", "on this computer"],
        ),
        # A warning of Model Context Protocol's: any program can listen there, under any name.
        (
            {"verified": False, "confidential": False, "redirect_uris": ("http://127.0.0.1/cb",)},
            ["Not verified", "hasn’t checked", "on this computer, where any program can use its name"],
            ["Registered by", "know who runs"],
        ),
        (
            {"verified": False, "confidential": False, "redirect_uris": ("com.example.app:/cb",)},
            ["Not verified", "hasn’t checked", "Continue only if you just started it."],
            ["Registered by", "know who runs", "on this computer"],
        ),
    ],
)
async def test_it_says_no_more_about_who_asks_than_is_known(
    signed_in: Browser, register: Registered, kind: dict[str, Any], said: list[str], unsaid: list[str]
) -> None:
    client, _ = await register(**kind)
    page = await consent(signed_in, client)
    assert all(words in page.text for words in said)
    assert page.text.count("message caution") == (0 if client.verified and client.confidential else 1)
    assert not any(words in page.text for words in [*unsaid, ">Verified<"])


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://127.0.0.1:8000/cb", "this computer"),
        ("http://[::1]:8000/cb", "this computer"),
        ("com.example.app:/cb", ">com.example.app<"),
    ],
)
async def test_where_a_native_application_takes_the_person_is_said(
    signed_in: Browser, register: Registered, uri: str, shown: str
) -> None:
    client, _ = await register(redirect_uris=(uri,))
    assert shown in (await consent(signed_in, client)).text


async def test_the_ticked_scopes_are_the_granted_ones(plane: Plane, signed_in: Browser, client: Client) -> None:
    page = await consent(signed_in, client)
    await signed_in.submit(page.form, decision="allow", scope=["notes:write"])
    (grant,) = await plane.store.grants.of((await plane.store.users.all())[0].subject)
    assert grant.scopes == {"notes:write"}


async def test_no_is_told_to_the_client(plane: Plane, signed_in: Browser, client: Client, database: str) -> None:
    page = await consent(signed_in, client)
    answer = await signed_in.submit(page.form, decision="deny")
    assert answer.status == 303
    assert answer.members == {
        "error": "access_denied",
        "error_description": answer.members["error_description"],
        "state": "xyz",
        "iss": plane.url,
    }
    assert await codes(database) == 0


async def test_a_yes_to_nothing_is_asked_again(signed_in: Browser, client: Client, database: str) -> None:
    page = await consent(signed_in, client)
    again = await signed_in.submit(page.form, decision="allow", scope=None)
    assert again.status == 400
    assert "Select at least one permission" in again.text
    assert "<title>Error: Allow Notes Desktop?" in again.text
    assert await codes(database) == 0
    assert "code" in (await signed_in.submit(again.form, decision="allow", scope="notes:read")).members


async def test_a_client_without_scopes_can_be_allowed(signed_in: Browser, register: Registered) -> None:
    client, _ = await register(scopes=frozenset())
    page = await consent(signed_in, client, scope=None)
    assert "code" in (await signed_in.submit(page.form, decision="allow")).members


@pytest.mark.parametrize(
    "changes",
    [
        {"csrf_token": None},
        {"csrf_token": ""},
        {"csrf_token": "x"},
        {"csrf_token": "."},
        {"csrf_token": "f.x"},
        {"csrf_token": "\udcff.\udcff"},
        {"decision": "maybe"},
        {"decision": ""},
        {"decision": ["deny", "allow"]},
        {"scope": "admin"},
        {"scope": ["notes:read", "admin"]},
        {"scope": "notes:read notes:write"},
        {"client_id": "other"},
        {"redirect_uri": "https://evil.example/cb"},
        {"state": "other"},
        {"flow": "other"},
        {"username": "ada"},
    ],
)
async def test_fields_other_than_were_shown_are_refused(
    signed_in: Browser, client: Client, database: str, changes: dict[str, str | list[str] | None]
) -> None:
    page = await consent(signed_in, client)
    fields = page.form.filled(**({"decision": "allow"} | changes))
    raw = "&".join(f"{name}={value}" for name, value in fields).encode("utf-8", "surrogateescape")
    answer = await signed_in.send("POST", page.form.action, raw)
    assert answer.status == 403
    assert "Location" not in answer.headers
    assert await codes(database) == 0
    assert "code" in (await signed_in.submit(page.form, decision="allow")).members


async def test_a_token_of_another_flow_decides_that_flow_only(
    signed_in: Browser, register: Registered, client: Client
) -> None:
    small, _ = await register(scopes=frozenset({"notes:read"}))
    page, other = await consent(signed_in, client), await consent(signed_in, small, scope="notes:read")
    token = other.form.value("csrf_token")
    assert (await signed_in.submit(page.form, decision="allow", csrf_token=token)).status == 403


async def test_a_form_of_another_person_is_refused(
    plane: Plane, signed_in: Browser, stranger: Browser, client: Client, database: str
) -> None:
    await plane.user("eve")
    await stranger.sign_in("eve")
    page = await consent(signed_in, client)
    assert (await stranger.submit(page.form, decision="allow")).status == 403
    assert await codes(database) == 0


async def test_a_form_decides_nothing_after_sign_out(signed_in: Browser, client: Client, database: str) -> None:
    page = await consent(signed_in, client)
    await signed_in.submit((await signed_in.get("/oauth2/logout")).form)
    answer = await signed_in.submit(page.form, decision="allow")
    assert (answer.status, answer.location) == (303, authorize_path(client).replace("?", "/consent?", 1))
    assert await codes(database) == 0


async def test_a_token_of_another_page_is_refused(signed_in: Browser, client: Client) -> None:
    page = await consent(signed_in, client)
    await signed_in.submit(page.form, decision="allow")
    account = (await signed_in.get("/oauth2/account")).forms[0]
    page = await consent(signed_in, client, prompt="consent")
    token = account.value("csrf_token")
    assert (await signed_in.submit(page.form, decision="allow", csrf_token=token)).status == 403
    answer = await signed_in.submit(account, csrf_token=page.form.value("csrf_token"))
    assert answer.status == 403


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("allow", "deny", "already allowed Notes Desktop"),
        ("deny", "allow", "Nothing was shared"),
    ],
)
async def test_a_decision_counts_once_and_another_one_is_told_of_it(
    signed_in: Browser, client: Client, database: str, first: str, second: str, said: str
) -> None:
    page = await consent(signed_in, client)
    assert (await signed_in.submit(page.form, decision=first)).status == 303
    again = await signed_in.submit(page.form, decision=second)
    assert (again.status, "Location" in again.headers) == (409, False)
    assert said in again.text
    assert ("Nothing was shared" in again.text) == (first == "deny")
    assert await codes(database) == (1 if first == "allow" else 0)
    (anew,) = again.ways["Decide again"]
    assert "code" in (await signed_in.submit((await signed_in.get(anew)).form, decision="allow")).members


@pytest.mark.parametrize("decision", ["allow", "deny"])
async def test_a_second_click_gets_the_same_answer(
    signed_in: Browser, client: Client, database: str, decision: str
) -> None:
    page = await consent(signed_in, client)
    answers = [await signed_in.submit(page.form, decision=decision) for _ in range(2)]
    assert answers[0].status == answers[1].status == 303
    assert answers[0].location == answers[1].location
    assert await codes(database) == (1 if decision == "allow" else 0)


async def test_clicks_at_once_get_one_answer(signed_in: Browser, client: Client, database: str) -> None:
    page = await consent(signed_in, client)
    answers = await asyncio.gather(*(signed_in.submit(page.form, decision="allow") for _ in range(8)))
    assert {answer.status for answer in answers} == {303}
    assert len({answer.location for answer in answers}) == 1
    assert await codes(database) == 1


async def test_other_ticks_are_another_decision(signed_in: Browser, client: Client, database: str) -> None:
    page = await consent(signed_in, client)
    await signed_in.submit(page.form, decision="allow")
    again = await signed_in.submit(page.form, decision="allow", scope=["notes:read"])
    assert (again.status, await codes(database)) == (409, 1)


async def test_a_code_that_was_redeemed_is_not_given_again(signed_in: Browser, register: Registered) -> None:
    """A client that gets it twice redeems it twice, which revokes what it has (RFC 6749, section 4.1.2)."""
    client, secret = await register()
    page = await consent(signed_in, client)
    answer = await signed_in.submit(page.form, decision="allow")
    fields, by = code_fields(answer.members["code"], client), basic(client.client_id, secret)
    tokens = (await signed_in.send("POST", "/oauth2/token", fields, by)).json
    again = await signed_in.submit(page.form, decision="allow")
    assert again.status == 409
    assert "already allowed Notes Desktop" in again.text
    assert "Nothing was shared" not in again.text
    found = await signed_in.send("POST", "/oauth2/introspect", [("token", tokens["access_token"])], by)
    assert found.json["active"] is True


async def test_back_after_a_decision_asks_anew_and_claims_nothing(signed_in: Browser, public: Client) -> None:
    page = await consent(signed_in, public)
    await signed_in.submit(page.form, decision="allow")
    back = await consent(signed_in, public)
    assert "Nothing was shared" not in back.text
    assert "code" in (await signed_in.submit(back.form, decision="allow")).members


async def test_a_form_sent_from_another_site_is_refused(signed_in: Browser, client: Client, database: str) -> None:
    page = await consent(signed_in, client)
    fields = page.form.filled(decision="allow")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Dest": "empty"},
    ):
        assert (await signed_in.send("POST", page.form.action, fields, headers)).status == 403
    assert await codes(database) == 0
    good = {"Origin": "null", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "document"}
    assert (await signed_in.send("POST", page.form.action, fields, good)).status == 303


async def test_the_form_works_at_the_address_where_it_was_shown(signed_in: Browser, client: Client) -> None:
    path = authorize_path(client)
    page = await signed_in.get(path)
    assert (await signed_in.send("POST", path, page.form.filled(decision="allow"))).status == 303


async def test_a_body_that_is_no_form_is_refused(signed_in: Browser, client: Client) -> None:
    page = await consent(signed_in, client)
    fields = page.form.filled(decision="allow")
    answer = await signed_in.send("POST", page.form.action, fields, {"Content-Type": "text/plain"})
    assert answer.status == 403


async def test_the_account_can_be_changed_without_losing_the_request(
    plane: Plane, signed_in: Browser, client: Client
) -> None:
    await plane.user("bob", "Bob")
    before = signed_in.cookies["gateway_session"]
    page = await consent(signed_in, client, state="keep me", resource=f"{plane.url}/api/notes")
    (another,) = page.ways["Use another account"]
    sign_in = await signed_in.get(another)
    assert sign_in.status == 200
    assert "Ada Lovelace" in sign_in.text
    assert form_action_source(REDIRECT) in sign_in.headers["Content-Security-Policy"]
    page = await signed_in.follow(await signed_in.submit(sign_in.form, username="bob", password=PASSWORD))
    assert "Bob" in page.text
    assert "Ada" not in page.text
    assert await plane.store.sessions.find(before) is None
    answer = await signed_in.submit(page.form, decision="allow")
    assert answer.members["state"] == "keep me"
    token = await signed_in.send(
        "POST",
        "/oauth2/token",
        code_fields(answer.members["code"], client),
    )
    assert token.status == 401  # the code is good, the client did not authenticate: nothing is given


async def test_a_flow_that_nobody_has_is_a_page(signed_in: Browser) -> None:
    for flow in ("", "fxxxxxxxxxxxxxxxx", "%00", "%ff", "a" * 300):
        answer = await signed_in.get(f"/oauth2/authorize?flow={flow}")
        assert (answer.status, "Location" in answer.headers) == (400, False)


async def test_a_disabled_user_decides_nothing(plane: Plane, signed_in: Browser, client: Client, database: str) -> None:
    page = await consent(signed_in, client)
    await plane.store.users.disable("ada")
    answer = await signed_in.submit(page.form, decision="allow")
    assert (answer.status, answer.location) == (303, authorize_path(client).replace("?", "/consent?", 1))
    assert await codes(database) == 0


@pytest.mark.parametrize("decision", ["allow", "deny"])
async def test_an_address_that_was_taken_from_the_client_meanwhile_gets_nothing(
    plane: Plane, signed_in: Browser, client: Client, database: str, decision: str
) -> None:
    page = await consent(signed_in, client)
    await plane.store.clients.update(client.client_id, changed(client, redirect_uris=("https://new.example/cb",)))
    answer = await signed_in.submit(page.form, decision=decision)
    assert (answer.status, answer.headers.get("Location")) == (400, None)
    assert await codes(database) == 0


async def test_scopes_that_were_taken_from_the_client_meanwhile_are_not_allowed(
    plane: Plane, signed_in: Browser, client: Client, database: str
) -> None:
    page = await consent(signed_in, client)
    await plane.store.clients.update(client.client_id, changed(client, scopes=frozenset({"notes:read"})))
    assert (await signed_in.submit(page.form, decision="allow")).members["error"] == "invalid_scope"
    assert await codes(database) == 0


async def test_a_browser_gets_a_page_to_an_app_and_a_program_the_redirect(
    signed_in: Browser, register: Registered
) -> None:
    client, _ = await register(redirect_uris=("com.example.app:/cb",))
    for decision in ("allow", "deny"):
        page = await consent(signed_in, client, prompt="consent")
        fields = page.form.filled(decision=decision)
        shown = await signed_in.send("POST", page.form.action, fields, {"Sec-Fetch-Dest": "document"})
        assert (shown.status, shown.forms) == (200, [])
        assert shown.headers["Cache-Control"] == "no-store"
        heading = (
            "<bdi>Notes Desktop</bdi> has access now" if decision == "allow" else "declined <bdi>Notes Desktop</bdi>"
        )
        assert heading in shown.text
        (href,) = shown.ways["Open Notes Desktop"]
        assert shown.headers["Refresh"] == f"0; url={href}"
        sent = await signed_in.send("POST", page.form.action, fields)
        assert (sent.status, sent.location) == (303, href)
