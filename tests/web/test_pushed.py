"""Pushed authorization requests (RFC 9126), from the client's POST to the one answer that they bring."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import asyncpg

from gateway.model import Client
from gateway.oauth import authorize, forms
from gateway.oauth.authorize import AuthorizationRequest
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

PAR = "/oauth2/par"
URN = "urn:ietf:params:oauth:request_uri:"
Fields = Sequence[tuple[str, str]]


def fields(client: Client, **changes: str | None) -> list[tuple[str, str]]:
    """A good request's parameters, with some set or left out (None)."""
    return parse_qsl(urlsplit(authorize_path(client, **changes)).query)


async def push(browser: Browser, client: Client, secret: str = "", **changes: str | None) -> Answer:
    headers = basic(client.client_id, secret) if secret else {}
    return await browser.send("POST", PAR, fields(client, **changes), headers)


def path_of(client: Client, request_uri: str, **others: str) -> str:
    """The authorization request that refers to what was pushed (section 4)."""
    return "/oauth2/authorize?" + urlencode({"client_id": client.client_id, "request_uri": request_uri, **others})


async def pushed_path(browser: Browser, client: Client, secret: str = "", **changes: str | None) -> str:
    answer = await push(browser, client, secret, **changes)
    assert answer.status == 201, answer.text
    return path_of(client, answer.json["request_uri"])


async def test_a_pushed_request_leads_through_sign_in_and_consent_to_a_code(
    browser: Browser, ada: str, register: Registered
) -> None:
    """Sections 2.1, 2.2 and 4."""
    client, secret = await register()
    answer = await push(browser, client, secret)
    assert answer.status == 201
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.json.keys() == {"request_uri", "expires_in"}
    assert 5 <= answer.json["expires_in"] <= 600  # section 2.2
    reference = answer.json["request_uri"].removeprefix(URN)
    assert len(reference) >= 40
    path = path_of(client, answer.json["request_uri"])
    page = await browser.get(path)
    assert page.status == 200
    again = await browser.get(path)  # a reload, which section 4 allows
    assert again.status == 200
    moved = await browser.submit(page.form, username="ada", password=PASSWORD)
    assert moved.location == path
    consent = await browser.follow(moved)
    allowed = await browser.submit(consent.form, decision="allow")
    assert allowed.location.startswith(f"{REDIRECT}?code=gwc_")
    assert allowed.members["state"] == "xyz"
    body = await browser.send(
        "POST", "/oauth2/token", code_fields(allowed.members["code"], client), basic(client.client_id, secret)
    )
    assert body.json["scope"] == "notes:read notes:write"


async def test_nothing_besides_the_pushed_parameters_counts(
    browser: Browser, signed_in: Browser, register: Registered
) -> None:
    """Section 4, with RFC 9101, section 5: what stands in the query beside client_id is ignored."""
    client, secret = await register()
    pushed = (await push(signed_in, client, secret, scope="notes:read")).json["request_uri"]
    others = {
        "redirect_uri": "https://evil.example/",
        "scope": "notes:write",
        "state": "other",
        "response_type": "token",
        "prompt": "none",
        "code_challenge": "x",
        "response_mode": "nonsense",
        "request": "x.y.z",
    }
    page = await signed_in.get(path_of(client, pushed, **others))
    assert page.status == 200
    assert ("scope", "notes:read") in page.form.fields
    assert ("scope", "notes:write") not in page.form.fields
    allowed = await signed_in.submit(page.form, decision="allow")
    assert allowed.location.startswith(REDIRECT + "?")
    assert allowed.members["state"] == "xyz"


async def test_a_request_uri_brings_one_answer(signed_in: Browser, register: Registered) -> None:
    """Section 4: one-time use. The browser that was answered hears the same once more; nothing new comes of it."""
    client, secret = await register()
    path = await pushed_path(signed_in, client, secret)
    one, other = await signed_in.get(path), await signed_in.get(path)  # two tabs
    first = await signed_in.submit(one.form, decision="allow")
    assert "code" in first.members
    assert (await signed_in.submit(one.form, decision="allow")).location == first.location  # a double click
    second = await signed_in.submit(other.form, decision="allow")
    late = await signed_in.follow(second)
    assert (late.status, "gwc_" in late.text) == (400, False)
    assert (await signed_in.get(path)).status == 400
    # A consent that stands would bring a code at once.
    renewed = await signed_in.get(await pushed_path(signed_in, client, secret))
    assert "code" in renewed.members


