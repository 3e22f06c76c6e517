"""Signing out as applications ask for it, and how they are told (OpenID Connect RP-Initiated Logout 1.0 and its kin).

Names of modules are those of the OpenID Foundation's conformance suite.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from aiohttp import web
from playwright.async_api import Browser as Chromium

from gateway.fetching import Fetcher
from gateway.model import About, OpenID
from gateway.oauth import jws
from gateway.store.logouts import PAUSES
from gateway.web import back_channel
from gateway.web.plane import PLANE
from tests.store.rig import fetch
from tests.web.rig import Browser
from tests.web.test_openid_connect import EVERYTHING, Party, party

__all__ = ["party"]

LOGOUT = "/oauth2/logout"
BACK = "https://app.example/bye"


async def signed_in_to(party: Party, **settings: Any) -> tuple[Party, dict[str, Any]]:
    """The application with these settings, and ada's tokens there."""
    client, secret = await party.plane.client(scopes=EVERYTHING, openid=OpenID(**settings))
    there = replace(party, client=client, secret=secret)
    return there, await there.tokens()


async def out(party: Party, **members: str) -> Any:
    return await party.browser.get(f"{LOGOUT}?{urlencode(members)}")


async def is_signed_in(browser: Browser) -> bool:
    return (await browser.get("/oauth2/account")).status == 200


# -- RP-initiated ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [None, "x" * 128, "ü &=+"])
async def test_a_good_hint_signs_out_at_once_and_leads_back(party: Party, state: str | None) -> None:
    """oidcc-rp-initiated-logout, -no-state."""
    there, body = await signed_in_to(party, post_logout_redirect_uris=(BACK,))
    members = {} if state is None else {"state": state}
    answer = await out(there, id_token_hint=body["id_token"], post_logout_redirect_uri=BACK, **members)
    assert answer.status == 303
    assert answer.location.partition("?")[0] == BACK
    assert dict(parse_qsl(urlsplit(answer.location).query)) == members
    assert not await is_signed_in(party.browser)
    silent = await there.asked(prompt="none")
    assert silent.members["error"] == "login_required"


@pytest.mark.parametrize("uri", [BACK + "?foo=bar", BACK + "/", "https://evil.example/", "https://app.example/cb"])
async def test_an_address_that_is_not_registered_is_never_led_to(party: Party, uri: str) -> None:
    """…-bad-post-logout-redirect-uri, -query-added-to-post-logout-redirect-uri."""
    there, body = await signed_in_to(party, post_logout_redirect_uris=(BACK,))
    answer = await out(there, id_token_hint=body["id_token"], post_logout_redirect_uri=uri)
    assert answer.status == 400
    assert "isn’t registered" in answer.text
    assert await is_signed_in(party.browser)


async def test_without_a_hint_of_this_session_a_person_is_asked_and_led_nowhere(party: Party) -> None:
    """…-no-id-token-hint, -modified-id-token-hint, -bad-id-token-hint, -no-params, -only-state."""
    there, body = await signed_in_to(party, post_logout_redirect_uris=(BACK,))
    header, claims, signature = body["id_token"].split(".")
    unsigned = jws.encoded(json.dumps({"alg": "none", "typ": "JWT"}).encode())
    for members in (
        {},
        {"state": "xyz"},
        {"post_logout_redirect_uri": BACK},
        {"post_logout_redirect_uri": BACK, "client_id": there.client.client_id},
        {"post_logout_redirect_uri": BACK, "id_token_hint": f"{unsigned}.{claims}."},
        {"post_logout_redirect_uri": BACK, "id_token_hint": f"{header}.{claims}.{signature[::-1]}"},
        {"post_logout_redirect_uri": BACK, "id_token_hint": body["access_token"]},
        {"post_logout_redirect_uri": BACK, "id_token_hint": body["id_token"], "client_id": party.client.client_id},
    ):
        page = await out(there, **members)
        assert page.status == 200, members
        assert "Sign out" in page.text
        assert await is_signed_in(party.browser)
    done = await party.browser.submit(page.form)
    assert (done.status, done.location) == (303, LOGOUT)
    assert not await is_signed_in(party.browser)
    assert "You’re signed out" in (await party.browser.follow(done)).text


