"""Signing in: sessions, guesses, and what strangers learn (nothing)."""

import asyncio
import html
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from gateway.crypto import Keyring, hash_password
from gateway.model import OWN_COOKIES, Client
from gateway.routing.forwarded import neighbourhood
from gateway.store import Store
from gateway.web.browser import KnownBrowser, new_session_token
from gateway.web.passwords import AT_ONCE, WAITING, Busy, PasswordChecks
from gateway.web.plane import PLANE
from tests.serving import PATIENCE, until
from tests.web.rig import PASSWORD, PASSWORD_HASH, Answer, Browser, Plane, authorize_path, serving, without_secrets

LOGIN = "/oauth2/login"


async def attempt(browser: Browser, username: str, password: str, path: str = LOGIN) -> Answer:
    return await browser.submit((await browser.get(path)).form, username=username, password=password)


async def test_a_login_without_a_request_leads_to_the_account(browser: Browser, ada: str) -> None:
    answer = await browser.sign_in()
    assert (answer.status, answer.location) == (303, "/oauth2/account")
    assert "Ada Lovelace" in (await browser.follow(answer)).text


@pytest.mark.parametrize("login", ["ada", "ADA", "ada@example.org", "Ada@Example.ORG", " ada "])
async def test_a_user_name_or_an_email_address_signs_in(browser: Browser, ada: str, login: str) -> None:
    assert (await browser.sign_in(login)).status == 303


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("ada", "wrong"),
        ("nobody", PASSWORD),
        ("nobody", "wrong"),
        ("ada\0", PASSWORD),
        ("\ufffd", PASSWORD),
        ("a" * 5000, PASSWORD),
        ("ada", PASSWORD + "\0"),
        ("ada", PASSWORD.upper()),
        ("ada", " " + PASSWORD),
    ],
)
async def test_a_wrong_half_signs_nobody_in_and_says_not_which(
    browser: Browser, ada: str, username: str, password: str
) -> None:
    answer = await attempt(browser, username, password)
    assert answer.status == 400
    assert "gateway_session" not in browser.cookies
    assert "Incorrect username or password." in answer.text
    assert "<title>Error: Sign in" in answer.text


