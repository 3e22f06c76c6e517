"""The device authorization grant (RFC 8628): what the device asks, and what the person allows elsewhere."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from gateway.model import DEVICE_CODE, Client
from gateway.routing.forwarded import neighbourhood
from gateway.store.records import NewClient
from gateway.store.users import Known
from tests.web.conftest import Registered
from tests.web.rig import PASSWORD, Answer, Browser, Plane, basic, row_counts

START = "/oauth2/device_authorization"
PAGE = "/oauth2/device"
Fields = Sequence[tuple[str, str]]
NOBODYS = "BCDF-GHJK"


async def started(browser: Browser, client: Client, **fields: str) -> dict[str, Any]:
    """What a public client's device is told at the beginning."""
    answer = await browser.send("POST", START, [("client_id", client.client_id), *fields.items()])
    assert answer.status == 200, answer.text
    return dict(answer.json)


async def asked(browser: Browser, client: Client, device_code: str, **fields: str) -> Answer:
    """What the device is told when it asks for its tokens."""
    sent = {"grant_type": DEVICE_CODE, "device_code": device_code, "client_id": client.client_id, **fields}
    return await browser.send("POST", "/oauth2/token", [*sent.items()])


async def entered(browser: Browser, user_code: str) -> Answer:
    """What somebody who is signed in is shown for a code."""
    page = await browser.get(PAGE)
    return await browser.submit(page.form, user_code=user_code)


async def consent_for(browser: Browser, user_code: str) -> Answer:
    return await browser.follow(await entered(browser, user_code))


async def allowed(browser: Browser, user_code: str, **changes: Any) -> Answer:
    page = await consent_for(browser, user_code)
    return await browser.follow(await browser.submit(page.form, decision="allow", **changes))


async def rested(database: str, seconds: float = 60) -> None:
    """As if the last question of every device lay so far back."""
    connection = await asyncpg.connect(database)
    await connection.execute("update device_codes set polled_at = polled_at - $1::interval", timedelta(seconds=seconds))
    await connection.close()


async def test_a_device_gets_tokens_when_a_person_allows_it(
    plane: Plane, browser: Browser, stranger: Browser, ada: str, public: Client, database: str
) -> None:
    """Sections 3.1 to 3.5, as a device and a person go through them."""
    device = stranger
    answer = await device.send("POST", START, [("client_id", public.client_id), ("scope", "notes:read notes:write")])
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"  # section 3.2
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    begun = answer.json
    assert begun.keys() == {
        "device_code", "user_code", "verification_uri", "verification_uri_complete", "expires_in", "interval",
    }  # fmt: skip
    assert begun["device_code"].startswith("gwd_")
    assert begun["verification_uri"] == f"{plane.url}{PAGE}"
    assert begun["verification_uri_complete"] == f"{plane.url}{PAGE}?user_code={begun['user_code']}"
    assert (begun["interval"], begun["expires_in"]) == (5, 600)
    waiting = await asked(device, public, begun["device_code"])
    assert (waiting.status, waiting.json["error"]) == (400, "authorization_pending")
    assert waiting.headers["Cache-Control"] == "no-store"

    # The person follows the link, signs in and comes back to the code, which they compare (section 3.3.1).
    sent = await browser.get(begun["verification_uri_complete"])
    page = await browser.follow(sent)
    assert "to connect a device" in page.text
    page = await browser.follow(await browser.submit(page.form, username="ada", password=PASSWORD))
    assert page.form.value("user_code") == begun["user_code"]
    assert "in front of you" in page.text
    page = await browser.follow(await browser.submit(page.form))
    assert page.status == 200
    assert page.text.count(begun["user_code"]) >= 2
    assert "in front of you" in page.text  # section 5.4
    assert [value for name, value in page.form.fields if name == "scope"] == ["notes:read", "notes:write"]
    done = await browser.follow(await browser.submit(page.form, decision="allow", scope=["notes:read"]))
    assert (done.status, "Your device is connected" in done.text) == (200, True)

    await rested(database)
    tokens = await asked(device, public, begun["device_code"])
    assert tokens.status == 200
    body = tokens.json
    assert body.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert body["scope"] == "notes:read"
    found = await plane.store.tokens.introspect(body["access_token"], None)
    assert (found["sub"], found["client_id"]) == (ada, public.client_id)
    refreshed = await device.send(
        "POST",
        "/oauth2/token",
        [("grant_type", "refresh_token"), ("refresh_token", body["refresh_token"]), ("client_id", public.client_id)],
    )
    assert refreshed.status == 200
    assert "Pocket Notes" in (await browser.get("/oauth2/account")).text