@pytest.mark.parametrize(("verified", "way"), [(True, ["https://app.example/"]), (False, None)])
async def test_an_application_that_an_operator_registered_is_a_way_on_without_a_hint(
    party: Party, verified: bool, way: list[str] | None
) -> None:
    about = About(homepage="https://app.example/")
    client, _ = await party.plane.client(scopes=EVERYTHING, about=about, verified=verified)
    await party.browser.sign_in()
    page = await out(party, client_id=client.client_id, post_logout_redirect_uri="https://evil.example/")
    done = await party.browser.follow(await party.browser.submit(page.form))
    assert done.ways.get("Go to Notes Desktop") == way
    assert "evil.example" not in done.text
    assert not await is_signed_in(party.browser)


async def test_a_hint_of_another_session_asks_and_then_leads_back(party: Party) -> None:
    there, body = await signed_in_to(party, post_logout_redirect_uris=(BACK,))
    await party.browser.sign_in()
    page = await out(there, id_token_hint=body["id_token"], post_logout_redirect_uri=BACK, state="s")
    assert there.client.name in page.text
    done = await party.browser.submit(page.form)
    assert done.location == f"{BACK}?state=s"
    assert not await is_signed_in(party.browser)


async def test_a_form_of_another_site_goes_on_as_a_link_and_its_answer_moves_nothing(party: Party) -> None:
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    _, body = await signed_in_to(party, post_logout_redirect_uris=(BACK,))
    asked = [("id_token_hint", body["id_token"]), ("post_logout_redirect_uri", BACK)]
    answer = await party.browser.send("POST", LOGOUT, asked, foreign)
    assert (answer.status, urlsplit(answer.location).path) == (303, LOGOUT)
    assert await is_signed_in(party.browser)
    page = await party.browser.get(LOGOUT)
    refused = await party.browser.send("POST", LOGOUT, page.form.filled(), foreign)
    assert refused.status == 403
    assert await is_signed_in(party.browser)
    assert (await party.browser.follow(answer)).location == BACK


async def test_nobody_who_is_signed_in_is_sent_back_as_well(party: Party) -> None:
    there, body = await signed_in_to(party, post_logout_redirect_uris=(BACK,))
    for _ in range(2):
        answer = await out(there, id_token_hint=body["id_token"], post_logout_redirect_uri=BACK)
        assert answer.location == BACK


# -- what ends with a session ----------------------------------------------------------------------------------

Ending = Callable[[Party], Awaitable[object]]


async def _by_sign_out(party: Party) -> None:
    page = await party.browser.get(LOGOUT)
    await party.browser.submit(page.form)


async def _by_the_operator(party: Party) -> None:
    user = await party.plane.store.users.find("ada")
    assert user is not None
    await party.plane.store.sessions.end_of(user.subject)


@pytest.mark.parametrize("end", [_by_sign_out, _by_the_operator])
async def test_a_sign_in_ends_with_its_session_and_what_is_for_while_away_does_not(
    party: Party, end: Ending, database: str
) -> None:
    there, brief = await signed_in_to(party)
    lasting = await there.tokens("openid offline_access", prompt="consent")
    plain = await there.tokens("notes:read")
    unspent = await there.code()
    await end(party)
    alive = {
        name: await party.plane.store.access_tokens.find(body["access_token"]) is not None
        for name, body in {"brief": brief, "lasting": lasting, "plain": plain}.items()
    }
    assert alive == {"brief": False, "lasting": True, "plain": True}
    assert (await there.redeem(unspent)).json["error"] == "invalid_grant"
    assert await fetch(database, "select from changes where kind = 'family'")  # by which workers hear of it
    assert "id_token" in await there.refreshed(lasting["refresh_token"])


async def test_a_code_that_is_redeemed_while_its_session_ends_leaves_no_living_token(party: Party) -> None:
    there, _ = await signed_in_to(party)
    for _ in range(5):
        await party.browser.sign_in()
        code = await there.code()
        answer, _ = await asyncio.gather(there.redeem(code), _by_the_operator(party))
        if answer.status == 200:
            assert await party.plane.store.access_tokens.find(answer.json["access_token"]) is None


