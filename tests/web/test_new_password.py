"""A person's own change of password, and the address by which password managers find it."""

import asyncio
from pathlib import Path

import pytest

from gateway.crypto import Keyring
from gateway.model import Client
from gateway.store import Store
from gateway.web.plane import PLANE
from tests.web.rig import PASSWORD, Answer, Browser, Plane, basic, code_fields, code_for, row_counts, serving

PAGE = "/oauth2/account/password"
NEW = "an obviously fake new one"


async def change(browser: Browser, current: str = PASSWORD, new: str = NEW, again: str | None = None) -> Answer:
    form = (await browser.get(PAGE)).form
    return await browser.submit(
        form, current_password=current, new_password=new, repeated_password=new if again is None else again
    )


async def test_a_new_password_signs_out_every_other_browser_and_keeps_this_one(
    plane: Plane, signed_in: Browser, stranger: Browser, ada: str
) -> None:
    await stranger.sign_in()
    old = signed_in.cookies["gateway_session"]
    answer = await change(signed_in)
    page = await signed_in.follow(answer)
    assert "Your password has been changed." in page.text
    assert signed_in.cookies["gateway_session"] != old
    assert await plane.store.sessions.find(old) is None, "a copy of the cookie is dead too"
    assert (await stranger.get("/oauth2/account")).status == 303
    assert (await stranger.sign_in()).status == 400
    assert (await stranger.sign_in(password=NEW)).status == 303


async def test_connected_applications_keep_their_access(plane: Plane, signed_in: Browser) -> None:
    client, secret = await plane.client()
    code = await code_for(signed_in, client)
    credentials = basic(client.client_id, secret)
    token = (await signed_in.send("POST", "/oauth2/token", code_fields(code, client), credentials)).json["access_token"]
    assert (await change(signed_in)).status == 303
    found = await signed_in.send("POST", "/oauth2/introspect", [("token", token)], credentials)
    assert found.json["active"] is True


@pytest.mark.parametrize(
    ("current", "new", "again", "told"),
    [
        ("wrong", NEW, NEW, "That’s not your current password."),
        (PASSWORD.upper(), NEW, NEW, "That’s not your current password."),
        ("", NEW, NEW, "Enter your current password."),
        (PASSWORD, "", NEW, "Enter a new password."),
        (PASSWORD, NEW, "", "The new passwords don’t match."),
        (PASSWORD, NEW, NEW + " ", "The new passwords don’t match."),
        (PASSWORD, "2short!", "2short!", "Too short. Use at least 8 characters."),
        (PASSWORD, "x" * 1025, "x" * 1025, "Use at most 1,024 characters"),
        (PASSWORD, "with\0a nul", "with\0a nul", "all of them visible"),
        (PASSWORD, "Baseball", "Baseball", "among the most used passwords"),
        (PASSWORD, "ada@EXAMPLE.org", "ada@EXAMPLE.org", "your own name or email address"),
        (PASSWORD, PASSWORD, PASSWORD, "That’s the password you have."),
    ],
)
async def test_a_password_that_may_not_be_is_refused_and_changes_nothing(
    plane: Plane, signed_in: Browser, ada: str, current: str, new: str, again: str, told: str
) -> None:
    answer = await change(signed_in, current, new, again)
    assert answer.status == 400
    assert told in answer.text
    assert "<title>Error: Change your password" in answer.text
    assert 'aria-invalid="true" aria-describedby="refused' in answer.text
    for secret in filter(None, (current, new)):
        assert f'value="{secret}' not in answer.text
    candidate = await plane.store.users.sign_in_candidate("ada")
    assert candidate is not None
    assert await plane.app[PLANE].passwords.matches(candidate.password_hash, PASSWORD, "test")
    assert (await signed_in.get("/oauth2/account")).status == 200


@pytest.mark.parametrize("changes", [{"csrf_token": None}, {"csrf_token": ".x"}, {"client_id": "c"}])
async def test_a_form_that_is_not_ours_changes_no_password(
    signed_in: Browser, stranger: Browser, changes: dict[str, str | None]
) -> None:
    form = (await signed_in.get(PAGE)).form
    fields = {"current_password": PASSWORD, "new_password": NEW, "repeated_password": NEW}
    assert (await signed_in.submit(form, **fields, **changes)).status == 403
    assert (await stranger.submit(form, **fields)).status == 403
    assert (await stranger.sign_in()).status == 303