async def test_a_denial_is_an_answer_too(browser: Browser, signed_in: Browser, register: Registered) -> None:
    client, secret = await register()
    path = await pushed_path(signed_in, client, secret)
    page = await signed_in.get(path)
    denied = await signed_in.submit(page.form, decision="deny")
    assert denied.members["error"] == "access_denied"
    assert (await signed_in.get(path)).status == 400


async def test_cancelling_the_sign_in_is_an_answer_too(browser: Browser, public: Client) -> None:
    path = await pushed_path(browser, public, client_id=public.client_id)
    page = await browser.get(path)
    cancelled = await browser.submit(page.form, decision="deny")
    assert cancelled.members["error"] == "access_denied"
    assert (await browser.submit(page.form, decision="deny")).status == 400
    assert (await browser.get(path)).status == 400


async def test_the_browser_that_opens_a_request_keeps_it(
    browser: Browser, stranger: Browser, public: Client, database: str
) -> None:
    path = await pushed_path(browser, public)
    before = await row_counts(database)
    # What looks at a link takes it from nobody.
    assert (await stranger.send("HEAD", path)).status == 200
    assert (await stranger.get(path, {"Accept": "application/json"})).json["error"] == "login_required"
    assert (await browser.get(path)).status == 200
    copied = await stranger.get(path)
    assert (copied.status, "Location" in copied.headers) == (400, False)
    assert "has been used or has expired" in copied.text
    told = await stranger.get(path, {"Accept": "application/json"})
    assert (told.status, told.json["error"]) == (400, "invalid_request_uri")
    assert (await browser.get(path)).status == 200
    assert await row_counts(database) == before


async def test_of_fifty_browsers_at_once_one_opens_it(plane: Plane, browser: Browser, public: Client) -> None:
    path = await pushed_path(browser, public)
    browsers = [Browser(plane.url) for _ in range(50)]
    answers = await asyncio.gather(*(one.get(path) for one in browsers))
    assert Counter(answer.status for answer in answers) == {200: 1, 400: 49}
    await asyncio.gather(*(one.close() for one in browsers))


async def test_of_fifty_requests_at_once_where_nobody_is_asked_one_gets_a_code(
    signed_in: Browser, register: Registered, database: str
) -> None:
    client, secret = await register(first_party=True)
    path = await pushed_path(signed_in, client, secret)
    answers = await asyncio.gather(*(signed_in.get(path) for _ in range(50)))
    codes = [answer for answer in answers if answer.status == 303 and "code=" in answer.location]
    assert len(codes) == 1
    assert (await row_counts(database))["codes"] == 1


async def test_a_request_uri_of_no_worth_is_a_page(
    plane: Plane, signed_in: Browser, register: Registered, public: Client, database: str
) -> None:
    """Sections 2.2 (bound to the client) and 4 (expired is invalid)."""
    client, secret = await register()
    good = (await push(signed_in, client, secret)).json["request_uri"]
    for uri in (good[:-1], good + "x", good.upper(), URN, URN + "gwp_" + "a" * 40, URN + "x\0", URN + "é", good + " "):
        answer = await signed_in.get(path_of(client, uri, redirect_uri=REDIRECT, response_type="code"))
        assert (answer.status, "code=" in answer.headers.get("Location", "")) == (
            303 if not uri.startswith(URN) else 400,
            False,
        ), uri
    assert (await signed_in.get(path_of(public, good))).status == 400  # another client's
    assert (await signed_in.get("/oauth2/authorize?request_uri=" + quote(good))).status == 400  # section 4: client_id
    assert (await signed_in.get(path_of(client, good) + "&request_uri=" + quote(good))).status == 400
    connection = await asyncpg.connect(database)
    await connection.execute("update pushed_requests set expires_at = now()")
    await connection.close()
    assert (await signed_in.get(path_of(client, good))).status == 400
    foreign = await signed_in.get(authorize_path(client, request_uri="https://app.example/request.jwt"))
    assert foreign.members["error"] == "request_uri_not_supported"


