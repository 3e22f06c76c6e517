"""A request goes on, whatever happens to its tab, its session or its address; and the ways out of each page."""

import gc
import html
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto import Keyring
from gateway.model import Client
from gateway.store import Store
from gateway.store.flows import Flows
from gateway.web import consent
from gateway.web.browser import form_token
from tests.store.rig import fetch
from tests.web.conftest import Registered
from tests.web.rig import (
    PASSWORD,
    PASSWORD_HASH,
    REDIRECT,
    Browser,
    Plane,
    authorize_path,
    basic,
    code_fields,
    row_counts,
    serving,
)

JSON = {"Accept": "application/json"}


async def sign_in_elsewhere(browser: Browser, username: str = "ada") -> None:
    """In a second tab."""
    assert (await browser.sign_in(username)).status == 303


async def test_a_sign_in_in_a_second_tab_leaves_the_first_tab_s_form_good(signed_in: Browser, client: Client) -> None:
    page = await signed_in.get(authorize_path(client))
    await sign_in_elsewhere(signed_in)
    assert "code" in (await signed_in.submit(page.form, decision="allow")).members


async def test_another_person_in_a_second_tab_is_asked_and_decides_nothing_unseen(
    plane: Plane, signed_in: Browser, client: Client, database: str
) -> None:
    await plane.user("bob", "Bob")
    page = await signed_in.get(authorize_path(client))
    await signed_in.submit((await signed_in.get(authorize_path(client))).form, decision="allow")
    await sign_in_elsewhere(signed_in, "bob")
    asked = await signed_in.follow(await signed_in.submit(page.form, decision="allow"))
    assert "Bob" in asked.text
    assert "Ada" not in asked.text
    assert (await row_counts(database))["codes"] == 1  # ada's own
    assert "code" in (await signed_in.submit(asked.form, decision="allow")).members


async def test_a_lost_session_goes_on_through_sign_in_and_consent(signed_in: Browser, client: Client) -> None:
    page = await signed_in.get(authorize_path(client, state="keep me"))
    signed_in.forget("gateway_session")
    sign_in = await signed_in.follow(await signed_in.submit(page.form, decision="allow"))
    asked = await signed_in.follow(await signed_in.submit(sign_in.form, username="ada", password=PASSWORD))
    assert (await signed_in.submit(asked.form, decision="allow")).members["state"] == "keep me"


async def test_a_form_whose_time_is_up_is_asked_again(
    signed_in: Browser, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Flows, "start", partialmethod(Flows.start, lifetime=0))
        page = await signed_in.get(authorize_path(client))
    asked = await signed_in.follow(await signed_in.submit(page.form, decision="allow"))
    assert "code" in (await signed_in.submit(asked.form, decision="allow")).members


async def test_a_form_of_the_release_before_is_asked_again(
    signed_in: Browser, client: Client, keyring: Keyring
) -> None:
    """It named a row that an update of the gateway finds unanswered."""
    page = await signed_in.get(authorize_path(client))
    token = form_token(keyring, consent.FORM, signed_in.cookies["gateway_form"], "fold")
    asked = await signed_in.follow(await signed_in.submit(page.form, decision="allow", csrf_token=token))
    assert "code" in (await signed_in.submit(asked.form, decision="allow")).members


async def test_a_page_that_is_shown_writes_nothing(signed_in: Browser, client: Client, database: str) -> None:
    before = await row_counts(database)
    page = await signed_in.get(authorize_path(client))
    assert page.status == 200
    assert await row_counts(database) == before


async def test_a_code_that_expired_unused_is_asked_for_again(signed_in: Browser, client: Client, database: str) -> None:
    page = await signed_in.get(authorize_path(client))
    first = await signed_in.submit(page.form, decision="allow")
    await fetch(database, "update codes set expires_at = now()")
    asked = await signed_in.follow(await signed_in.submit(page.form, decision="allow"))
    assert (asked.status, "Nothing was shared" in asked.text) == (200, False)
    again = await signed_in.submit(asked.form, decision="allow")
    assert again.members["code"] != first.members["code"]