async def test_guesses_at_the_old_password_count_with_those_at_sign_in(signed_in: Browser, stranger: Browser) -> None:
    for _ in range(10):
        assert (await change(signed_in, "wrong")).status == 400
    answer = await change(signed_in)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 800
    assert "Too many attempts. Try again in 15 minutes." in answer.text
    assert (await signed_in.sign_in()).status == 429, "this browser's attempts to sign in are refused too"
    assert (await stranger.sign_in()).status == 303, "others' are not: it signed in before, and has its own allowance"


async def test_weak_passwords_and_mistakes_in_the_form_are_no_guesses(signed_in: Browser) -> None:
    for _ in range(12):
        assert (await change(signed_in, "wrong", "short")).status == 400
    assert (await change(signed_in)).status == 303


async def test_many_at_once_change_it_once(plane: Plane, signed_in: Browser, ada: str) -> None:
    form = (await signed_in.get(PAGE)).form

    async def one(number: int) -> int:
        new = f"{NEW} {number}"
        fields = {"current_password": PASSWORD, "new_password": new, "repeated_password": new}
        return (await signed_in.submit(form, **fields)).status

    statuses = await asyncio.gather(*map(one, range(8)))
    assert statuses.count(303) == 1
    assert len(await plane.store.sessions.of(ada, 10)) == 1


async def test_the_form_is_worth_nothing_a_second_time(signed_in: Browser) -> None:
    form = (await signed_in.get(PAGE)).form
    fields = {"current_password": PASSWORD, "new_password": NEW, "repeated_password": NEW}
    assert (await signed_in.submit(form, **fields)).status == 303
    assert (await signed_in.submit(form, **(fields | {"current_password": NEW}))).status == 403


async def test_a_person_who_was_renamed_or_disabled_meanwhile_changes_nobody_s_password(
    plane: Plane, signed_in: Browser, ada: str
) -> None:
    form = (await signed_in.get(PAGE)).form
    fields = {"current_password": PASSWORD, "new_password": NEW, "repeated_password": NEW}
    await plane.store.users.disable("ada")
    assert (await signed_in.submit(form, **fields)).status == 403
    await plane.store.users.enable("ada")
    assert (await signed_in.sign_in()).status == 303


async def test_the_least_length_is_that_of_the_configuration(store: Store, keyring: Keyring, tmp_path: Path) -> None:
    async with serving(store, keyring, tmp_path, passwords={"min_length": 15}) as plane:
        await plane.user()
        browser = Browser(plane.url)
        await browser.sign_in()
        assert "At least 15 characters." in (await browser.get(PAGE)).text
        assert "Use at least 15 characters." in (await change(browser, new="x" * 14)).text
        assert (await change(browser, new="x" * 15)).status == 303
        await browser.close()


async def test_without_a_session_the_page_asks_to_sign_in_and_comes_back(browser: Browser, ada: str) -> None:
    answer = await browser.get(PAGE)
    assert answer.location == f"/oauth2/login?next={PAGE}"
    form = (await browser.follow(answer)).form
    assert (await browser.submit(form, username="ada", password=PASSWORD)).location == PAGE
    assert (await browser.send("POST", PAGE, [("current_password", PASSWORD)])).status == 403


async def test_password_managers_are_told_which_field_is_which(signed_in: Browser) -> None:
    text = (await signed_in.get(PAGE)).text
    for autocomplete in ("username", "current-password", "new-password"):
        assert f'autocomplete="{autocomplete}"' in text
    assert '<input name="username" value="ada"' in text


async def test_the_well_known_address_leads_to_the_page(plane: Plane, browser: Browser, ada: str) -> None:
    """A Well-Known URL for Changing Passwords, section 2.1: a redirect to where a password is changed."""
    before = await row_counts(plane.store._server.dsn)  # the database of the test
    answer = await browser.get("/.well-known/change-password")
    assert (answer.status, answer.location) == (303, PAGE)
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert await row_counts(plane.store._server.dsn) == before


async def test_what_should_not_exist_does_not(browser: Browser, client: Client) -> None:
    """Detecting the reliability of HTTP status codes, section 2: else no password manager believes the address."""
    answer = await browser.get("/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200")
    assert answer.status == 404
