"""Routes that people open in a browser, in raw bytes: who passes, who is sent to sign in, what reaches the upstream."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from gateway.config import ConfigError, parse
from gateway.crypto import Keyring, random_text
from gateway.model import Client, User
from gateway.proxy.finished import Finished
from gateway.store import Store
from gateway.store.users import Known
from tests.proxy.rig import KEYRING, Reply, Rig, eventually, rig
from tests.proxy.test_credentials import ada, client, issued
from tests.proxy.test_forward_auth import TRUSTING, WAYS, question
from tests.store.rig import aged

__all__ = ["ada", "client"]

ORIGIN = "http://gateway.test"
TOLD = {"set": {"X-Auth-Groups": "{groups}", "X-Who": "{username} {subject}", "X-App": "{client_id}"}}
ROUTES: list[dict[str, Any]] = [
    {"name": "wiki", "path": "/wiki", "auth": ["session"], "request_headers": TOLD},
    {
        "name": "notes",
        "path": "/notes",
        "auth": ["bearer", "session"],
        "scopes": {"GET": ["notes:read"], "*": ["notes:write"]},
    },
    {"name": "staff", "path": "/staff", "auth": ["session"], "groups": ["staff"]},
    {"name": "board", "path": "/board", "auth": ["session"], "groups": {"GET": [], "PUT": ["staff"], "*": ["admins"]}},
    {"name": "lately", "path": "/lately", "auth": ["session", "bearer"], "max_age": "5m", "acr": "password"},
    {"name": "public", "path": "/public", "auth": "none"},
    {"name": "all", "path": "/", "auth": "none"},
    {"name": "both-hosts", "path": "/two", "hosts": ["gateway.test", "api.test"], "auth": ["bearer", "session"]},
]
NAVIGATION = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html,*/*;q=0.8")
SAME = "Sec-Fetch-Site: same-origin"
IDENTITY = ("x-auth-subject", "x-auth-client-id", "x-auth-scope", "x-auth-token-type", "x-forwarded-user")


@dataclass
class Site:
    """A proxy with these routes, and the session of a person."""

    rig: Rig
    store: Store
    user: User
    token: str

    def request(self, target: str, *fields: str, method: str = "GET", host: str = "gateway.test") -> bytes:
        lines = "".join(f"{field}\r\n" for field in (f"Host: {host}", *fields))
        return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")

    async def anonymous(self, target: str, *fields: str, method: str = "GET", host: str = "gateway.test") -> Reply:
        return await self.rig.talk(self.request(target, *fields, method=method, host=host), method=method)

    async def signed_in(self, target: str, *fields: str, **options: Any) -> Reply:
        return await self.anonymous(target, f"Cookie: gateway_session={self.token}", *fields, **options)

    @property
    def reached(self) -> int:
        return len(self.rig.upstream.requests)


@pytest.fixture
async def site(tmp_path: Path, store: Store, ada: User) -> AsyncIterator[Site]:
    token = KEYRING.new_token("gwb_")
    assert await store.sessions.start(ada.subject, token, 3600) is not None
    async with rig(tmp_path, store, routes=ROUTES) as running:
        yield Site(running, store, ada, token)


def said(reply: Reply) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(reply.body)
    return body


# -- who passes ------------------------------------------------------------------------------------------------------


async def test_upstream_learns_who_is_signed_in_and_never_the_cookie(site: Site) -> None:
    await site.store.users.update("ada", None, None, None, Known(groups=("admins", "staff")))
    reply = await site.signed_in("/wiki/a?b=c", "Cookie: theme=dark", "X-Auth-Subject: eve", "x.who: eve", *NAVIGATION)
    assert (reply.status, reply.body) == (200, b"ok")
    [received] = site.rig.upstream.requests
    assert received.target == "/wiki/a?b=c"
    assert [received.all(name) for name in IDENTITY] == [[site.user.subject], [], [""], ["session"], ["ada"]]
    assert received.all("x-auth-groups") == ["admins,staff"]
    assert received.all("x-who") == [f"ada {site.user.subject}"]
    assert received.all("x-app") == []  # no application stands in between
    assert received.all("cookie") == ["theme=dark"]
    assert site.token.encode() not in site.rig.upstream.raw


async def test_call_of_a_person_has_the_scopes_that_its_method_asks_for(site: Site) -> None:
    for method, scope in (("GET", "notes:read"), ("HEAD", "notes:read"), ("DELETE", "notes:write")):
        assert (await site.signed_in("/notes", SAME, method=method)).status == 200
        assert site.rig.upstream.requests[-1].all("x-auth-scope") == [scope]


async def test_groups_bound_what_people_may_open(site: Site) -> None:
    refused = await site.signed_in("/staff", *NAVIGATION)
    assert (refused.status, refused.body[:12]) == (403, b"<h1>403</h1>")  # and nobody is sent to sign in again
    assert said(await site.signed_in("/staff"))["error"] == "access_denied"
    await site.store.users.update("ada", None, None, None, Known(groups=("staff",)))
    assert (await site.signed_in("/staff", *NAVIGATION)).status == 200


async def test_groups_go_by_method_as_scopes_do(site: Site) -> None:
    for groups, let_pass in (
        ((), {"GET", "HEAD"}),
        (("staff",), {"GET", "HEAD", "PUT"}),
        (("admins",), {"GET", "HEAD", "DELETE"}),
    ):
        await site.store.users.update("ada", None, None, None, Known(groups=groups))
        passed = {
            method
            for method in ("GET", "HEAD", "PUT", "DELETE")
            if (await site.signed_in("/board", SAME, method=method)).status == 200
        }
        assert passed == let_pass, groups


async def test_public_routes_never_see_a_session_and_never_ask_for_one(site: Site) -> None:
    assert (await site.signed_in("/public", *NAVIGATION)).status == 200
    assert (await site.anonymous("/public", *NAVIGATION)).status == 200
    for received in site.rig.upstream.requests:
        assert not any(received.all(name) for name in IDENTITY)
        assert not received.all("cookie")


# -- who is sent to sign in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "fields",
    [
        NAVIGATION,
        ("Sec-Fetch-Mode: navigate",),
        ("Accept: text/html",),
        ("Accept: text/html, application/json;q=0.5",),
        ("Cookie: gateway_session=", *NAVIGATION),
        ("Sec-Fetch-Site: cross-site", *NAVIGATION),
    ],
)
async def test_navigation_without_a_session_goes_to_sign_in_and_knows_the_way_back(
    site: Site, method: str, fields: tuple[str, ...]
) -> None:
    target = "/wiki/%C3%A4?q=a+b&next=//evil.example"
    reply = await site.anonymous(target, *fields, method=method)
    assert reply.status == 303
    assert reply.all("location") == [f"/oauth2/login?next={quote(target, safe='/:@!$()*,;?~')}"]
    assert reply.all("cache-control") == ["no-store"]
    assert site.reached == 0


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("GET", ()),
        ("GET", ("Accept: application/json",)),
        ("GET", ("Accept: */*",)),
        ("GET", ("Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: text/html")),
        ("GET", ("Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image", "Accept: image/*")),
        ("GET", ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Accept: text/html")),
        ("GET", ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Mode: navigate", "Accept: text/html")),
        ("GET", ("Content-Length: 1", "Sec-Fetch-Mode: navigate", "Accept: text/html")),
        ("POST", ("Content-Length: 0", *NAVIGATION)),
        ("OPTIONS", NAVIGATION),
    ],
)
async def test_anything_else_without_a_session_is_told_so(site: Site, method: str, fields: tuple[str, ...]) -> None:
    reply = await site.anonymous("/wiki", *fields, method=method)
    assert (reply.status, reply.all("location")) == (401, [])
    [challenge] = reply.all("www-authenticate")  # RFC 9110, section 15.5.2
    assert challenge.startswith('Session realm="gateway.test", error="login_required"')
    assert challenge.endswith(', sign_in="/oauth2/login"')
    if "text/html" not in "".join(fields):
        assert said(reply)["error"] == "login_required"
    assert site.reached == 0


@pytest.mark.parametrize(
    "cookie",
    [
        "gateway_session={invented}",
        "gateway_session={unknown}",
        "gateway_session={old}",
        "gateway_session={mine}; gateway_session={mine}",
        "gateway_session={mine}; gateway_session=x",
        'gateway_session="{mine}"',
        "gateway_session={mine}x",
        "gateway_session={mine}, x=1",
        "xgateway_session={mine}",
        "__Host-gateway_session={mine}",  # the name on https alone
        "gateway_session={access}",
        "gateway_session=" + "a" * 7000,
        "gateway_session=..%2f..%2f",
        "x=y gateway_session={mine}",
    ],
)
async def test_no_other_cookie_is_a_session(site: Site, client: Client, cookie: str) -> None:
    access = await issued(site.store, client, "notes:read")
    mine = site.token
    values = {
        "mine": mine,
        "invented": mine[:-1] + ("A" if mine[-1] != "A" else "B"),
        "unknown": KEYRING.new_token("gwb_"),
        "old": random_text(32),
        "access": access,
    }
    field = "Cookie: " + cookie.format(**values)
    for path in ("/wiki", "/notes"):
        assert (await site.anonymous(path, field, *NAVIGATION)).status == 303
        assert said(await site.anonymous(path, field))["error"] == "login_required"
    assert site.reached == 0


async def test_session_in_two_fields_is_none_and_beside_others_is_one(site: Site) -> None:
    mine = f"Cookie: gateway_session={site.token}"
    assert (await site.anonymous("/wiki", mine, mine)).status == 401
    assert (await site.anonymous("/wiki", "Cookie: a=b", mine, "Cookie: c=d")).status == 200


async def test_session_counts_until_it_expires_or_ends(site: Site, database: str) -> None:
    assert (await site.signed_in("/wiki")).status == 200
    await site.store.sessions.end(site.token)
    assert said(await site.signed_in("/wiki"))["error"] == "login_required"
    assert (await site.signed_in("/wiki", *NAVIGATION)).status == 303
    again = KEYRING.new_token("gwb_")
    assert await site.store.sessions.start(site.user.subject, again, 3600) is not None
    site.token = again
    assert (await site.signed_in("/wiki")).status == 200
    await aged(database, 3601)
    assert (await site.signed_in("/wiki", *NAVIGATION)).status == 303


@pytest.mark.parametrize(
    "target",
    ["/wiki?" + "a" * 5000, "/wiki?" + "%20" * 1400, "/wiki/" + "a" * 5000],
)
async def test_address_that_is_too_long_to_come_back_to_is_said_to_need_a_session(site: Site, target: str) -> None:
    reply = await site.anonymous(target, *NAVIGATION)
    assert (reply.status, reply.all("location")) == (401, [])


@pytest.mark.parametrize(
    "target",
    ["//evil.example/wiki", "/wiki/..//evil.example", "/wiki\\evil", "/wiki/%0d%0aSet-Cookie:%20a=b", "/wiki?a=b\tc"],
)
async def test_address_that_could_lead_elsewhere_leads_nowhere(site: Site, target: str) -> None:
    reply = await site.anonymous(target, *NAVIGATION)
    for location in reply.all("location"):
        assert location.startswith("/oauth2/login?next=/wiki")
        assert "\r" not in location
    assert reply.status in (303, 400)
    assert not reply.all("set-cookie")


# -- other sites -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "post", "PROPFIND", "PURGE"])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((SAME,), 200),
        ((SAME, f"Origin: {ORIGIN}"), 200),
        ((SAME, "Origin: null"), 200),  # a page with Referrer-Policy: no-referrer
        ((f"Origin: {ORIGIN}",), 200),  # a browser, or a connection, without Sec-Fetch-Site
        ((), 403),
        (("Origin: null",), 403),
        (("Origin: http://evil.example",), 403),
        ((f"Origin: {ORIGIN}:8080",), 403),
        (("Origin: https://gateway.test",), 403),
        ((f"Origin: {ORIGIN}.evil.example",), 403),
        ((f"Origin: {ORIGIN}", "Origin: http://evil.example"), 403),
        ((SAME, "Origin: http://evil.example"), 403),
        (("Sec-Fetch-Site: cross-site", f"Origin: {ORIGIN}"), 403),
        (("Sec-Fetch-Site: same-site", "Origin: http://sibling.gateway.test"), 403),
        (("Sec-Fetch-Site: none",), 403),
        ((SAME, "Sec-Fetch-Site: cross-site"), 403),
        ((f"Referer: {ORIGIN}/wiki",), 403),
    ],
)
async def test_what_may_change_something_comes_from_our_own_pages_alone(
    site: Site, method: str, fields: tuple[str, ...], status: int
) -> None:
    reply = await site.signed_in("/wiki", "Content-Length: 0", *fields, method=method)
    assert reply.status == status
    assert site.reached == (1 if status == 200 else 0)
    if status == 403:
        assert said(reply)["error"] == "cross_site_request"
        assert (await site.signed_in("/wiki", "Content-Length: 0", *fields, *NAVIGATION, method=method)).status == 403


@pytest.mark.parametrize("site_field", ["cross-site", "same-site", "same-origin", "none"])
async def test_reading_is_open_to_whoever_leads_a_person_here(site: Site, site_field: str) -> None:
    assert (await site.signed_in("/wiki", f"Sec-Fetch-Site: {site_field}", *NAVIGATION)).status == 200


HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((f"Origin: {ORIGIN}",), 200),
        ((f"Origin: {ORIGIN}", "Sec-Fetch-Site: same-origin"), 200),
        ((), 403),
        (("Origin: null",), 403),
        (("Origin: http://evil.example",), 403),
        (("Origin: http://evil.example", SAME), 403),
        ((f"Origin: {ORIGIN}", "Origin: http://evil.example"), 403),
    ],
)
async def test_only_our_own_pages_open_websockets(site: Site, fields: tuple[str, ...], status: int) -> None:
    """RFC 6455, section 10.2."""
    assert (await site.signed_in("/wiki", *HANDSHAKE, *fields)).status == status
    assert site.reached == (1 if status == 200 else 0)
    anonymous = await site.anonymous("/wiki", *HANDSHAKE, *fields, "Accept: text/html")
    assert (anonymous.status, anonymous.all("location")) == (401, [])


# -- beside tokens -----------------------------------------------------------------------------------------------------


async def test_token_goes_before_a_session_and_a_bad_one_is_never_led_to_sign_in(site: Site, client: Client) -> None:
    """RFC 6750, section 3.1: whoever presents a token is told what is wrong with it."""
    good = await issued(site.store, client, "notes:read")
    assert (await site.signed_in("/notes", f"Authorization: Bearer {good}")).status == 200
    received = site.rig.upstream.requests[-1]
    assert (received.one("x-auth-token-type"), received.one("x-auth-client-id")) == ("bearer", client.client_id)
    assert received.all("cookie") == []
    for bad in (KEYRING.new_token("gwa_"), good[:-1], site.token, "x"):
        refused = await site.signed_in("/notes", f"Authorization: Bearer {bad}", *NAVIGATION)
        assert (refused.status, refused.all("location")) == (401, [])
        bearer, session = refused.all("www-authenticate")
        assert 'error="invalid_token"' in bearer
        assert "error" not in session
    low = await site.signed_in("/notes", f"Authorization: Bearer {good}", SAME, method="DELETE")
    assert low.status == 403
    assert site.reached == 1


@pytest.mark.parametrize("authorization", ["Session {mine}", "Bearer {mine}", "Basic YTpi", "session", "Cookie {mine}"])
async def test_session_is_no_credential_in_authorization(site: Site, authorization: str) -> None:
    field = "Authorization: " + authorization.format(mine=site.token)
    for path in ("/wiki", "/notes"):
        for reply in (await site.anonymous(path, field, *NAVIGATION), await site.signed_in(path, field)):
            assert reply.status in (400, 401)
            assert not reply.all("location")
    assert site.reached == 0


async def test_client_without_a_credential_is_told_of_both_ways(site: Site) -> None:
    reply = await site.anonymous("/notes")
    bearer, session = reply.all("www-authenticate")
    assert bearer.startswith("Bearer ")
    assert "error" not in bearer  # RFC 6750, section 3.1
    assert session.startswith("Session ")
    assert 'scope="notes:read"' in bearer
    assert "scope" not in session


async def test_two_credentials_are_too_many_also_beside_a_session(site: Site, client: Client) -> None:
    good = await issued(site.store, client, "notes:read")
    twice = (f"Authorization: Bearer {good}",) * 2
    assert (await site.signed_in("/notes", *twice)).status == 400
    assert (await site.signed_in(f"/notes?access_token={good}")).status == 400


# -- step-up -----------------------------------------------------------------------------------------------------------


async def test_sign_in_that_is_too_long_ago_leads_to_the_sign_in_page_once_more(site: Site, database: str) -> None:
    assert (await site.signed_in("/lately?a=b", *NAVIGATION)).status == 200
    await aged(database, 301)
    reply = await site.signed_in("/lately?a=b", *NAVIGATION)
    assert (reply.status, reply.all("location")) == (303, ["/oauth2/login?prompt=login&next=/lately?a%3Db"])
    script = await site.signed_in("/lately")
    session, bearer = script.all("www-authenticate")
    assert (script.status, said(script)["error"]) == (401, "insufficient_user_authentication")
    assert 'acr_values="password", max_age="300"' in session  # RFC 9470, section 3
    assert "error" not in bearer
    assert (await site.signed_in("/wiki", *NAVIGATION)).status == 200


# -- hosts -------------------------------------------------------------------------------------------------------------


async def test_people_sign_in_at_one_host_and_no_other_host_lets_them_past_a_route(site: Site) -> None:
    """What matches less, here a public route for everything, does not get what the route would have refused."""
    for host in ("other.test", "127.0.0.1", "GATEWAY.test.evil"):
        for fields in (NAVIGATION, ()):
            refused = await site.signed_in("/wiki", *fields, host=host)
            assert (refused.status, refused.all("location")) == (421, [])
        refused = await site.signed_in("/notes", *NAVIGATION, host=host)
        assert (refused.status, refused.all("location")) == (401, [])
        assert "Session" not in "".join(refused.all("www-authenticate"))
    assert site.reached == 0
    for host in ("GATEWAY.TEST", "gateway.test:80", "gateway.test:8080"):
        assert (await site.signed_in("/wiki", host=host)).status == 200
    assert (await site.signed_in("/two", host="gateway.test")).status == 200
    assert (await site.signed_in("/two", host="api.test")).status == 401


# -- what is told ------------------------------------------------------------------------------------------------------


async def test_operator_is_told_why_and_whose_call_it_was(site: Site) -> None:
    told: list[Finished] = []
    site.rig.proxy.listeners.append(told.append)
    await site.signed_in("/wiki")
    await site.anonymous("/wiki")
    await site.signed_in("/wiki", method="DELETE")
    await eventually(lambda: len(told) == 3)
    passed, nobody, foreign = told
    assert passed.allowed is not None
    assert (passed.allowed.scheme, passed.allowed.client_id) == ("session", None)
    assert passed.allowed.subject == site.user.subject
    for refused, cause in ((nobody, "no session"), (foreign, "a call of another site")):
        assert refused.refused is not None
        assert (refused.refused.cause, bool(refused.refused.mend)) == (cause, True)


# -- forward auth ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_proxy_in_front_is_told_who_is_signed_in_and_where_they_sign_in(
    tmp_path: Path, store: Store, ada: User, way: str
) -> None:
    token = KEYRING.new_token("gwb_")
    assert await store.sessions.start(ada.subject, token, 3600) is not None
    async with rig(tmp_path, store, routes=ROUTES, server=TRUSTING) as running:
        passed = await running.talk(question(way, "GET", "/wiki", f"Cookie: gateway_session={token}"))
        assert passed.status == 200
        assert [passed.all(name) for name in IDENTITY] == [[ada.subject], [""], [""], ["session"], ["ada"]]
        sent = await running.talk(question(way, "GET", "/wiki?a=b", *NAVIGATION))
        assert sent.status == (401 if way.startswith("nginx") else 303)  # which knows no other
        assert sent.all("location") == ["/oauth2/login?next=/wiki?a%3Db"]
        assert (await running.talk(question(way, "GET", "/wiki"))).status == 401
        foreign = question(way, "DELETE", "/wiki", f"Cookie: gateway_session={token}", "Origin: http://evil.example")
        assert (await running.talk(foreign)).status == 403


@pytest.mark.parametrize("way", WAYS)
async def test_proxy_in_front_that_keeps_upgrade_to_itself_still_opens_websockets_for_our_own_pages_alone(
    tmp_path: Path, store: Store, ada: User, way: str
) -> None:
    """RFC 6455, sections 4.1 and 10.2; over HTTP/2 there is no key (RFC 8441, section 5)."""
    token = KEYRING.new_token("gwb_")
    assert await store.sessions.start(ada.subject, token, 3600) is not None
    cookie = f"Cookie: gateway_session={token}"
    async with rig(tmp_path, store, routes=ROUTES, server=TRUSTING) as running:
        for left in ((HANDSHAKE[2],), (HANDSHAKE[3],), HANDSHAKE[2:], HANDSHAKE):
            for fields, status in (
                ((f"Origin: {ORIGIN}", SAME), 200),
                (("Origin: http://evil.gateway.test", "Sec-Fetch-Site: same-site"), 403),
                (("Origin: http://evil.gateway.test", SAME), 403),
                ((), 403),
            ):
                asked = question(way, "GET", "/wiki", cookie, *left, *fields)
                assert (await running.talk(asked)).status == status, (left, fields)
            nobody = await running.talk(question(way, "GET", "/wiki", *left, "Accept: text/html"))
            assert (nobody.status, nobody.all("location")) == (401, [])


COOKIES = [
    ((), ""),
    (("theme=dark",), "theme=dark"),
    (("gateway_session={mine}",), ""),
    (("a=1; gateway_session={mine}; b=2",), "a=1; b=2"),
    (("a=1", "gateway_session={mine}", "b=2"), "a=1; b=2"),
    (("gateway_form=x;gateway_known_browser=y;__Host-gateway_session=z", "c=3"), "c=3"),
    (("__Host-gateway_form = x; \tgateway_session\t= {mine} ;d=gateway_session",), "d=gateway_session"),
]


@pytest.mark.parametrize("way", WAYS)
async def test_proxy_in_front_is_told_which_cookies_are_the_applications(
    tmp_path: Path, store: Store, ada: User, way: str
) -> None:
    """One field of them all (RFC 9113, section 8.2.3), empty where nothing is left, so that copying it overwrites."""
    token = KEYRING.new_token("gwb_")
    assert await store.sessions.start(ada.subject, token, 3600) is not None
    async with rig(tmp_path, store, routes=ROUTES, server=TRUSTING) as running:
        for sent, left in COOKIES:
            fields = [f"Cookie: {each.format(mine=token)}" for each in sent]
            public = await running.talk(question(way, "GET", "/public", *fields))
            assert (public.status, public.all("cookie")) == (200, [left])
            wiki = await running.talk(question(way, "GET", "/wiki", *fields))
            known = any("mine" in each for each in sent)
            assert (wiki.status, wiki.all("cookie")) == ((200, [left]) if known else (401, []))


# -- at once -----------------------------------------------------------------------------------------------------------


async def test_fifty_at_once_of_whom_half_are_signed_in(site: Site) -> None:
    replies = await asyncio.gather(
        *(site.signed_in("/wiki") if number % 2 else site.anonymous("/wiki", *NAVIGATION) for number in range(50))
    )
    assert [reply.status for reply in replies] == [303, 200] * 25


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ({"auth": ["session"], "hosts": ["api.test"]}, "routes[0].hosts"),
        ({"auth": ["bearer", "session"], "hosts": ["api.test"]}, "routes[0].hosts"),
        ({"auth": ["session"], "hosts": ["gateway.test", "api.test"]}, "routes[0].hosts"),
        ({"auth": "session"}, "routes[0].auth"),
        ({"auth": ["sessions"]}, "routes[0].auth[0]"),
    ],
)
def test_route_that_no_session_could_reach_is_refused(route: dict[str, Any], told: str) -> None:
    whole = {"name": "a", "path": "/a", "upstreams": ["http://127.0.0.1:1"], **route}
    with pytest.raises(ConfigError) as refused:
        parse({"server": {"public_url": "http://gateway.test"}, "routes": [whole]})
    assert any(fault.path.startswith(told) for fault in refused.value.faults), refused.value


def test_keyed_check_tells_sessions_from_tokens() -> None:
    keyring = Keyring(bytes(32))
    assert keyring.is_ours(keyring.new_token("gwb_"), "gwb_")
    assert keyring.is_invented(keyring.new_token("gwb_").encode(), "gwa_")
    assert keyring.is_invented(keyring.new_token("gwa_").encode(), "gwb_")