async def test_a_device_code_that_comes_again_ends_what_came_of_it(
    plane: Plane, signed_in: Browser, public: Client
) -> None:
    """As a code does (RFC 6749, section 4.1.2): whoever has it besides the device has stolen it."""
    begun = await started(signed_in, public)
    await allowed(signed_in, begun["user_code"])
    tokens = (await asked(signed_in, public, begun["device_code"])).json
    again = await asked(signed_in, public, begun["device_code"])
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert (await plane.store.tokens.introspect(tokens["access_token"], None))["active"] is False


async def test_a_no_is_told_to_the_device(signed_in: Browser, public: Client, database: str) -> None:
    begun = await started(signed_in, public)
    page = await consent_for(signed_in, begun["user_code"])
    before = await row_counts(database)
    done = await signed_in.follow(await signed_in.submit(page.form, decision="deny"))
    assert "You’ve declined" in done.text
    assert (await asked(signed_in, public, begun["device_code"])).json["error"] == "access_denied"
    after = await row_counts(database)
    assert (after["codes"], after["grants"]) == (before["codes"], before["grants"])


async def test_a_device_that_asks_too_often_slows_down(browser: Browser, public: Client, database: str) -> None:
    """Section 3.5."""
    begun = await started(browser, public)
    told = [(await asked(browser, public, begun["device_code"])).json["error"] for _ in range(3)]
    assert told == ["authorization_pending", "slow_down", "slow_down"]
    await rested(database, 12)  # by now it is 15 seconds
    assert (await asked(browser, public, begun["device_code"])).json["error"] == "slow_down"
    await rested(database, 20)
    assert (await asked(browser, public, begun["device_code"])).json["error"] == "authorization_pending"


async def test_a_code_that_is_over_is_told_to_both(signed_in: Browser, public: Client, database: str) -> None:
    """Section 3.5: expired_token."""
    begun, granted = await started(signed_in, public), await started(signed_in, public)
    page = await consent_for(signed_in, begun["user_code"])
    await allowed(signed_in, granted["user_code"])
    connection = await asyncpg.connect(database)
    await connection.execute("update device_codes set expires_at = now()")
    await connection.execute("update codes set expires_at = now()")
    await connection.close()
    late = await signed_in.submit(page.form, decision="allow")
    assert (late.status, "has expired" in late.text) == (400, True)
    for one in (begun, granted):
        answer = await asked(signed_in, public, one["device_code"])
        assert (answer.status, answer.json["error"]) == (400, "expired_token")
    assert (await row_counts(database))["access_tokens"] == 0