async def test_what_is_wrong_is_told_at_once_and_nothing_is_kept(
    browser: Browser, register: Registered, public: Client, database: str
) -> None:
    """Section 2.1: the request is validated as at the authorization endpoint; section 2.3: its errors."""
    client, secret = await register()
    before = await row_counts(database)
    faults: list[tuple[dict[str, str | None], str, int]] = [
        ({"request_uri": URN + "gwp_" + "a" * 40}, "invalid_request", 400),  # section 2.1, step 2
        ({"request": "x.y.z"}, "request_not_supported", 400),  # section 3
        ({"redirect_uri": None}, "invalid_request", 400),
        ({"redirect_uri": ""}, "invalid_request", 400),
        ({"redirect_uri": "https://evil.example/"}, "invalid_request", 400),
        ({"redirect_uri": REDIRECT.replace("/cb", "/\N{LATIN SMALL LETTER E WITH ACUTE}")}, "invalid_request", 400),
        ({"response_type": None}, "invalid_request", 400),
        ({"response_type": "id_token"}, "unsupported_response_type", 400),
        ({"scope": "notes:read nope"}, "invalid_scope", 400),
        ({"scope": " "}, "invalid_scope", 400),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request", 400),
        ({"code_challenge_method": "plain"}, "invalid_request", 400),
        ({"resource": "https://evil.example/"}, "invalid_target", 400),
        ({"prompt": "none login"}, "invalid_request", 400),
        ({"client_id": public.client_id}, "invalid_request", 400),  # another than the one that authenticates
        ({"state": "x" * 9000}, "invalid_request", 413),
        ({"state": "=" * 2700}, "invalid_request", 413),  # as a redirect would have to repeat it
        ({"state": "\N{LATIN SMALL LETTER E WITH ACUTE}" * 1400}, "invalid_request", 413),
        ({"nobody_knows_it": "x" * 9000}, "invalid_request", 413),
        ({"state": "x" * 70000}, "invalid_request", 413),
    ]
    faults += [  # what no database can hold
        ({"scope": "openid", "claims": json.dumps({"id_token": said})}, "invalid_request", 400)
        for text in ("\0", "\ud800")
        for said in ({"sub": {"value": text}}, {"acr": {"essential": True, "value": text}})
    ]
    for changes, error, status in faults:
        answer = await push(browser, client, secret, **changes)
        assert (answer.status, answer.json["error"]) == (status, error), changes
        assert answer.json["error_description"].isascii()
    for name, value in fields(client):
        twice = await browser.send("POST", PAR, [*fields(client), (name, value)], basic(client.client_id, secret))
        assert (twice.status, twice.json["error"]) == (400, "invalid_request"), name
    plain = {**basic(client.client_id, secret), "Content-Type": "application/json"}
    assert (await browser.send("POST", PAR, b'{"response_type": "code"}', plain)).json["error"] == "invalid_request"
    assert (await browser.send("POST", PAR, b"a=1&" * 101, basic(client.client_id, secret))).status == 400
    assert await row_counts(database) == before


async def test_a_client_authenticates_as_at_the_token_endpoint(
    plane: Plane, browser: Browser, register: Registered, public: Client, database: str
) -> None:
    """Section 2.1."""
    client, secret = await register()
    before = await row_counts(database)
    wrong: list[tuple[Fields, dict[str, str]]] = [
        (fields(client), {}),
        (fields(client), basic(client.client_id, "wrong")),
        ([*fields(client), ("client_secret", "wrong")], {}),
        (fields(client, client_id="nobody"), {}),
        (fields(client, client_id=None), {}),
    ]
    for sent, headers in wrong:
        answer = await browser.send("POST", PAR, sent, headers)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
        assert "WWW-Authenticate" in answer.headers
    both = await browser.send(
        "POST", PAR, [*fields(client), ("client_secret", secret)], basic(client.client_id, secret)
    )
    assert (both.status, both.json["error"]) == (400, "invalid_request")
    query = await browser.send("POST", f"{PAR}?client_secret={secret}", fields(client))
    assert (query.status, query.json["error"]) == (400, "invalid_request")
    counts = await row_counts(database)
    assert {**counts, "events": 0} == {**before, "events": 0}
    assert (await browser.send("POST", PAR, [*fields(client), ("client_secret", secret)])).status == 201
    assert (await push(browser, client, secret, client_id=None)).status == 201
    assert (await push(browser, public)).status == 201
    kept = await asyncpg.connect(database)
    assert not [row for row in await kept.fetch("select request from pushed_requests") if secret in row[0]]
    await kept.close()
    await plane.store.clients.disable(client.client_id)
    assert (await push(browser, client, secret)).json["error"] == "invalid_client"