@pytest.mark.parametrize("page", ["login", "authorize"])
async def test_a_form_sent_from_another_site_signs_nobody_in(
    plane: Plane, browser: Browser, ada: str, client: Client, page: str
) -> None:
    form = (await browser.get(LOGIN if page == "login" else authorize_path(client))).form
    fields = form.filled(username="ada", password=PASSWORD)
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": f"{plane.url}.evil.example"},
        {"Origin": plane.url, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        assert (await browser.send("POST", form.action, fields, headers)).status == 403
        assert "gateway_session" not in browser.cookies
    assert (await browser.send("POST", form.action, fields, {"Origin": plane.url})).status == 303
    assert "gateway_session" in browser.cookies


@pytest.mark.parametrize("page", ["login", "authorize"])
async def test_a_refused_form_keeps_the_user_name_and_not_the_password(
    browser: Browser, ada: str, client: Client, page: str
) -> None:
    answer = await attempt(browser, 'a"<b>da', "fake wrong", LOGIN if page == "login" else authorize_path(client))
    assert answer.status == 400
    assert 'value="a&#34;&lt;b&gt;da"' in answer.text
    assert "fake wrong" not in answer.text


@pytest.mark.parametrize("absent", ["username", "password"])
async def test_a_form_without_one_of_its_fields_signs_nobody_in(browser: Browser, ada: str, absent: str) -> None:
    form = (await browser.get(LOGIN)).form
    fields = [field for field in form.filled(username="ada", password=PASSWORD) if field[0] != absent]
    answer = await browser.send("POST", LOGIN, fields)
    assert answer.status == 400
    assert "Enter your username and password." in answer.text
    assert "gateway_session" not in browser.cookies


async def test_raw_bytes_sign_nobody_in(browser: Browser, ada: str) -> None:
    form = (await browser.get(LOGIN)).form
    raw = f"csrf_token={form.value('csrf_token')}&username=%ff%00%fe&password=%ff".encode()
    assert (await browser.send("POST", LOGIN, raw)).status == 400


async def test_an_unknown_user_and_a_wrong_password_get_the_same_answer(browser: Browser, ada: str) -> None:
    known, unknown = await attempt(browser, "ada", "wrong"), await attempt(browser, "eve", "wrong")
    assert known.status == unknown.status
    assert without_secrets(known.text) == without_secrets(unknown.text).replace('value="eve"', 'value="ada"')
    names = [{name for name in answer.headers if name != "Date"} for answer in (known, unknown)]
    assert names[0] == names[1]


async def test_an_unknown_user_takes_the_time_of_a_known_one(plane: Plane, browser: Browser, ada: str) -> None:
    await plane.store.users.set_password("ada", hash_password(PASSWORD))
    form, best = (await browser.get(LOGIN)).form, {"ada": float("inf"), "nobody": float("inf"), "": float("inf")}
    for _ in range(8):
        for username, fastest in list(best.items()):
            started = time.process_time()  # of this process, where all but the database is: what others do costs none
            if username:
                assert (await browser.submit(form, username=username, password="wrong")).status == 400
            else:
                hash_password("x")
            best[username] = min(fastest, time.process_time() - started)
    # Without a hash for an unknown user the difference would be that of a whole one.
    assert abs(best["ada"] - best["nobody"]) < 0.7 * best[""]


@pytest.mark.parametrize("username", ["ada", "nobody"])
async def test_ten_wrong_passwords_stop_even_the_right_one(browser: Browser, ada: str, username: str) -> None:
    for _ in range(10):
        assert (await attempt(browser, username, "wrong")).status == 400
    answer = await attempt(browser, username, PASSWORD)
    assert answer.status == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 900
    assert "gateway_session" not in browser.cookies


@pytest.mark.parametrize(("first", "second"), [("ada", "ada@example.org"), ("ADA@example.org", "Ada")])
async def test_guesses_at_one_name_bar_the_other_and_tell_nobody(
    browser: Browser, ada: str, first: str, second: str
) -> None:
    unknown, others = "nobody", "nobody@example.org"
    for _ in range(10):
        for login in (first, unknown):
            assert (await attempt(browser, login, "wrong")).status == 400
    for login in (first, unknown):
        assert (await attempt(browser, login, PASSWORD)).status == 429
    for number in range(10):  # the right password now and then
        by_other = await attempt(browser, second, PASSWORD if number % 2 else "wrong")
        by_nobody = await attempt(browser, others, PASSWORD)
        assert (by_other.status, by_nobody.status) == (400, 400)
        assert without_secrets(by_other.text).replace(second, "") == without_secrets(by_nobody.text).replace(others, "")
    for login in (second, others):
        assert (await attempt(browser, login, PASSWORD)).status == 429
    assert "gateway_session" not in browser.cookies


async def test_guesses_by_a_name_that_only_looks_alike_are_not_the_accounts(plane: Plane, browser: Browser) -> None:
    await plane.user("ida")
    for _ in range(10):
        assert (await attempt(browser, "İda", "wrong")).status == 400
    assert (await attempt(browser, "İda", PASSWORD)).status == 429
    assert (await attempt(browser, "ida", PASSWORD)).status == 303


async def test_a_barred_account_takes_the_time_of_any_other(plane: Plane, browser: Browser, ada: str) -> None:
    await plane.store.users.set_password("ada", hash_password(PASSWORD))
    for _ in range(10):
        await attempt(browser, "ada", "wrong")
    checks = {name: float("inf") for name in ("ada@example.org", "eve@example.org")}
    form = (await browser.get(LOGIN)).form
    for _ in range(8):
        for username, fastest in list(checks.items()):
            started = time.process_time()
            assert (await browser.submit(form, username=username, password=PASSWORD)).status == 400
            checks[username] = min(fastest, time.process_time() - started)
    started = time.process_time()
    hash_password("x")
    assert abs(checks["ada@example.org"] - checks["eve@example.org"]) < 0.7 * (time.process_time() - started)


async def test_success_clears_the_count(browser: Browser, ada: str) -> None:
    for _ in range(2):
        for _ in range(9):
            assert (await attempt(browser, "ada", "wrong")).status == 400
        assert (await browser.sign_in()).status == 303
        browser.forget("gateway_known_browser")


@contextmanager
def held(checks: PasswordChecks) -> Iterator[None]:
    """No password is checked meanwhile; those that come wait."""
    release = threading.Event()
    for _ in range(AT_ONCE):
        checks._threads.submit(release.wait)
    try:
        yield
    finally:
        release.set()


async def test_guesses_side_by_side_learn_no_more_than_in_a_row(plane: Plane, browser: Browser, ada: str) -> None:
    form, checks = (await browser.get(LOGIN)).form, plane.app[PLANE].passwords
    wrong = AT_ONCE + WAITING - 1
    passwords = [*(f"wrong{number}" for number in range(wrong)), PASSWORD]
    guesses = list[asyncio.Task[Answer]]()
    with held(checks):  # so that each is let in before any of the others has been counted, and the right one last
        for number, password in enumerate(passwords, 1):
            guesses.append(asyncio.create_task(browser.submit(form, username="ada", password=password)))
            await until(lambda number=number: checks._pending == number)  # type: ignore[misc]
    *others, right = await asyncio.gather(*guesses)
    assert [answer.status for answer in others].count(400) <= 10
    assert {answer.status for answer in others} == {400, 429}, "a wrong one tells as little as the right one"
    assert right.status == 429
    assert "gateway_session" not in browser.cookies


async def test_a_strangers_guesses_lock_nobody_out_of_the_browser_they_use(
    browser: Browser, stranger: Browser, ada: str
) -> None:
    await browser.sign_in()
    for _ in range(11):
        await attempt(stranger, "ada", "wrong")
    assert (await attempt(stranger, "ada", PASSWORD)).status == 429
    browser.forget("gateway_session")
    assert (await browser.sign_in()).status == 303


async def test_a_known_browser_has_one_allowance_and_no_more(browser: Browser, ada: str) -> None:
    await browser.sign_in()
    browser.forget("gateway_session")
    for _ in range(10):
        assert (await attempt(browser, "ada", "wrong")).status == 400
    assert (await attempt(browser, "ada", PASSWORD)).status == 429


@pytest.mark.parametrize("forged", ["x", "id~SUBJECT", "id~SUBJECT.x", "", "."])
async def test_a_forged_browser_has_no_allowance(plane: Plane, browser: Browser, ada: str, forged: str) -> None:
    for _ in range(10):
        await attempt(browser, "ada", "wrong")
    browser.set_cookie("gateway_known_browser", forged.replace("SUBJECT", ada))
    assert (await attempt(browser, "ada", PASSWORD)).status == 429


async def test_a_browser_known_to_one_account_is_a_stranger_to_another(
    plane: Plane, browser: Browser, ada: str
) -> None:
    await plane.user("eve")
    await browser.sign_in("eve")
    for _ in range(10):
        await attempt(browser, "ada", "wrong")
    browser.forget("gateway_known_browser")
    assert (await attempt(browser, "ada", PASSWORD)).status == 429


async def test_the_session_identifier_changes_at_sign_in(
    plane: Plane, browser: Browser, ada: str, keyring: Keyring
) -> None:
    planted = new_session_token(keyring)
    browser.set_cookie("gateway_session", planted)
    await browser.sign_in()
    first = browser.cookies["gateway_session"]
    assert first != planted
    assert await plane.store.sessions.find(planted) is None
    await browser.sign_in()
    assert browser.cookies["gateway_session"] != first
    assert await plane.store.sessions.find(first) is None


@pytest.mark.parametrize("end", ["logout", "password", "disable", "delete"])
async def test_an_old_cookie_is_dead_on_the_server(plane: Plane, signed_in: Browser, end: str) -> None:
    old = signed_in.cookies["gateway_session"]
    assert (await signed_in.get("/oauth2/account")).status == 200
    if end == "logout":
        await signed_in.submit((await signed_in.get("/oauth2/logout")).form)
    elif end == "password":
        await plane.store.users.set_password("ada", PASSWORD_HASH)
    elif end == "disable":
        await plane.store.users.disable("ada")
    else:
        await plane.store.users.delete("ada")
    signed_in.set_cookie("gateway_session", old)
    answer = await signed_in.get("/oauth2/account")
    assert (answer.status, answer.location) == (303, "/oauth2/login?next=/oauth2/account")


@pytest.mark.parametrize("value", ["", "x", "%00" * 43, "A" * 43, "A" * 5000, "ä" * 43])
async def test_a_cookie_that_is_none_of_ours_signs_nobody_in(browser: Browser, value: str) -> None:
    answer = await browser.get("/oauth2/account", {"Cookie": f"gateway_session={value}"})
    assert answer.status == 303


async def test_a_disabled_user_is_like_an_unknown_one(plane: Plane, browser: Browser, ada: str) -> None:
    await plane.store.users.disable("ada")
    answer = await attempt(browser, "ada", PASSWORD)
    assert answer.status == 400
    assert without_secrets(answer.text) == without_secrets((await attempt(browser, "eve", "x")).text).replace(
        'value="eve"', 'value="ada"'
    )


@pytest.mark.parametrize("path", ["login", "authorize"])
@pytest.mark.parametrize(
    "changes",
    [
        {"csrf_token": None},
        {"csrf_token": ""},
        {"csrf_token": "x"},
        {"csrf_token": "ä"},
        {"next": "/x"},
        {"client_id": "x"},
    ],
)
async def test_a_form_without_our_token_or_with_other_fields_is_refused(
    browser: Browser, ada: str, client: Client, path: str, changes: dict[str, str | None]
) -> None:
    page = await browser.get(LOGIN if path == "login" else authorize_path(client))
    fields: dict[str, str | None] = {"username": "ada", "password": PASSWORD, **changes}
    assert (await browser.submit(page.form, **fields)).status == 403
    assert "gateway_session" not in browser.cookies


async def test_a_form_of_another_browser_is_refused(browser: Browser, stranger: Browser, ada: str) -> None:
    form = (await browser.get(LOGIN)).form
    await stranger.get(LOGIN)
    assert (await stranger.submit(form, username="ada", password=PASSWORD)).status == 403
    stranger.forget("gateway_form")
    assert (await stranger.submit(form, username="ada", password=PASSWORD)).status == 403


async def test_a_form_of_one_page_is_refused_by_the_other(browser: Browser, ada: str, client: Client) -> None:
    login, flow = (await browser.get(LOGIN)).form, (await browser.get(authorize_path(client))).form
    for form, other in ((login, flow), (flow, login)):
        answer = await browser.submit(other, csrf_token=form.value("csrf_token"), username="ada", password=PASSWORD)
        assert answer.status == 403


async def test_an_altered_request_is_refused(browser: Browser, ada: str, client: Client) -> None:
    form = (await browser.get(authorize_path(client))).form
    token = form.value("csrf_token")
    for place in (0, 10, 30, len(token) // 2, len(token) - 6):
        altered = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
        assert (await browser.submit(form, csrf_token=altered, username="ada", password=PASSWORD)).status == 403


async def test_two_tabs_can_both_sign_in(browser: Browser, ada: str, client: Client) -> None:
    one, two = await browser.get(authorize_path(client)), await browser.get(LOGIN)
    assert (await browser.submit(two.form, username="ada", password=PASSWORD)).status == 303
    assert (await browser.submit(one.form, username="ada", password=PASSWORD)).status == 303


@pytest.mark.parametrize(
    ("given", "leads"),
    [
        ("/oauth2/account", "/oauth2/account"),
        ("/oauth2/logout", "/oauth2/logout"),
        ("/some/page?x=1%26y", "/some/page?x=1%26y"),
        ("/", "/"),
        ("https://evil.example/", None),
        ("//evil.example/", None),
        ("/\\evil.example/", None),
        ("/%5Cevil.example", "/%5Cevil.example"),
        ("\\\\evil.example", None),
        ("/\t/evil.example", None),
        ("/\n/evil.example", None),
        (" //evil.example", None),
        ("/ /evil.example", None),
        ("javascript:alert(1)", None),
        ("evil.example", None),
        ("@evil.example", None),
        ("/é", None),
        ("/x\r\nSet-Cookie: a=b", None),
        ("/" + "a" * 5000, None),
        ("", None),
    ],
)
async def test_next_never_leaves_the_site(browser: Browser, ada: str, given: str, leads: str | None) -> None:
    page = await browser.get(f"{LOGIN}?next={quote(given, safe='')}")
    answer = await browser.submit(page.form, username="ada", password=PASSWORD)
    assert answer.location == (leads or "/oauth2/account")


async def test_who_has_to_sign_in_once_more_is_not_offered_to_go_on_as_they_are(signed_in: Browser) -> None:
    """A route's max_age (RFC 9470): going on without a password would lead here again, time after time."""
    usual = await signed_in.get(f"{LOGIN}?next=/wiki")
    assert "Continue as" in usual.text
    again = await signed_in.get(f"{LOGIN}?prompt=login&next=/wiki")
    assert "Continue as" not in again.text
    assert again.form.value("username") == "ada"
    assert "<h1>Confirm it’s you</h1>" in again.text
    assert again.ways["Use another account"] == ["/oauth2/login?next=%2Fwiki"]
    before = signed_in.cookies
    answer = await signed_in.submit(again.form, username="ada", password=PASSWORD)
    assert (answer.status, answer.location) == (303, "/wiki")
    assert signed_in.cookies != before


async def test_the_login_page_says_to_which_route_it_leads_and_repeats_nothing_of_a_link(
    store: Store, keyring: Keyring, tmp_path: Path
) -> None:
    wiki = {"name": "wiki", "path": "/wiki", "upstreams": ["http://127.0.0.1:1"], "auth": ["session"]}
    async with serving(store, keyring, tmp_path, routes=[wiki]) as plane:
        stranger = Browser(plane.url)
        for path, purpose in (
            ("/wiki/your-account-is-locked?call=1", f"to continue to {urlsplit(plane.url).netloc}/wiki</p>"),
            ("/elsewhere", "to continue</p>"),
            ("/wiki%2fx", "to continue</p>"),
        ):
            page = await stranger.get(f"{LOGIN}?{urlencode({'next': path})}")
            assert purpose in page.text
            assert "locked" not in page.text.replace(page.form.action, "").replace(html.escape(page.form.action), "")
        await stranger.close()


async def test_our_cookies_are_named_where_the_proxy_looks(signed_in: Browser) -> None:
    assert set(signed_in.cookies) <= OWN_COOKIES
    assert len(signed_in.cookies) == 3


async def test_cookies_are_kept_from_scripts_and_other_sites(browser: Browser, ada: str) -> None:
    page = await browser.get(LOGIN)
    answer = await browser.submit(page.form, username="ada", password=PASSWORD)
    assert len(page.set_cookies + answer.set_cookies) == 3
    for cookie in page.set_cookies + answer.set_cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie


async def test_busy_checks_are_told_so_and_nobody_is_counted(plane: Plane, browser: Browser, ada: str) -> None:
    form, room = (await browser.get(LOGIN)).form, AT_ONCE + WAITING
    many = [asyncio.create_task(browser.submit(form, username=f"user{n}", password="wrong")) for n in range(3 * room)]
    with held(plane.app[PLANE].passwords):
        await until(lambda: sum(task.done() for task in many) == 2 * room)
    answers = await asyncio.gather(*many)
    busy = [answer for answer in answers if answer.status == 503]
    assert Counter(answer.status for answer in answers) == {400: room, 503: 2 * room}
    assert all(answer.headers["Retry-After"] == "2" for answer in busy)
    assert (await browser.sign_in()).status == 303


async def test_no_more_than_two_run_and_sixteen_wait() -> None:
    checks = PasswordChecks()
    try:
        running = [asyncio.create_task(checks.matches(None, "x", "192.0.2.1")) for _ in range(AT_ONCE + WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await checks.matches(PASSWORD_HASH, PASSWORD, "192.0.2.1")
        assert await asyncio.gather(*running) == [False] * (AT_ONCE + WAITING)
        assert await checks.matches(PASSWORD_HASH, PASSWORD, "192.0.2.1")
    finally:
        checks.close()


async def test_a_check_whose_caller_went_away_frees_its_place() -> None:
    checks = PasswordChecks()
    try:
        for _ in range(3):
            tasks = [asyncio.create_task(checks.matches(None, "x", "192.0.2.1")) for _ in range(AT_ONCE + WAITING)]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            async with asyncio.timeout(PATIENCE):
                while True:
                    try:
                        assert await checks.matches(PASSWORD_HASH, PASSWORD, "192.0.2.1")
                        break
                    except Busy:
                        await asyncio.sleep(0.01)
    finally:
        checks.close()


async def test_an_address_that_floods_gives_way_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    checks, done, begun = PasswordChecks(), list[str](), list[str]()
    run = checks._run

    def noted(check: Any) -> None:
        begun.append(check.work.args[1])
        run(check)

    monkeypatch.setattr(checks, "_run", noted)

    async def check(address: str) -> None:
        try:
            await checks.matches(None, address, address)
            done.append(address)
        except Busy:
            done.append("busy")

    flood, others = "192.0.2.1", [f"198.51.100.{number}" for number in range(8)]
    try:
        with held(checks):
            tasks = [asyncio.create_task(check(flood)) for _ in range(24)]
            await until(lambda: done == ["busy"] * 6)
            tasks += [asyncio.create_task(check(other)) for other in others]
            await until(lambda: done == ["busy"] * 14)  # of the flood: each of the others has a place
            assert checks._pending == AT_ONCE + WAITING
        await asyncio.gather(*tasks)
    finally:
        checks.close()
    assert Counter(done) == Counter({"busy": 14, flood: 10, **dict.fromkeys(others, 1)})
    assert begun == [*[flood] * (AT_ONCE + 1), *others, *[flood] * 7], "they take turns with the flood"


async def test_a_flood_from_everywhere_is_told_that_it_is_busy() -> None:
    checks = PasswordChecks()
    try:
        with held(checks):
            room = [asyncio.create_task(checks.matches(None, "x", f"192.0.2.{n}")) for n in range(AT_ONCE + WAITING)]
            await until(lambda: checks._pending == AT_ONCE + WAITING)
            with pytest.raises(Busy):
                await checks.matches(None, "x", "198.51.100.1")
        await asyncio.gather(*room)
    finally:
        checks.close()


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:DB8:0:0:1::1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("unknown", "unknown", True),
        ("", "\0", False),
    ],
)
def test_who_shares_places(one: str, other: str, shared: bool) -> None:
    assert (neighbourhood(one) == neighbourhood(other)) is shared


async def test_a_flood_of_sign_ins_shuts_nobody_else_out(plane: Plane, browser: Browser, ada: str) -> None:
    form, room = (await browser.get(LOGIN)).form, AT_ONCE + WAITING
    checks = plane.app[PLANE].passwords
    with held(checks):
        flood = [
            asyncio.create_task(browser.submit(form, username=f"user{number}", password="wrong"))
            for number in range(room + 6)
        ]
        await until(lambda: sum(task.done() for task in flood) == 6)
        fields = form.filled(username="ada", password=PASSWORD)
        elsewhere = [
            asyncio.create_task(browser.send("POST", LOGIN, fields, {"X-Forwarded-For": f"2001:db8:{number}::1"}))
            for number in range(5)
        ]
        await until(lambda: sum(task.done() for task in flood) == 11)
    assert [answer.status for answer in await asyncio.gather(*elsewhere)] == [303] * 5
    assert Counter(answer.status for answer in await asyncio.gather(*flood)) == {400: room - 5, 503: 11}


def test_a_known_browser_remembers_a_few_accounts() -> None:
    known = KnownBrowser("id")
    for number in range(8):
        known = known.with_account(f"u{number}")
    known = known.with_account("u5")
    assert known.subjects == ("u5", "u7", "u6", "u4", "u3")
    assert known.allowance_for("u4") == "id"
    assert known.allowance_for("u0") is None


async def test_a_form_and_a_session_outlive_a_change_of_the_master_key(
    plane: Plane, store: Store, signed_in: Browser, client: Client, tmp_path: Path
) -> None:
    sign_in, consent = (await signed_in.get(LOGIN)).form, (await signed_in.get(authorize_path(client))).form
    rotated = Keyring(b"another-fake-key-for-the-tests!!", (b"obviously-a-fake-key-for-tests!!",))
    async with serving(store, rotated, tmp_path) as other:
        answer = await signed_in.send("POST", other.url + consent.action, consent.filled(decision="deny"))
        assert answer.members["error"] == "access_denied"
        fields = sign_in.filled(username="ada", password=PASSWORD)
        assert (await signed_in.send("POST", f"{other.url}{LOGIN}", fields)).status == 303
    async with serving(store, Keyring(b"another-fake-key-for-the-tests!!"), tmp_path) as other:
        assert (await signed_in.send("POST", f"{other.url}{LOGIN}", fields)).status == 403


async def test_a_form_s_token_tells_nothing_of_the_request_nor_of_the_cookie(browser: Browser, client: Client) -> None:
    token = (await browser.get(authorize_path(client))).form.value("csrf_token")
    assert client.client_id not in token
    assert browser.cookies["gateway_form"] not in token