async def test_a_request_that_is_refused_leaves_nothing(
    plane: Plane, browser: Browser, register: Registered, public: Client, database: str
) -> None:
    """Section 3.1: the client authenticates as at the token endpoint; its parameters hold."""
    client, secret = await register()
    other, _ = await register(confidential=False, grant_types=frozenset({"authorization_code"}))
    headers, before = basic(client.client_id, secret), await row_counts(database)
    cases: list[tuple[Fields | bytes, dict[str, str], int, str]] = [
        ([], {}, 401, "invalid_client"),
        ([("client_id", "nobody")], {}, 401, "invalid_client"),
        ([("client_id", client.client_id)], {}, 401, "invalid_client"),
        ([], basic(client.client_id, "wrong"), 401, "invalid_client"),
        ([("client_id", other.client_id)], {}, 400, "unauthorized_client"),
        ([("scope", "nope")], headers, 400, "invalid_scope"),
        ([("scope", "notes:read  notes:write")], headers, 400, "invalid_scope"),
        ([("scope", "é")], headers, 400, "invalid_scope"),
        ([("scope", "x" * 9000)], headers, 400, "invalid_scope"),
        ([("resource", "https://evil.example/")], headers, 400, "invalid_target"),
        ([("scope", "notes:read"), ("scope", "notes:write")], headers, 400, "invalid_request"),
        ([("client_id", public.client_id)], headers, 400, "invalid_request"),
        ([("x", "x" * 70000)], headers, 413, "invalid_request"),
        (b"a=1&" * 101, headers, 400, "invalid_request"),
    ]
    for fields, sent, status, error in cases:
        answer = await browser.send("POST", START, fields, sent)
        assert (answer.status, answer.json["error"]) == (status, error), (fields, answer.text)
    wrong_type = await browser.send("POST", START, b"{}", {**headers, "Content-Type": "application/json"})
    assert wrong_type.json["error"] == "invalid_request"
    query = await browser.send("POST", f"{START}?client_id={public.client_id}", [])
    assert query.json["error"] == "invalid_request"
    assert (await browser.get(START)).status == 405
    await plane.store.clients.disable(public.client_id)
    assert (await browser.send("POST", START, [("client_id", public.client_id)])).status == 401
    of_others = {"events": 0, "changes": 0}  # the operator's act, and the wrong secret
    assert {**(await row_counts(database)), **of_others} == {**before, **of_others}


async def test_a_device_code_of_no_worth_gets_nothing(
    plane: Plane, signed_in: Browser, public: Client, register: Registered
) -> None:
    """Section 3.4, with RFC 6749, section 5.2."""
    other, secret = await register(name="Other")
    begun = await started(signed_in, public)
    code = begun["device_code"]
    for is_allowed in (False, True):  # nor does another client learn that it waits
        if is_allowed:
            await allowed(signed_in, begun["user_code"])
        fields = [("grant_type", DEVICE_CODE), ("device_code", code)]
        stolen = await signed_in.send("POST", "/oauth2/token", fields, basic(other.client_id, secret))
        assert (stolen.status, stolen.json["error"]) == (400, "invalid_grant")
    for bad in (
        code[:-1],
        code + "x",
        code.swapcase(),
        "x",
        "é",
        "\0",
        "gwd_" + "a" * 40,
        begun["user_code"],
        "x" * 9000,
    ):
        answer = await asked(signed_in, public, bad)
        assert (answer.status, answer.json["error"]) == (400, "invalid_grant"), bad
    assert (await asked(signed_in, public, "")).json["error"] == "invalid_request"
    twice = [("grant_type", DEVICE_CODE), *[("device_code", code)] * 2, ("client_id", public.client_id)]
    assert (await signed_in.send("POST", "/oauth2/token", twice)).json["error"] == "invalid_request"
    as_code = [("grant_type", "authorization_code"), ("code", code), ("client_id", public.client_id)]
    assert (await signed_in.send("POST", "/oauth2/token", as_code)).json["error"] == "invalid_grant"
    beyond = await asked(signed_in, public, code, resource=f"{plane.url}/nowhere")
    assert beyond.json["error"] == "invalid_target"
    assert (await asked(signed_in, public, code)).status == 200  # nobody spent it


async def test_an_unauthorized_client_cannot_ask(signed_in: Browser, plane: Plane) -> None:
    client, _ = await plane.client(confidential=False, grant_types=frozenset({"authorization_code"}))
    answer = await asked(signed_in, client, "gwd_" + "a" * 40)
    assert answer.json["error"] == "unauthorized_client"


@pytest.mark.parametrize("typed", ["lower", "no dash", "spaces"])
async def test_a_code_is_typed_as_people_type(signed_in: Browser, public: Client, typed: str) -> None:
    """Section 6.1."""
    code = (await started(signed_in, public))["user_code"]
    text = {"lower": code.lower(), "no dash": code.replace("-", ""), "spaces": f" {code.replace('-', ' ')} "}[typed]
    answer = await entered(signed_in, text)
    assert answer.location == f"{PAGE}/consent?user_code={code}"