@pytest.mark.parametrize("page", ["sign-in refused", "nothing ticked", "all ticked", "sign-in expired"])
async def test_the_address_after_a_post_can_be_opened_and_goes_on(
    browser: Browser, ada: str, client: Client, page: str
) -> None:
    path = authorize_path(client, state="keep me")
    shown = await browser.get(path)
    if page == "sign-in refused":
        answer = await browser.submit(shown.form, username="ada", password="wrong")
    elif page == "sign-in expired":
        answer = await browser.submit(shown.form, username="ada", password=PASSWORD, csrf_token="x")
        assert (answer.status, answer.ways["Try again"]) == (403, [path])
    else:
        shown = await browser.follow(await browser.submit(shown.form, username="ada", password=PASSWORD))
        changes = {"decision": "allow", "scope": None} if page == "nothing ticked" else {"select": "all"}
        answer = await browser.submit(shown.form, **changes)
    assert "Location" not in answer.headers
    assert html.unescape(shown.form.action) == path
    opened = await browser.get(path)  # Enter in the address bar
    assert opened.status == 200
    if page.startswith("sign-in"):
        opened = await browser.follow(await browser.submit(opened.form, username="ada", password=PASSWORD))
    assert (await browser.submit(opened.form, decision="allow")).members["state"] == "keep me"


@pytest.mark.parametrize(
    "path", ["/oauth2/login?next=/somewhere", "/oauth2/login", "/oauth2/logout", "/oauth2/account"]
)
async def test_the_other_forms_post_to_the_address_that_shows_them(
    signed_in: Browser, client: Client, path: str
) -> None:
    await signed_in.submit((await signed_in.get(authorize_path(client))).form, decision="allow")
    assert (await signed_in.get(path)).form.action == path


async def test_the_login_page_leads_on_after_a_mistake(browser: Browser, ada: str) -> None:
    page = await browser.get("/oauth2/login?next=/somewhere")
    page = await browser.submit(page.form, username="ada", password="wrong")
    assert (await browser.submit(page.form, username="ada", password=PASSWORD)).location == "/somewhere"


@pytest.mark.parametrize("query", ["state=%ff%00", "state=a%20b&state%5b=1&x=\"'<>", "login_hint=a%26b"])
async def test_an_address_is_posted_back_as_it_came(signed_in: Browser, client: Client, query: str) -> None:
    path = f"{authorize_path(client, state=None)}&{query}"
    page = await signed_in.get(path)
    assert page.form.action == path
    assert (await signed_in.submit(page.form, decision="allow")).status == 303


@pytest.mark.parametrize("query", ["state=%ff%00", "state=a%20b&state%5b=1&x=\"'<>", "pr%6fmpt=select_account&&x="])
async def test_a_request_goes_on_as_it_came(signed_in: Browser, client: Client, query: str) -> None:
    path = f"{authorize_path(client, state=None)}&{query}"
    for page in (await signed_in.get(path), await signed_in.get(path.replace("?", "/consent?", 1))):
        for words, hrefs in page.ways.items():
            if words == "Use another account" or words.startswith("Continue"):
                assert [href.partition("?")[2] for href in hrefs] == [path.partition("?")[2]], words
        assert html.unescape(page.form.action).partition("?")[2] == path.partition("?")[2]


@pytest.mark.parametrize(("prompt", "at"), [("login", "/continue"), ("select_account login", "/continue"), (None, "")])
async def test_after_sign_in_the_address_says_that_it_was_done(
    browser: Browser, ada: str, client: Client, prompt: str | None, at: str
) -> None:
    path = authorize_path(client, prompt=prompt)
    answer = await browser.submit((await browser.get(path)).form, username="ada", password=PASSWORD)
    assert answer.location == path.replace("?", f"{at}?", 1)
    assert "code" in (await browser.submit((await browser.get(answer.location)).form, decision="allow")).members


