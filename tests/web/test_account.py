"""Connected applications and signing out."""

import pytest

from gateway.model import Client
from tests.store.rig import fetch
from tests.web.conftest import Registered
from tests.web.rig import Browser, Plane, basic, code_fields, code_for

ACCOUNT, LOGOUT = "/oauth2/account", "/oauth2/logout"


async def test_each_application_has_a_form_that_names_it(signed_in: Browser, client: Client, public: Client) -> None:
    await code_for(signed_in, client)
    await code_for(signed_in, public)
    page = await signed_in.get(ACCOUNT)
    assert {form.value("client_id") for form in page.forms} == {client.client_id, public.client_id}
    assert all((form.method, form.action) == ("post", ACCOUNT) for form in page.forms)
    for words in ("Notes Desktop", "Pocket Notes", "Read your notes", "Ada Lovelace"):
        assert words in page.text


async def test_withdrawing_ends_what_the_application_holds(signed_in: Browser, register: Registered) -> None:
    client, secret = await register()
    code = await code_for(signed_in, client)
    tokens = (
        await signed_in.send("POST", "/oauth2/token", code_fields(code, client), basic(client.client_id, secret))
    ).json
    answer = await signed_in.submit((await signed_in.get(ACCOUNT)).form)
    page = await signed_in.follow(answer)
    assert "<bdi>Notes Desktop</bdi> no longer has access." in page.text
    assert page.forms == []
    for token in (tokens["access_token"], tokens["refresh_token"]):
        found = await signed_in.send("POST", "/oauth2/introspect", [("token", token)], basic(client.client_id, secret))
        assert found.json == {"active": False}


async def test_since_is_when_the_application_was_first_allowed_and_last_used_when_it_called(
    plane: Plane, signed_in: Browser, client: Client, database: str
) -> None:
    await code_for(signed_in, client)
    await fetch(database, "update grants set created_at = '2020-02-03'")
    await code_for(signed_in, client, prompt="consent")
    assert "Connected 3 Feb 2020 · not used yet" in (await signed_in.get(ACCOUNT)).text
    await fetch(database, "update grants set last_used_at = '2020-03-04'")
    assert "Connected 3 Feb 2020 · last used 4 Mar 2020" in (await signed_in.get(ACCOUNT)).text


@pytest.mark.parametrize(
    ("uris", "said"),
    [
        (("https://evil.example.com/a", "https://evil.example.com/b"), "Returns to evil.example.com<"),
        (
            ("http://127.0.0.1/cb", "com.example.a:/cb"),
            "Returns to a program on this computer, the app (com.example.a)",
        ),
        (tuple(f"https://{n}.example/" for n in range(5)), "Returns to 0.example, 1.example, 2.example and 2 more<"),
    ],
)
async def test_an_application_that_nobody_checked_is_told_from_its_namesake_by_where_it_leads(
    signed_in: Browser, register: Registered, uris: tuple[str, ...], said: str
) -> None:
    for verified in (True, False):
        client, _ = await register(verified=verified, redirect_uris=uris, name="N" * 60)
        await code_for(signed_in, client)
        page = await signed_in.get(ACCOUNT)
        assert (said in page.text) is not verified
        assert f"<h2><bdi>{'N' * 49}…</bdi></h2>" in page.text


async def test_an_address_claims_no_removal_that_was_not(
    plane: Plane, signed_in: Browser, stranger: Browser, client: Client, public: Client
) -> None:
    await code_for(signed_in, client)
    claimed = [client.client_id, public.client_id, "nobody", "", "x" * 300, "%00", "%ff"]
    for client_id in claimed:
        assert "no longer has access" not in (await signed_in.get(f"{ACCOUNT}?removed={client_id}")).text
    removed = await signed_in.submit((await signed_in.get(ACCOUNT)).form)
    assert "no longer has access" in (await signed_in.get(removed.location)).text
    await plane.user("eve")
    await stranger.sign_in("eve")
    assert "no longer has access" not in (await stranger.get(removed.location)).text
    await code_for(signed_in, client)
    assert "no longer has access" not in (await signed_in.get(removed.location)).text, "it has access again"


async def test_an_account_without_applications_says_only_that(signed_in: Browser) -> None:
    page = await signed_in.get(ACCOUNT)
    assert "No applications have access to your Example account." in page.text
    assert "These applications" not in page.text


async def test_withdrawing_twice_does_no_harm(signed_in: Browser, client: Client) -> None:
    await code_for(signed_in, client)
    form = (await signed_in.get(ACCOUNT)).form
    assert (await signed_in.submit(form)).status == 303
    assert (await signed_in.submit(form)).status == 303


@pytest.mark.parametrize(
    "changes",
    [
        {"csrf_token": None},
        {"csrf_token": "x"},
        {"csrf_token": ".x"},
        {"client_id": None},
        {"client_id": "%00"},
        {"client_id": ["a", "b"]},
    ],
)
async def test_a_withdrawal_that_was_not_asked_for_is_refused(
    plane: Plane, signed_in: Browser, ada: str, client: Client, changes: dict[str, str | list[str] | None]
) -> None:
    await code_for(signed_in, client)
    form = (await signed_in.get(ACCOUNT)).form
    fields = form.filled(**changes)
    raw = "&".join(f"{name}={value}" for name, value in fields).encode()
    assert (await signed_in.send("POST", ACCOUNT, raw)).status == 403
    assert len(await plane.store.grants.of(ada)) == 1


async def test_nobody_withdraws_for_another(
    plane: Plane, signed_in: Browser, stranger: Browser, ada: str, client: Client
) -> None:
    await code_for(signed_in, client)
    form = (await signed_in.get(ACCOUNT)).form
    await plane.user("eve")
    await stranger.sign_in("eve")
    assert (await stranger.submit(form)).status == 403
    assert len(await plane.store.grants.of(ada)) == 1


async def test_without_a_session_the_account_asks_to_sign_in(browser: Browser, ada: str) -> None:
    answer = await browser.get(ACCOUNT)
    assert answer.location == f"/oauth2/login?next={ACCOUNT}"
    assert (await browser.send("POST", ACCOUNT, [("client_id", "x"), ("csrf_token", "x")])).status == 403


async def test_a_get_of_logout_signs_nobody_out(signed_in: Browser) -> None:
    page = await signed_in.get(LOGOUT)
    assert (page.status, page.form.method) == (200, "post")
    assert "Ada Lovelace" in page.text
    assert (await signed_in.get(ACCOUNT)).status == 200


async def test_signing_out_ends_the_session_here_and_on_the_server(plane: Plane, signed_in: Browser) -> None:
    old = signed_in.cookies["gateway_session"]
    answer = await signed_in.submit((await signed_in.get(LOGOUT)).form)
    assert "You’re signed out" in (await signed_in.follow(answer)).text
    assert "gateway_session" not in signed_in.cookies
    assert await plane.store.sessions.find(old) is None


@pytest.mark.parametrize("token", [None, "", "x", ".x"])
async def test_signing_out_needs_our_form(signed_in: Browser, token: str | None) -> None:
    form = (await signed_in.get(LOGOUT)).form
    assert (await signed_in.submit(form, csrf_token=token)).status == 403
    assert (await signed_in.get(ACCOUNT)).status == 200


async def test_signing_out_twice_is_no_fault(signed_in: Browser) -> None:
    form = (await signed_in.get(LOGOUT)).form
    await signed_in.submit(form)
    assert (await signed_in.submit(form)).status == 303
    assert "You’re signed out" in (await signed_in.get(LOGOUT)).text