async def test_wrong_codes_are_heard_ten_times_whatever_the_session(
    plane: Plane, browser: Browser, stranger: Browser, ada: str, public: Client, database: str
) -> None:
    """Section 5.1: user codes are short, so guesses are few. A right code, or another session, brings no more."""
    begun = await started(browser, public)
    await browser.sign_in()
    await stranger.sign_in()
    for n in range(9):
        answer = await entered(browser, NOBODYS) if n % 2 else await browser.get(f"{PAGE}/consent?user_code={NOBODYS}")
        assert (answer.status, "This code is wrong, or it has expired." in answer.text) == (400, True)
    for form in ("", "x", "é", "WDJB", "\0" * 8, "A" * 5000):
        assert (await entered(browser, form)).status == 400  # no code at all: it tells nothing, and counts for nothing
    assert (await entered(browser, begun["user_code"])).status == 303  # a right one takes nothing back
    assert (await entered(stranger, NOBODYS)).status == 429
    for one in (browser, stranger):
        held = await entered(one, begun["user_code"])
        assert (held.status, "Try again in 15 minutes." in held.text) == (429, True)
        assert 0 < int(held.headers["Retry-After"]) <= 900
        assert (await one.get(f"{PAGE}/consent?user_code={begun['user_code']}")).status == 429
    await plane.user("grace", "Grace Hopper")
    await browser.send("POST", "/oauth2/logout", [])
    await browser.sign_in("grace")
    assert (await entered(browser, begun["user_code"])).status == 303


async def test_guesses_at_once_learn_no_more_than_guesses_in_turn(signed_in: Browser, public: Client) -> None:
    page = await signed_in.get(PAGE)
    answers = await asyncio.gather(*(signed_in.submit(page.form, user_code=NOBODYS) for _ in range(40)))
    statuses = Counter(answer.status for answer in answers)
    assert statuses[400] < 10
    assert statuses[400] + statuses[429] == 40


async def test_one_network_is_heard_fifty_times(plane: Plane, signed_in: Browser) -> None:
    """People who are many to one who guesses; a network of IPv6 has many addresses."""
    for number in range(48):
        plane.store.guesses.user_code(f"u{number % 6}", neighbourhood("2001:db8::1")).wrong()
    page = f"{PAGE}/consent?user_code={NOBODYS}"
    here, elsewhere = ({"X-Forwarded-For": address} for address in ("2001:db8::ffff:2", "2001:db8:0:1::1"))
    assert [(await signed_in.get(page, here)).status for _ in range(2)] == [400, 429]
    assert (await signed_in.get(page, elsewhere)).status == 400


async def test_who_is_not_signed_in_learns_nothing_of_a_code(browser: Browser, public: Client) -> None:
    begun = await started(browser, public)
    for code in (begun["user_code"], NOBODYS):
        for path in (f"{PAGE}?user_code={code}", f"{PAGE}/consent?user_code={code}"):
            answer = await browser.get(path)
            assert (answer.status, answer.location.startswith("/oauth2/login?next=")) == (303, True)
            assert (await browser.send("POST", path, [("user_code", code)])).status in (303, 403)


async def test_a_code_is_answered_by_one_person_once(
    plane: Plane, signed_in: Browser, stranger: Browser, public: Client, database: str
) -> None:
    await plane.user("grace", "Grace Hopper")
    await stranger.sign_in("grace")
    begun = await started(signed_in, public)
    hers, his = await consent_for(signed_in, begun["user_code"]), await consent_for(stranger, begun["user_code"])
    tab = await consent_for(signed_in, begun["user_code"])
    done = await signed_in.follow(await signed_in.submit(hers.form, decision="allow"))
    for again in (hers, tab):  # a double click, and another tab that says no
        for decision in ("allow", "deny"):
            same = await signed_in.follow(await signed_in.submit(again.form, decision=decision))
            assert (same.status, same.text) == (200, done.text)
    late = await stranger.submit(his.form, decision="deny")
    assert (late.status, "This code is wrong, or it has expired." in late.text) == (400, True)
    assert (await stranger.get(f"{PAGE}/consent?user_code={begun['user_code']}")).status == 400
    assert (await row_counts(database))["codes"] == 1
    tokens = (await asked(signed_in, public, begun["device_code"])).json
    assert (await plane.store.tokens.introspect(tokens["access_token"], None))["username"] == "ada"