async def test_a_client_may_have_to_push(signed_in: Browser, register: Registered) -> None:
    """Section 4: then an authorization request without a pushed one is refused with invalid_request."""
    client, secret = await register(par_required=True)
    answer = await signed_in.get(authorize_path(client))
    assert (answer.status, answer.members["error"], answer.members["state"]) == (303, "invalid_request", "xyz")
    page = await signed_in.get(await pushed_path(signed_in, client, secret))
    assert "code" in (await signed_in.submit(page.form, decision="allow")).members


async def test_what_an_operator_took_meanwhile_counts(signed_in: Browser, register: Registered, database: str) -> None:
    """Section 4: it is validated as any other request, by the policy of that moment."""
    client, secret = await register()
    connection = await asyncpg.connect(database)

    async def after(change: str) -> Answer:
        path = await pushed_path(signed_in, client, secret)
        await connection.execute(f"update clients set {change}")
        return await signed_in.get(path)

    assert (await after("scopes = '{notes:read}'")).members["error"] == "invalid_scope"
    await connection.execute("update clients set scopes = '{notes:read,notes:write}'")
    assert (await after("redirect_uris = '{https://new.example/}'")).status == 400
    await connection.execute(f"update clients set redirect_uris = '{{{REDIRECT}}}'")
    assert (await after("disabled_at = now()")).status == 400
    await connection.close()


async def test_without_a_scope_it_is_for_those_that_the_client_has_when_it_is_brought(
    signed_in: Browser, register: Registered, database: str
) -> None:
    client, secret = await register()
    path = await pushed_path(signed_in, client, secret, scope=None)
    connection = await asyncpg.connect(database)
    await connection.execute("update clients set scopes = '{notes:read}'")
    await connection.close()
    shown = (await signed_in.get(path)).form.fields
    assert [value for name, value in shown if name == "scope"] == ["notes:read"]


async def test_a_request_is_kept_as_the_value_that_it_is(browser: Browser, register: Registered, database: str) -> None:
    client, secret = await register()
    sent = urlencode(fields(client, nonce="n", max_age="5", login_hint="ada", unknown="x")) + "&id_token_hint=a%FF%00"
    answer = await browser.send("POST", PAR, sent.encode(), basic(client.client_id, secret))
    assert answer.status == 201
    connection = await asyncpg.connect(database)
    kept = AuthorizationRequest.from_json(await connection.fetchval("select request from pushed_requests"))
    await connection.close()
    assert kept == authorize.read(forms.parse(sent.encode()), client)


async def test_state_comes_back_exactly_and_the_rest_is_kept_as_it_came(
    signed_in: Browser, register: Registered
) -> None:
    client, secret = await register()
    for state in (b"\xff\xfe\x00\r\n", b"a+b c&d=e#f%20", "ünï✓".encode(), b"x" * 4000):
        body = urlencode(fields(client, state=None)).encode() + b"&state=" + quote(state, safe="").encode()
        answer = await signed_in.send("POST", PAR, body, basic(client.client_id, secret))
        page = await signed_in.get(path_of(client, answer.json["request_uri"]))
        denied = page if page.status == 303 else await signed_in.submit(page.form, decision="deny")
        members = dict(parse_qsl(urlsplit(denied.location).query, encoding="latin-1", strict_parsing=True))
        assert members["state"].encode("latin-1") == state


async def test_other_methods_are_refused(browser: Browser) -> None:
    """Section 2.3: 405 where the method is not POST."""
    for method in ("GET", "PUT", "HEAD", "DELETE"):
        assert (await browser.send(method, PAR)).status == 405
