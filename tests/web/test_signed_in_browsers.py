"""The list of the browsers that a person is signed in with, and signing them out."""

from datetime import timedelta

import asyncpg
import pytest

from gateway.web import user_agent as agents
from gateway.web import words
from tests.store.rig import fetch
from tests.web.rig import Browser, Form, Plane

SESSIONS, ACCOUNT = "/oauth2/account/sessions", "/oauth2/account"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:130.0) Gecko/20100101 Firefox/130.0"


async def elsewhere(plane: Plane, subject: str, user_agent: str = FIREFOX, token: str = "T" * 43) -> str:
    """Another browser that is signed in: its session's identifier."""
    session = await plane.store.sessions.start(subject, token, 3600, user_agent=user_agent)
    assert session is not None
    return session.session_id


def form_of(forms: list[Form], session_id: str) -> Form:
    """The form that signs one browser out."""
    (found,) = [form for form in forms if ("session_id", session_id) in form.fields]
    return found


def everywhere(forms: list[Form]) -> Form:
    """The form that signs out every browser."""
    (found,) = [form for form in forms if ("everywhere", "yes") in form.buttons]
    return found


async def test_each_browser_is_listed_with_its_times_and_a_form_and_this_one_is_marked(
    plane: Plane, signed_in: Browser, ada: str, database: str
) -> None:
    other = await elsewhere(plane, ada)
    since = "signed_in_at = now() - interval '73 hours', last_used_at = now() - interval '125 minutes'"
    await fetch(database, f"update sessions set {since} where session_id = $1", other)
    page = await signed_in.get(SESSIONS)
    assert page.headers["Cache-Control"] == "no-store"
    for words_of_it in ("Signed in a moment ago", "Signed in 3 days ago", "Last seen 2 hours ago"):
        assert page.text.count(words_of_it) == 1
    assert "Firefox on Windows" in page.text
    assert page.text.count("This browser") == 1
    assert page.text.index("This browser") < page.text.index("Firefox on Windows"), "this one comes first"
    assert form_of(page.forms, other).action == SESSIONS
    assert len(page.forms) == 3


async def test_signing_out_one_browser_leaves_the_others(plane: Plane, signed_in: Browser, ada: str) -> None:
    other = await elsewhere(plane, ada)
    third = await elsewhere(plane, ada, "curl/8", "U" * 43)
    answer = await signed_in.submit(form_of((await signed_in.get(SESSIONS)).forms, other))
    page = await signed_in.follow(answer)
    assert "Signed out: Firefox on Windows." in page.text
    assert await plane.store.sessions.find("T" * 43) is None
    assert {dict(form.fields).get("session_id") for form in page.forms} >= {third}
    assert (await signed_in.submit(form_of((await signed_in.get(SESSIONS)).forms, third))).status == 303


async def test_signing_out_this_browser_ends_its_session_and_its_cookie(plane: Plane, signed_in: Browser) -> None:
    old = signed_in.cookies["gateway_session"]
    forms = (await signed_in.get(SESSIONS)).forms
    (own,) = [form for form in forms if any(name == "session_id" for name, _ in form.fields)]
    page = await signed_in.follow(await signed_in.submit(own))
    assert "You’re signed out" in page.text
    assert "gateway_session" not in signed_in.cookies
    assert await plane.store.sessions.find(old) is None


async def test_signing_out_everywhere_leaves_no_session_of_the_person_and_all_of_others(
    plane: Plane, signed_in: Browser, ada: str
) -> None:
    old = signed_in.cookies["gateway_session"]
    await elsewhere(plane, ada)
    await elsewhere(plane, await plane.user("eve"), token="E" * 43)
    form = everywhere((await signed_in.get(SESSIONS)).forms)
    answer = await signed_in.submit(form, everywhere="yes")
    assert answer.location == "/oauth2/logout"
    assert [await plane.store.sessions.find(token) for token in (old, "T" * 43)] == [None, None]
    assert await plane.store.sessions.find("E" * 43) is not None
    assert (await signed_in.get(SESSIONS)).location == f"/oauth2/login?next={SESSIONS}"


async def test_nobody_signs_out_another_person(plane: Plane, signed_in: Browser, stranger: Browser, ada: str) -> None:
    ours = (await signed_in.get(SESSIONS)).forms
    theirs = await elsewhere(plane, await plane.user("eve"), token="E" * 43)
    forms = (await signed_in.get(SESSIONS)).forms
    assert (await signed_in.submit(everywhere(forms), session_id=theirs)).location == SESSIONS, "no such browser"
    assert await plane.store.sessions.find("E" * 43) is not None
    await stranger.sign_in("eve")
    for form in ours:
        assert (await stranger.submit(form, everywhere="yes", session_id=None)).status == 403
    assert (await signed_in.get(ACCOUNT)).status == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"csrf_token": None},
        {"csrf_token": "x"},
        {"csrf_token": ".x"},
        {"everywhere": ["yes", "yes"]},
        {"everywhere": "yes", "session_id": "s"},
        {"everywhere": None},
        {"everywhere": "yes", "client_id": "c"},
    ],
)
async def test_a_form_that_is_not_ours_signs_nobody_out(
    plane: Plane, signed_in: Browser, ada: str, changes: dict[str, str | list[str] | None]
) -> None:
    await elsewhere(plane, ada)
    form = everywhere((await signed_in.get(SESSIONS)).forms)
    assert (await signed_in.submit(form, **{"everywhere": "yes", **changes})).status == 403
    assert len(await plane.store.sessions.of(ada, 10)) == 2