async def test_of_fifty_who_allow_at_once_one_counts(
    plane: Plane, signed_in: Browser, public: Client, database: str
) -> None:
    begun = await started(signed_in, public)
    pages = [await consent_for(signed_in, begun["user_code"]) for _ in range(5)]
    answers = await asyncio.gather(
        *(signed_in.submit(page.form, decision="allow") for page in pages for _ in range(10))
    )
    assert {answer.status for answer in answers} == {303}
    assert (await row_counts(database))["codes"] == 1
    polls = await asyncio.gather(*(asked(signed_in, public, begun["device_code"]) for _ in range(50)))
    assert Counter(poll.status for poll in polls) == {200: 1, 400: 49}


async def test_a_form_that_is_not_this_browsers_moves_nothing(
    plane: Plane, signed_in: Browser, stranger: Browser, public: Client, database: str
) -> None:
    await plane.user("grace", "Grace Hopper")
    await stranger.sign_in("grace")
    begun, other = await started(signed_in, public), await started(signed_in, public)
    entry = await signed_in.get(PAGE)
    page = await consent_for(signed_in, begun["user_code"])
    before = await row_counts(database)
    elsewhere = f"{PAGE}/consent?user_code={other['user_code']}"
    good = page.form.value("csrf_token")
    refused = [
        await signed_in.submit(page.form, decision="allow", csrf_token=None),
        await signed_in.submit(page.form, decision="allow", csrf_token="x"),
        await stranger.submit(page.form, decision="allow"),
        await signed_in.submit(page.form, decision="allow", scope=["notes:read", "admin"]),
        await signed_in.submit(page.form, decision="maybe"),
        await signed_in.submit(page.form, decision="allow", more="x"),
        await signed_in.send("POST", elsewhere, [("csrf_token", good), ("decision", "allow"), ("scope", "notes:read")]),
        await signed_in.submit(entry.form, user_code=begun["user_code"], csrf_token="x"),
        await signed_in.submit(entry.form, user_code=begun["user_code"], more="x"),
        await stranger.submit(entry.form, user_code=begun["user_code"]),
        await signed_in.send("POST", PAGE, page.form.filled(), {"Origin": "https://evil.example"}),
        await signed_in.get(PAGE, {"Sec-Fetch-Dest": "iframe"}),
    ]
    assert [answer.status for answer in refused] == [403] * len(refused)
    after = await row_counts(database)
    assert {**after, "events": 0} == {**before, "events": 0}
    # Nor does somebody else who signs in here answer what this one was asked.
    entry = await signed_in.get("/oauth2/login?prompt=login")
    assert (await signed_in.submit(entry.form, username="grace", password=PASSWORD)).status == 303
    assert (await signed_in.submit(page.form, decision="allow")).location.startswith(f"{PAGE}/consent?")
    assert (await asked(signed_in, public, begun["device_code"])).json["error"] == "authorization_pending"


async def test_consent_is_asked_whatever_was_allowed_before(signed_in: Browser, register: Registered) -> None:
    """Section 5.4: nobody's earlier yes may open a device that somebody else holds."""
    client, secret = await register(first_party=True)
    for _ in range(2):
        answer = await signed_in.send("POST", START, [], basic(client.client_id, secret))
        page = await consent_for(signed_in, answer.json["user_code"])
        assert (page.status, ("decision", "allow") in page.form.buttons) == (200, True)
        assert (await signed_in.submit(page.form, decision="allow")).status == 303