async def test_a_form_of_another_request_decides_nothing(signed_in: Browser, client: Client, database: str) -> None:
    one = await signed_in.get(authorize_path(client, state="one"))
    for other in ({"state": "two"}, {"state": "one", "login_hint": "x"}, {"state": "one", "prompt": "consent"}):
        answer = await signed_in.send("POST", authorize_path(client, **other), one.form.filled(decision="allow"))
        assert answer.status == 403
    assert (await row_counts(database))["codes"] == 0


async def test_cancel_on_sign_in_tells_the_client_no(
    plane: Plane, browser: Browser, client: Client, database: str
) -> None:
    page = await browser.get(authorize_path(client))
    before = await row_counts(database)
    answer = await browser.submit(page.form, username="", password="", decision="deny")
    assert answer.location.startswith(REDIRECT)
    assert (answer.members["error"], answer.members["state"]) == ("access_denied", "xyz")
    assert answer.members["iss"] == plane.url
    assert await row_counts(database) == before


@pytest.mark.parametrize("changes", [{"csrf_token": None}, {"csrf_token": "x"}, {"decision": "allow"}])
async def test_cancel_needs_our_form(browser: Browser, client: Client, changes: dict[str, str | None]) -> None:
    page = await browser.get(authorize_path(client))
    fields: dict[str, str | None] = {"username": "", "password": "", "decision": "deny"}
    assert (await browser.submit(page.form, **(fields | changes))).status == 403


async def test_the_login_page_has_nothing_to_cancel(browser: Browser) -> None:
    assert (await browser.get("/oauth2/login")).form.buttons == []


async def test_select_account_offers_to_continue_as_who_is_signed_in(signed_in: Browser, client: Client) -> None:
    await signed_in.submit((await signed_in.get(authorize_path(client))).form, decision="allow")
    page = await signed_in.get(authorize_path(client, prompt="select_account"))
    assert page.status == 200
    assert "ada@example.org" in page.text
    (href,) = page.ways["Continue as Ada Lovelace"]
    assert "code" in (await signed_in.get(href)).members


async def test_select_account_signs_in_whom_nobody_is(browser: Browser, ada: str, client: Client) -> None:
    page = await browser.get(authorize_path(client, prompt="select_account"))
    assert not [words for words in page.ways if words.startswith("Continue")]
    asked = await browser.follow(await browser.submit(page.form, username="ada", password=PASSWORD))
    assert "code" in (await browser.submit(asked.form, decision="allow")).members


async def test_a_fresh_sign_in_cannot_be_continued_past(signed_in: Browser, client: Client) -> None:
    page = await signed_in.get(authorize_path(client, prompt="login"))
    assert not [words for words in page.ways if words.startswith("Continue")]


@pytest.mark.parametrize(
    ("hint", "heading", "username"),
    [
        (None, "Confirm it’s you", "ada"),
        ("Ada@example.org", "Confirm it’s you", "Ada@example.org"),
        ("bob", "Sign in", "bob"),
    ],
)
async def test_who_must_sign_in_once_more_confirms_it_and_loses_nothing(
    signed_in: Browser, client: Client, hint: str | None, heading: str, username: str
) -> None:
    page = await signed_in.get(authorize_path(client, prompt="login", login_hint=hint))
    for again in (page, await signed_in.submit(page.form, username=username, password="wrong")):
        assert f"<h1>{heading}</h1>" in again.text
        assert again.form.value("username") == username
        assert ("This signs" in again.text) == (heading == "Sign in")
    if heading != "Sign in":
        (elsewhere,) = page.ways["Use another account"]
        another = await signed_in.get(elsewhere)
        assert "<h1>Use another account</h1>" in another.text
        assert not [words for words in another.ways if words.startswith("Continue")], "nobody goes past prompt=login"
        assert another.form.value("username") == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "<strong><bdi>Notes Desktop</bdi></strong> at <strong>app.example</strong>"),
        (
            {"redirect_uris": ("http://127.0.0.1:9/cb",)},
            "<bdi>Notes Desktop</bdi></strong>, a program on this computer",
        ),
        ({"redirect_uris": ("com.example.app:/cb",)}, "to the app <strong><bdi>Notes Desktop</bdi></strong>"),
        ({"name": "N" * 100}, f"<bdi>{'N' * 49}…</bdi>"),
    ],
)
async def test_the_sign_in_page_says_for_whom_and_vouches_for_nobody(
    browser: Browser, register: Registered, more: dict[str, Any], said: str
) -> None:
    for verified in (True, False):
        page = await browser.get(authorize_path((await register(verified=verified, **more))[0]))
        assert said in page.text
        assert ("Not verified" in page.text) is not verified


