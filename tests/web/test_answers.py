"""What every answer carries, and what is turned away before any handler."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config import Tokens
from gateway.crypto import Keyring
from gateway.model import Client
from gateway.store import Store
from gateway.web.browser import new_session_token
from tests.serving import until
from tests.web.conftest import Registered
from tests.web.rig import PASSWORD, Browser, Plane, authorize_path, basic, serving

PAGES = ["/oauth2/authorize", "/oauth2/authorize/consent", "/oauth2/login", "/oauth2/logout"]
NO_PAGES = {  # whatever else the router knows must be guarded as a page is
    *(f"/oauth2/{name}" for name in ("token", "revoke", "introspect", "par", "device_authorization", "userinfo")),
    *("/oauth2/register", "/oauth2/register/{client_id}"),
    *("/oauth2/static/{name}", "/oauth2/logo/{name}", "/oauth2/arrival"),
    *(f"/.well-known/{name}" for name in ("oauth-authorization-server", "openid-configuration", "jwks.json")),
    *("/.well-known/oauth-protected-resource{inserted}", "/.well-known/change-password"),
}
POSTED_FROM_ELSEWHERE = {"/oauth2/authorize", "/oauth2/logout"}  # a client's request may be a form on its own site


def policy_of(headers: object) -> dict[str, str]:
    text = headers["Content-Security-Policy"]  # type: ignore[index]  # any mapping of header fields
    return {part.strip().partition(" ")[0]: part.strip().partition(" ")[2] for part in text.split(";")}


@pytest.mark.parametrize("path", [*PAGES, "/oauth2/login?next=x"])
async def test_a_page_is_not_stored_framed_or_sniffed(browser: Browser, path: str) -> None:
    answer = await browser.get(path)
    policy = policy_of(answer.headers)
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["base-uri"] == "'none'"
    assert policy["style-src"] == "'self'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "script-src" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    # A client may open the authorization pages in a popup, which has to find its way back to the client's window.
    wanted = None if path.startswith("/oauth2/authorize") else "same-origin"
    assert answer.headers.get("Cross-Origin-Opener-Policy") == wanted
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize(
    ("redirect_uri", "source"),
    [
        ("https://app.example/cb", "https://app.example"),
        ("https://app.example:8443/cb", "https://app.example:8443"),
        ("http://127.0.0.1:9000/cb", "http://127.0.0.1:9000"),
        ("http://[::1]:9000/cb", "http:"),
        ("com.example.app:/cb", "com.example.app:"),
    ],
)
async def test_every_page_of_a_flow_lets_its_forms_lead_back_to_the_client(
    browser: Browser, ada: str, register: Registered, redirect_uri: str, source: str
) -> None:
    client, _ = await register(redirect_uris=(redirect_uri,))
    page = await browser.get(authorize_path(client))
    wrong = await browser.submit(page.form, username="ada", password="wrong")
    consent = await browser.follow(await browser.submit(page.form, username="ada", password=PASSWORD))
    nothing = await browser.submit(consent.form, decision="allow", scope=None)
    again = await browser.get(authorize_path(client))
    for shown in (page, wrong, consent, nothing, again):
        assert policy_of(shown.headers)["form-action"] == f"'self' {source}"


@pytest.mark.parametrize("path", ["/oauth2/login", "/oauth2/logout", "/oauth2/authorize"])
async def test_pages_outside_a_flow_lead_nowhere_else(browser: Browser, path: str) -> None:
    assert policy_of((await browser.get(path)).headers)["form-action"] == "'self'"


async def test_pages_hold_no_script_and_no_inline_style(signed_in: Browser, client: Client) -> None:
    for path in (authorize_path(client), "/oauth2/account", "/oauth2/logout", "/oauth2/login", "/oauth2/authorize"):
        text = (await signed_in.get(path)).text
        assert not re.search(r"<script|<style|\sstyle=|\son[a-z]+=|javascript:", text)
        assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//""", text)


@pytest.fixture
async def pages(store: Store, keyring: Keyring, tmp_path: Path) -> AsyncIterator[tuple[Browser, set[str]]]:
    """A browser, and every page that the router knows where all that can be on is on."""
    async with serving(store, keyring, tmp_path, registration={"policy": "open"}) as plane:
        browser = Browser(plane.url)
        known = {resource.canonical for resource in plane.app.router.resources()}
        assert known >= NO_PAGES | POSTED_FROM_ELSEWHERE
        yield browser, {path.replace("{progress}", "consent") for path in known - NO_PAGES}
        await browser.close()