@pytest.mark.parametrize("session_id", ["nobody", "\0", "\udcff", "s" * 5000])
async def test_a_browser_that_is_not_there_is_no_fault(plane: Plane, signed_in: Browser, session_id: str) -> None:
    form = everywhere((await signed_in.get(SESSIONS)).forms)
    raw = f"csrf_token={form.value('csrf_token')}&session_id=".encode() + session_id.encode("utf-8", "surrogateescape")
    answer = await signed_in.send("POST", SESSIONS, raw.replace(b"\0", b"%00"))
    assert answer.location == SESSIONS
    assert "Signed out" not in (await signed_in.follow(answer)).text


async def test_an_address_claims_nothing_that_was_not(plane: Plane, signed_in: Browser, ada: str) -> None:
    for claimed in ("Firefox", "Firefox.x", "", "%00", "%ff", ".", "x" * 3000):
        for page in (f"{SESSIONS}?signed_out={claimed}", f"{ACCOUNT}/password?changed={claimed}"):
            answer = await signed_in.get(page)
            assert answer.status == 200
            assert 'role="status"' not in answer.text


async def test_a_browser_s_name_for_itself_is_never_markup(plane: Plane, signed_in: Browser, ada: str) -> None:
    await elsewhere(plane, ada, "<script>alert(1)</script> Windows")
    text = (await signed_in.get(SESSIONS)).text
    assert "<script" not in text
    assert "Unknown browser on Windows" in text


async def test_no_more_browsers_are_listed_than_a_page_can_hold(
    plane: Plane, signed_in: Browser, ada: str, database: str
) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(
        "insert into sessions (session_id, token_digest, subject, generation, signed_in_at, expires_at) "
        "select 's' || n, int8send(n), $1, 0, now(), now() + interval '1 hour' from generate_series(1, 60) n",
        ada,
    )
    await connection.close()
    page = await signed_in.get(SESSIONS)
    assert "Only the 50 that were seen last are listed." in page.text
    assert len(page.forms) == 51
    assert (await signed_in.submit(everywhere(page.forms), everywhere="yes")).status == 303
    assert await plane.store.sessions.of(ada, 100) == []


async def test_without_a_session_nothing_is_listed_or_ended(browser: Browser, ada: str) -> None:
    assert (await browser.get(SESSIONS)).location == f"/oauth2/login?next={SESSIONS}"
    assert (await browser.send("POST", SESSIONS, [("everywhere", "yes"), ("csrf_token", "x")])).status == 403


CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 {}Safari/537.36{}"
NAMES = [
    (FIREFOX, "Firefox on Windows", False),
    (CHROME.format("X11; Linux x86_64", "", ""), "Chrome on Linux", False),
    (CHROME.format("X11; CrOS x86_64 14541.0.0", "", ""), "Chrome on ChromeOS", False),
    (CHROME.format("Windows NT 10.0; Win64; x64", "", " Edg/128.0.0.0"), "Edge on Windows", False),
    (CHROME.format("Windows NT 10.0", "", " OPR/114.0.0.0"), "Opera on Windows", False),
    (CHROME.format("Linux; Android 10; K", "Mobile ", ""), "Chrome on Android", True),
    (
        CHROME.format("Linux; Android 14", "SamsungBrowser/26.0 Mobile ", ""),
        "Samsung Internet on Android",
        True,
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15",
        "Safari on Mac",
        False,
    ),
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) CriOS/128.0 Mobile/15E148 Safari/604.1",
        "Chrome on iPhone",
        True,
    ),
    ("Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) FxiOS/130.0 Mobile/15E148", "Firefox on iPad", True),
    ("curl/8.5.0", "Unknown browser", False),
    ("", "Unknown browser", False),
    (None, "Unknown browser", False),
]


@pytest.mark.parametrize(("user_agent", "name", "mobile"), NAMES)
def test_a_browser_has_a_name_in_plain_words(user_agent: str | None, name: str, mobile: bool) -> None:
    assert agents.of(user_agent) == agents.Device(name, mobile)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "a moment ago"),
        (119, "a moment ago"),
        (120, "2 minutes ago"),
        (3599, "59 minutes ago"),
        (3600, "1 hour ago"),
        (11 * 3600 + 3599, "11 hours ago"),
        (86400, "1 day ago"),
        (400 * 86400, "400 days ago"),
    ],
)
def test_a_span_of_time_is_said_in_its_largest_unit(seconds: float, said: str) -> None:
    assert words.since(timedelta(seconds=seconds)) == said