async def test_another_account_can_be_left_again(signed_in: Browser, client: Client) -> None:
    page = await signed_in.get(authorize_path(client))
    (another,) = page.ways["Use another account"]
    (back,) = (await signed_in.get(another)).ways["Continue as Ada Lovelace"]
    assert "code" in (await signed_in.submit((await signed_in.get(back)).form, decision="allow")).members


@pytest.mark.parametrize("name", ["Ada Lovelace", None])
async def test_the_account_is_shown_by_more_than_its_name(
    plane: Plane, browser: Browser, client: Client, name: str | None
) -> None:
    await plane.user("ada", name)
    await browser.sign_in()
    for path in (authorize_path(client), "/oauth2/account", "/oauth2/logout", "/oauth2/login"):
        page = await browser.get(path)
        for words in (name or "ada", "ada@example.org"):
            assert words in page.text, path


async def test_two_of_one_name_are_told_apart_by_user_name_without_an_email(plane: Plane, browser: Browser) -> None:
    for username in ("ada1", "ada2"):
        user = await plane.store.users.create(username, None, "Ada", PASSWORD_HASH)
        assert user.username == username
    await browser.sign_in("ada2")
    page = await browser.get("/oauth2/account")
    assert "ada2" in page.text


@pytest.mark.parametrize(
    ("help_", "shown"),
    [
        ("https://help.example/sign-in", '<a href="https://help.example/sign-in">'),
        ("mailto:help@example.org", '<a href="mailto:help@example.org">'),
        ("Ask the <help> desk.", "Ask the &lt;help&gt; desk."),
        ("javascript:alert(1)", "? javascript:alert(1)</p>"),
    ],
)
async def test_an_error_page_leads_to_the_account_and_to_help(
    store: Store, keyring: Keyring, tmp_path: Path, help_: str, shown: str
) -> None:
    async with serving(store, keyring, tmp_path, branding={"name": "Example", "help": help_}) as plane:
        browser = Browser(plane.url)
        page = await browser.get("/oauth2/authorize?client_id=nobody")
        assert page.ways["Go to your account"] == ["/oauth2/account"]
        assert shown in page.text
        assert shown in (await browser.get("/oauth2/login")).text
        await browser.close()


async def test_a_form_that_is_out_of_date_leads_back_to_its_page(signed_in: Browser) -> None:
    form = (await signed_in.get("/oauth2/logout")).form
    answer = await signed_in.submit(form, csrf_token="x")
    assert answer.status == 403
    (again,) = answer.ways["Try again"]
    assert (await signed_in.submit((await signed_in.get(again)).form)).status == 303


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({}, 400, "login_required"),
        ({"client_id": "nobody"}, 400, "unauthorized_client"),
        ({"client_id": None}, 400, "invalid_request"),
        ({"redirect_uri": "https://evil.example/"}, 400, "invalid_request"),
    ],
)
async def test_a_client_that_asks_for_json_gets_json(
    browser: Browser, client: Client, changes: dict[str, str | None], status: int, error: str
) -> None:
    answer = await browser.get(authorize_path(client, **changes), JSON)
    assert (answer.status, answer.json["error"]) == (status, error)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert set(answer.json) == {"error", "error_description", "request_id"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.set_cookies == []
    assert not [name for name in answer.headers if name.startswith("Access-Control")]


# OpenID Connect Core, section 3.1.2.6
@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        (None, "consent_required"),
        ("select_account", "account_selection_required"),
        ("login", "login_required"),
    ],
)
async def test_json_says_what_a_person_would_have_to_do_and_writes_nothing(
    signed_in: Browser, client: Client, database: str, prompt: str | None, error: str
) -> None:
    before = await row_counts(database)
    answer = await signed_in.get(authorize_path(client, prompt=prompt), JSON)
    assert (answer.status, answer.json["error"]) == (400, error)
    assert await row_counts(database) == before