@pytest.mark.parametrize("destination", ["iframe", "frame", "embed", "object", "empty", "script", "image", "worker"])
async def test_every_page_opens_only_as_a_document(pages: tuple[Browser, set[str]], destination: str) -> None:
    browser, paths = pages
    for path in paths:
        for method in ("GET", "HEAD", "POST", "PUT"):
            answer = await browser.send(method, path, None, {"Sec-Fetch-Dest": destination})
            assert answer.status == 403, (method, path)
    assert (await browser.get("/oauth2/login", {"Sec-Fetch-Dest": "document"})).status == 200


@pytest.mark.parametrize("field", [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")])
async def test_every_form_that_another_site_sends_is_refused(
    pages: tuple[Browser, set[str]], field: tuple[str, str]
) -> None:
    browser, paths = pages
    for path in paths - POSTED_FROM_ELSEWHERE:
        answer = await browser.send("POST", path, [("decision", "allow")], [field])
        assert (answer.status, "sent from another site" in answer.text) == (403, True), path


async def test_no_script_of_another_site_reads_a_page(pages: tuple[Browser, set[str]]) -> None:
    browser, paths = pages
    for path in paths:
        for method in ("GET", "OPTIONS"):
            answer = await browser.send(method, path, None, {"Origin": "https://evil.example"})
            assert not any(name.lower().startswith("access-control-") for name in answer.headers), (method, path)


async def test_style_and_logo_open_as_what_they_are(browser: Browser) -> None:
    page = await browser.get("/oauth2/login")
    (href,) = re.findall(r'<link rel="stylesheet" href="([^"]+)"', page.text)
    assert (await browser.get(href, {"Sec-Fetch-Dest": "style"})).status == 200


@pytest.mark.parametrize("path", ["/oauth2/login", "/oauth2/token", "/oauth2/none", "/.well-known/jwks.json"])
async def test_no_answer_tells_versions(browser: Browser, path: str) -> None:
    assert (await browser.get(path)).headers["Server"] == "gateway"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.2", "localhost", "evil.example:80", "api.other.example"])
async def test_another_host_is_misdirected(browser: Browser, host: str) -> None:
    for path in ("/oauth2/login", "/oauth2/token", "/.well-known/oauth-authorization-server"):
        assert (await browser.get(path, {"Host": host})).status == 421
        assert (await browser.get(path, {"X-Forwarded-Host": host})).status != 421  # Host alone says where it leads


async def test_a_host_field_makes_no_links(plane: Plane, browser: Browser, ada: str, client: Client) -> None:
    headers = {"X-Forwarded-Host": "127.0.0.1:1", "Forwarded": "host=evil.example", "X-Forwarded-Proto": "https"}
    page = await browser.get(authorize_path(client), headers)
    assert "evil" not in page.text
    assert "127.0.0.1:1" not in page.text
    document = (await browser.get("/.well-known/oauth-authorization-server", headers)).json
    assert document["issuer"] == plane.url


@pytest.mark.parametrize(
    ("given", "shown"), [("req-42", "req-42"), ("<b>", "&lt;b&gt;"), ("a" * 200, None), ("é", None)]
)
async def test_an_error_page_shows_the_request_id(browser: Browser, given: str, shown: str | None) -> None:
    page = await browser.get("/oauth2/authorize", {"X-Request-Id": given})
    found = re.search(r"<code>([^<]*)</code>", page.text)
    assert found is not None
    assert found[1] == shown if shown else re.fullmatch(r"[A-Za-z0-9_-]{16}", found[1])


async def test_a_form_beyond_64_kib_is_refused(browser: Browser) -> None:
    answer = await browser.send("POST", "/oauth2/login", b"username=" + b"a" * 65536)
    assert answer.status == 413


@pytest.fixture
async def cut_off(keyring: Keyring, tmp_path: Path) -> AsyncIterator[Browser]:
    """A browser towards a plane whose database is gone."""
    store = Store.over("postgresql://nobody@127.0.0.1:1/gone", keyring, tokens=Tokens())
    async with serving(store, keyring, tmp_path) as plane:
        browser = Browser(plane.url)
        yield browser
        await browser.close()
    await store.close()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/oauth2/token", [("grant_type", "client_credentials")]),
        ("/oauth2/revoke", [("token", "gwa_x")]),
        ("/oauth2/introspect", [("token", "gwa_x")]),
    ],
)
async def test_without_the_database_programs_get_503_and_never_200(
    cut_off: Browser, path: str, fields: list[tuple[str, str]]
) -> None:
    answer = await cut_off.send("POST", path, fields, basic("c1", "obviously-fake"))
    assert answer.status == 503
    assert answer.json["error"] == "temporarily_unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/oauth2/authorize?client_id=x", "/oauth2/account"])