# -- back-channel ----------------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """An application's address for logout tokens."""

    url: str
    status: int = 200
    told: list[dict[str, str]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.told.append({name: str(value) for name, value in form.items()})
        return web.Response(status=self.status, headers={"Location": "http://127.0.0.1:1/"})


@asynccontextmanager
async def receiving(status: int = 200) -> AsyncIterator[Receiver]:
    app, receiver = web.Application(), Receiver("", status)
    app.router.add_post("/logout", receiver.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/logout"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    made = Fetcher()
    yield made
    made.close()


async def kinds_of_events(dsn: str) -> list[str]:
    return [row["kind"] for row in await fetch(dsn, "select kind from events where kind like 'logout.%' order by at")]


async def test_an_application_is_told_of_the_session_by_a_signed_token(
    party: Party, fetcher: Fetcher, ada: str, database: str
) -> None:
    """oidcc-backchannel-rp-initiated-logout; Back-Channel Logout 1.0, section 2.4."""
    async with receiving() as receiver:
        there, body = await signed_in_to(party, backchannel_logout_uri=receiver.url, id_token_alg="ES256")
        session = await there.verified(body["id_token"])
        await out(there, id_token_hint=body["id_token"])
        assert await back_channel.tell_some(party.plane.app[PLANE], fetcher) == 1
        assert await back_channel.tell_some(party.plane.app[PLANE], fetcher) == 0
    (told,) = receiver.told
    assert told.keys() == {"logout_token"}
    claims = await there.verified(told["logout_token"])
    assert json.loads(jws.decoded(told["logout_token"].split(".")[0]))["typ"] == "logout+jwt"
    assert claims.keys() == {"iss", "aud", "iat", "exp", "jti", "events", "sid", "sub"}
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert (claims["iss"], claims["aud"], claims["sub"], claims["sid"]) == (
        party.plane.url,
        there.client.client_id,
        ada,
        session["sid"],
    )
    assert 0 < claims["exp"] - claims["iat"] <= 120
    assert await kinds_of_events(database) == ["logout.delivered"]


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_an_application_that_does_not_take_it_is_told_again_for_a_day_and_then_no_more(
    party: Party, fetcher: Fetcher, database: str, status: int
) -> None:
    async with receiving(status) as receiver:
        there, body = await signed_in_to(party, backchannel_logout_uri=receiver.url)
        await out(there, id_token_hint=body["id_token"])
        for attempt in range(len(PAUSES) + 1):
            assert await back_channel.tell_some(party.plane.app[PLANE], fetcher) == 1
            assert await back_channel.tell_some(party.plane.app[PLANE], fetcher) == 0, "tried again without a pause"
            assert len(receiver.told) == attempt + 1
            await fetch(database, "update logouts set due_at = now()")
        assert await back_channel.tell_some(party.plane.app[PLANE], fetcher) == 0
    jtis = {jws.compact(one["logout_token"], 9999).claims["jti"] for one in receiver.told}
    assert len(jtis) == 1  # an application that heard it before knows it by that
    assert await kinds_of_events(database) == ["logout.undelivered"]


async def test_an_application_that_hangs_or_is_not_there_holds_nobody_up(party: Party, database: str) -> None:
    over = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    hanging = await asyncio.start_server(hang, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{hanging.sockets[0].getsockname()[1]}/logout"
    impatient = Fetcher(deadline=0.2)
    try:
        for address in (url, "http://127.0.0.1:1/logout", "https://nowhere.invalid/logout"):
            there, _ = await signed_in_to(party, backchannel_logout_uri=address)
        await _by_the_operator(there)
        assert await back_channel.tell_some(party.plane.app[PLANE], impatient) == 3
        assert len(await fetch(database, "select from logouts where due_at > now()")) == 3
    finally:
        over.set()
        impatient.close()
        hanging.close()
        await hanging.wait_closed()


async def test_what_registered_itself_reaches_no_inner_network_through_us(party: Party, fetcher: Fetcher) -> None:
    async with receiving() as receiver:
        client, secret = await party.plane.client(
            scopes=EVERYTHING, openid=OpenID(backchannel_logout_uri=receiver.url), verified=False
        )
        await replace(party, client=client, secret=secret).tokens()
        await _by_the_operator(party)
        assert await back_channel.tell_some(party.plane.app[PLANE], fetcher) == 1
    assert receiver.told == []


async def test_the_applications_of_a_person_who_is_deleted_are_told_by_the_session(
    party: Party, fetcher: Fetcher, ada: str
) -> None:
    """`sub` as long as it is known; a subject of the sector's goes with the person, and `sid` says who is meant."""
    async with receiving() as receiver:
        sessions = list[str]()
        for sector in (None, "app.example"):
            there, body = await signed_in_to(party, backchannel_logout_uri=receiver.url, sector=sector)
            sessions.append((await there.verified(body["id_token"]))["sid"])
        assert await party.plane.store.users.delete("ada")
        assert await back_channel.tell_some(party.plane.app[PLANE], fetcher) == 2
        told = [await party.verified(one["logout_token"]) for one in receiver.told]
    assert [claims["sid"] for claims in told] == sessions
    assert {claims.get("sub") for claims in told} == {ada, None}


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"])
async def test_a_name_that_leads_into_an_inner_network_is_not_followed_for_who_registered_itself(
    party: Party, database: str, address: str
) -> None:
    """The address is judged once the name was looked up, and nothing connects to it."""

    async def inwards(host: str, port: int) -> list[str]:
        looked_up.append((host, port))
        return [address]

    looked_up = list[tuple[str, int]]()
    fetcher = Fetcher(resolve=inwards)
    client, secret = await party.plane.client(
        scopes=EVERYTHING, openid=OpenID(backchannel_logout_uri="https://app.example/logout"), verified=False
    )
    await replace(party, client=client, secret=secret).tokens()
    await _by_the_operator(party)
    try:
        assert await back_channel.tell_some(party.plane.app[PLANE], fetcher) == 1
    finally:
        fetcher.close()
    assert looked_up == [("app.example", 443)]
    assert len(await fetch(database, "select from logouts where due_at > now()")) == 1  # it is tried again


async def test_two_processes_tell_each_application_once(party: Party, fetcher: Fetcher, database: str) -> None:
    async with receiving() as receiver:
        there, body = await signed_in_to(party, backchannel_logout_uri=receiver.url)
        await fetch(
            database,
            "insert into sessions (session_id, token_digest, subject, generation, signed_in_at, expires_at) "
            "select 's' || n, int8send(n), subject, session_generation, now(), now() + interval '1 hour' "
            "from users, generate_series(1, 1000) n",
        )
        await fetch(
            database,
            "insert into families (family_id, grant_id, scopes, resource, client_generation, user_generation, "
            "created_at, expires_at, session_id) select 'x' || n, grant_id, scopes, resource, client_generation, "
            "user_generation, created_at, expires_at, 's' || n from families, generate_series(1, 1000) n limit 1000",
        )
        await _by_the_operator(there)  # a thousand sessions at once
        plane = party.plane.app[PLANE]
        while sum(await asyncio.gather(*(back_channel.tell_some(plane, fetcher) for _ in range(2)))):
            pass
        sessions = [jws.compact(one["logout_token"], 9999).claims["sid"] for one in receiver.told]
    assert len(sessions) == len(set(sessions)) == 1001
    assert await party.plane.store.access_tokens.find(body["access_token"]) is None


# -- front-channel ---------------------------------------------------------------------------------------------


async def test_a_browser_tells_applications_in_frames_and_goes_on(party: Party, chromium: Chromium) -> None:
    """Front-Channel Logout 1.0, sections 2 and 3: the frame has iss and sid, and nothing else."""
    loaded = asyncio.Event()
    seen = list[str]()

    async def take(request: web.Request) -> web.Response:
        seen.append(str(request.rel_url))
        loaded.set()
        return web.Response(text="bye", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        there, body = await signed_in_to(
            party, frontchannel_logout_uri=f"{there_url}/out?a=1", post_logout_redirect_uris=(f"{there_url}/back",)
        )
        page = await chromium.new_page()
        cookies = [
            {"name": name, "value": value, "url": party.plane.url} for name, value in party.browser.cookies.items()
        ]
        await page.context.add_cookies(cookies)  # type: ignore[arg-type]
        members = {"id_token_hint": body["id_token"], "post_logout_redirect_uri": f"{there_url}/back", "state": "s"}
        await page.goto(f"{party.plane.url}{LOGOUT}?{urlencode(members)}")
        async with asyncio.timeout(10):
            await loaded.wait()
        frame = urlsplit(next(one for one in seen if one.startswith("/out")))
        sid = (await there.verified(body["id_token"]))["sid"]
        assert dict(parse_qsl(frame.query)) == {"a": "1", "iss": party.plane.url, "sid": sid}
        await page.wait_for_url(f"{there_url}/back?state=s")
    finally:
        await runner.cleanup()
    assert not await is_signed_in(party.browser)