async def test_nothing_ticked_is_asked_again(signed_in: Browser, public: Client) -> None:
    begun = await started(signed_in, public)
    page = await consent_for(signed_in, begun["user_code"])
    again = await signed_in.submit(page.form, decision="allow", scope=None)
    assert (again.status, "Select at least one permission" in again.text) == (400, True)
    ticked = await signed_in.submit(again.form, select="all", decision=None)
    assert (ticked.status, begun["user_code"] in ticked.text) == (200, True)
    assert (await asked(signed_in, public, begun["device_code"])).json["error"] == "authorization_pending"


async def test_what_was_taken_from_client_or_person_meanwhile_ends_it(
    plane: Plane, signed_in: Browser, public: Client, ada: str, database: str
) -> None:
    withdrawn = await started(signed_in, public)
    await allowed(signed_in, withdrawn["user_code"])
    assert await plane.store.grants.withdraw(ada, public.client_id)
    assert (await asked(signed_in, public, withdrawn["device_code"])).json["error"] == "invalid_grant"
    begun = await started(signed_in, public)
    connection = await asyncpg.connect(database)
    await connection.execute("update clients set scopes = '{notes:read}'")
    page = await consent_for(signed_in, begun["user_code"])
    assert [value for name, value in page.form.fields if name == "scope"] == ["notes:read"]
    await connection.execute("update clients set grant_types = '{authorization_code}'")
    assert (await entered(signed_in, begun["user_code"])).status == 400
    assert (await asked(signed_in, public, begun["device_code"])).json["error"] == "unauthorized_client"
    await connection.close()
    await plane.store.clients.disable(public.client_id)
    assert (await signed_in.submit(page.form, decision="allow")).status == 400
    assert (await row_counts(database))["access_tokens"] == 0


async def test_the_pages_are_no_other_sites_and_keep_no_secret(signed_in: Browser, public: Client) -> None:
    begun = await started(signed_in, public)
    for page in (await signed_in.get(f"{PAGE}?user_code={begun['user_code']}"),
                 await consent_for(signed_in, begun["user_code"])):  # fmt: skip
        assert begun["device_code"] not in page.text
        assert page.headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
        assert "form-action 'self';" in page.headers["Content-Security-Policy"]
        assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert "<script" not in page.text


async def test_markup_in_what_is_typed_or_in_a_name_is_text(signed_in: Browser, register: Registered) -> None:
    evil, _ = await register(name='<b onclick="x">&', confidential=False)
    answer = await entered(signed_in, '"><script>alert(1)</script>')
    assert (answer.status, "<script" in answer.text) == (400, False)
    begun = await started(signed_in, evil)
    for page in (await consent_for(signed_in, begun["user_code"]), await allowed(signed_in, begun["user_code"])):
        assert "<b onclick" not in page.text


async def test_who_may_not_use_the_application_connects_no_device_to_it(
    plane: Plane, signed_in: Browser, public: Client
) -> None:
    """The client's groups hold here as they do at the authorization endpoint; the device goes on waiting."""
    store = plane.store
    changed = replace(NewClient.like(public), allow_groups=frozenset({"staff"}))
    await store.clients.update(public.client_id, changed)
    begun = await started(signed_in, public)
    page = await consent_for(signed_in, begun["user_code"])
    assert (page.status, f"You can’t use {public.name}" in page.text) == (403, True)
    assert (await asked(signed_in, public, begun["device_code"])).json["error"] == "authorization_pending"
    await store.users.update("ada", None, None, None, Known(groups=("staff",)))
    page = await consent_for(signed_in, begun["user_code"])
    await store.users.update("ada", None, None, None, Known(groups=("guests",)))
    late = await signed_in.submit(page.form, decision="allow")
    assert late.status == 403, "who left the groups while they read the page"
    await plane.user("eve", "Eve")
    await store.users.update("eve", None, None, None, Known(groups=("staff",)))
    page = await signed_in.get(late.ways["Use another account"][0])
    await signed_in.submit(page.form, username="eve", password=PASSWORD)
    done = await allowed(signed_in, begun["user_code"])
    assert (done.status, "Your device is connected" in done.text) == (200, True)