async def test_without_the_database_people_get_a_page(cut_off: Browser, keyring: Keyring, path: str) -> None:
    answer = await cut_off.get(path, {"Cookie": f"gateway_session={new_session_token(keyring)}"})
    assert answer.status == 503
    assert "Try again in a moment" in answer.text
    assert int(answer.headers["Retry-After"]) > 0


async def test_without_the_database_nobody_signs_in(cut_off: Browser) -> None:
    page = await cut_off.get("/oauth2/login")
    answer = await cut_off.submit(page.form, username="ada", password=PASSWORD)
    assert answer.status == 503
    assert "gateway_session" not in cut_off.cookies


@pytest.fixture
async def secure(store: Store, keyring: Keyring, tmp_path: Path) -> AsyncIterator[Plane]:
    async with serving(store, keyring, tmp_path, public_url="https://id.example", routes=[]) as plane:
        yield plane


async def test_on_https_cookies_are_secure_and_bound_to_the_host(secure: Plane) -> None:
    await secure.user()
    browser, host = Browser(secure.url), {"Host": "id.example"}
    page = await browser.get("/oauth2/login", host)
    (form_cookie,) = page.set_cookies
    fields = page.form.filled(username="ada", password=PASSWORD)
    headers = host | {"Cookie": form_cookie.partition(";")[0]}
    answer = await browser.send("POST", "/oauth2/login", fields, headers)
    assert answer.status == 303
    for cookie in (form_cookie, *answer.set_cookies):
        assert cookie.startswith("__Host-gateway_")
        assert "; Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
    await browser.close()


async def test_on_https_a_cookie_without_the_prefix_counts_for_nothing(secure: Plane, keyring: Keyring) -> None:
    subject, token = await secure.user(), new_session_token(keyring)
    await secure.store.sessions.start(subject, token, 60)
    browser = Browser(secure.url)
    for name, status in (("gateway_session", 303), ("__Host-gateway_session", 200)):
        answer = await browser.get("/oauth2/account", {"Host": "id.example", "Cookie": f"{name}={token}"})
        assert answer.status == status
    await browser.close()


async def test_nothing_secret_is_logged(
    plane: Plane, browser: Browser, ada: str, register: Registered, capfd: pytest.CaptureFixture[str]
) -> None:
    client, secret = await register()
    await browser.get(authorize_path(client, state="obviously-fake-state"))
    await browser.sign_in("ada", "obviously-wrong-password")
    await browser.sign_in()
    await browser.send("POST", "/oauth2/token", [("grant_type", "x")], basic(client.client_id, secret))
    await browser.send("POST", f"/oauth2/token?client_secret={secret}", [("code", "gwc_obviouslyfake")])
    await browser.get("/oauth2/authorize?client_id=a%0d%0aforged+line%1b%5b2J")
    out, err = capfd.readouterr()
    logged = out + err
    assert "sign-in failed" in logged
    for hidden in (
        secret,
        PASSWORD,
        "obviously-wrong-password",
        "gwc_obviouslyfake",
        "obviously-fake-state",
        "\x1b",
        *browser.cookies.values(),
    ):
        assert hidden not in logged
    assert "\nforged" not in logged


async def test_a_client_that_leaves_amid_its_body_is_no_failure(
    plane: Plane, capsys: pytest.CaptureFixture[str]
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(plane.url.rpartition(":")[2]))
    writer.write(
        b"POST /oauth2/token HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\na="
    )
    await writer.drain()
    writer.close()
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "client left" in said

    await until(told)
    assert '"level": "error"' not in said