async def test_what_goes_to_the_client_goes_there_also_for_json(signed_in: Browser, client: Client) -> None:
    answer = await signed_in.get(authorize_path(client, response_type="token"), JSON)
    assert answer.members["error"] == "unsupported_response_type"
    await signed_in.submit((await signed_in.get(authorize_path(client))).form, decision="allow")
    assert "code" in (await signed_in.get(authorize_path(client), JSON)).members


async def test_a_form_of_a_program_is_refused_in_json(browser: Browser, ada: str, client: Client) -> None:
    form = (await browser.get(authorize_path(client))).form
    fields = form.filled(username="ada", password="wrong")
    answer = await browser.send("POST", form.action, fields, JSON)
    assert (answer.status, answer.json["error"]) == (400, "access_denied")
    answer = await browser.send("POST", form.action, form.filled(csrf_token="x"), JSON)
    assert (answer.status, answer.json["error"]) == (403, "access_denied")


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (None, True),
        ("*/*", True),
        ("text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("application/json, text/plain, */*", False),
        ("application/json;q=0.9, text/html", True),
        ("text/html;q=0.5, application/json", False),
        ("application/json;q=0", True),
        ("application/json;q=x", True),
        ("text/html, application/json", True),
    ],
)
async def test_a_page_is_for_whoever_does_not_rather_have_json(
    browser: Browser, client: Client, accept: str | None, page: bool
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    answer = await browser.get(authorize_path(client), headers)
    assert answer.status == (200 if page else 400)


@pytest.mark.parametrize("name", ["a public client", "a confidential client"])
async def test_consent_names_the_resource_and_asks_anew_for_another(
    plane: Plane, signed_in: Browser, register: Registered, name: str
) -> None:
    client, _ = await register(confidential=name == "a confidential client")
    notes, other = f"{plane.url}/api/notes", f"http://other.example:{plane.url.rpartition(':')[2]}/other"
    page = await signed_in.get(authorize_path(client, resource=notes))
    assert page.status == 200, page.text
    assert f">{notes}<" in page.text
    assert ">notes<" in page.text
    await signed_in.submit(page.form, decision="allow")
    for resource in (other, None):
        answer = await signed_in.get(authorize_path(client, resource=resource))
        assert answer.status == 200
        silent = await signed_in.get(authorize_path(client, resource=resource, prompt="none"))
        assert silent.members["error"] == "consent_required"
    if client.confidential:
        assert "code" in (await signed_in.get(authorize_path(client, resource=notes))).members
    account = await signed_in.get("/oauth2/account")
    assert notes in account.text


async def test_a_flow_leaves_nothing_for_the_collector(signed_in: Browser, register: Registered) -> None:
    """Which would hold up whoever else is being answered when it looks."""
    client, secret = await register()

    async def flow() -> None:
        page = await signed_in.get(authorize_path(client, prompt="consent"))
        code = (await signed_in.submit(page.form, decision="allow")).members["code"]
        credentials = basic(client.client_id, secret)
        assert (await signed_in.send("POST", "/oauth2/token", code_fields(code, client), credentials)).status == 200

    await flow()
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await flow()
        gc.collect()
        left = {type(one).__module__ for one in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert not {name for name in left if name.partition(".")[0] in ("gateway", "jinja2", "aiohttp", "asyncpg")}
