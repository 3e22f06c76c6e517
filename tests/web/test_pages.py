"""The pages in Chromium: the way back to the client, what axe-core finds, keyboard, width, and who is asked."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import axe_core_python  # type: ignore[import-untyped]  # only its axe.min.js is used
import pytest
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright, expect

from gateway.crypto import Keyring
from gateway.model import About, Client
from gateway.oauth.client_metadata import logo_name
from gateway.store import FlowRequest, Store
from gateway.store.records import Logo
from gateway.web.refusal import refusal_page
from tests.browser import chromium as a_chromium
from tests.serving import until
from tests.web.conftest import Registered
from tests.web.rig import PASSWORD, Plane, authorize_path, serving

pytestmark = pytest.mark.browser

_AXE = (Path(str(axe_core_python.__path__[0])) / "axe.min.js").read_text()
_LONG = "Wörterbuchverlagsauslieferungsgesellschaft" * 3


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright, a_chromium(playwright) as browser:
        yield browser


@dataclass
class Seen:
    """What a page did behind the scenes."""

    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def request(self, request: Request) -> None:
        self.hosts.add(urlsplit(request.url).netloc)

    def console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "the server responded with a status" not in message.text:
            self.complaints.append(message.text)

    @classmethod
    def of(cls, page: Page) -> "Seen":
        seen = cls()
        page.on("request", seen.request)
        page.on("console", seen.console)
        return seen


@asynccontextmanager
async def client_at(host: str, family: socket.AddressFamily = socket.AF_INET) -> AsyncIterator[tuple[int, list[str]]]:
    """A client's own web server: its port, and the targets that browsers bring."""
    came = list[str]()

    async def callback(request: web.Request) -> web.Response:
        came.append(request.raw_path)
        return web.Response(text="<title>Back</title>back at the client", content_type="text/html")

    app = web.Application()
    app.router.add_get("/cb", callback)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        await web.SockSite(runner, sock).start()
        yield sock.getsockname()[1], came
        await runner.cleanup()


async def sign_in(page: Page, username: str = "ada") -> None:
    await page.get_by_label("User name").fill(username)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize(
    ("host", "family", "shown"),
    [
        ("127.0.0.1", socket.AF_INET, "127.0.0.1"),
        ("127.0.0.1", socket.AF_INET, "localhost"),
        ("::1", socket.AF_INET6, "[::1]"),
    ],
)
@pytest.mark.parametrize("decision", ["allow", "deny"])
async def test_a_decision_leads_back_to_the_client(
    plane: Plane,
    ada: str,
    register: Registered,
    chromium: Browser,
    host: str,
    family: socket.AddressFamily,
    shown: str,
    decision: str,
) -> None:
    client, _ = await register(confidential=False, redirect_uris=(f"http://{shown}/cb",))
    async with client_at(host, family) as (port, came):
        page = await chromium.new_page()
        seen = Seen.of(page)
        await page.goto(plane.url + authorize_path(client, redirect_uri=f"http://{shown}:{port}/cb"))
        await sign_in(page)
        await page.get_by_role("checkbox", name="Change your notes").uncheck()
        await page.locator(f"button[value={decision}]").click()
        await expect(page).to_have_title("Back")
        wanted = "/cb?code=gwc_" if decision == "allow" else "/cb?error=access_denied"
        assert came[0].startswith(wanted)
        assert seen.complaints == []
        if decision == "allow":
            (grant,) = await plane.store.grants(ada)
            assert grant.scopes == {"notes:read"}


async def test_remembered_consent_leads_back_from_the_sign_in_form_itself(
    plane: Plane, ada: str, register: Registered, chromium: Browser
) -> None:
    async with client_at("127.0.0.1") as (port, came):
        client, _ = await register(redirect_uris=(f"http://127.0.0.1:{port}/cb",))
        for _ in range(2):
            page = await (await chromium.new_context()).new_page()
            await page.goto(plane.url + authorize_path(client))
            await sign_in(page)
            if not came:
                await page.get_by_role("button", name="Allow", exact=True).click()
            await expect(page).to_have_title("Back")
        assert len(came) == 2


async def test_an_application_with_a_scheme_of_its_own_is_reached(
    plane: Plane, ada: str, register: Registered, chromium: Browser
) -> None:
    client, _ = await register(confidential=False, redirect_uris=("com.example.app:/cb",))
    page = await chromium.new_page()
    seen = Seen.of(page)
    await page.goto(plane.url + authorize_path(client))
    await sign_in(page)
    async with page.expect_event("requestfailed", lambda request: request.url.startswith("com.example.app:")):
        await page.get_by_role("button", name="Allow", exact=True).click()
    assert not [text for text in seen.complaints if "Content Security Policy" in text]


async def test_the_person_can_change_who_is_signed_in(
    plane: Plane, ada: str, client: Client, chromium: Browser
) -> None:
    await plane.user("bob", "Bob")
    page = await chromium.new_page()
    await page.goto(plane.url + authorize_path(client))
    await sign_in(page)
    await page.get_by_role("link", name="Use another account").click()
    await sign_in(page, "bob")
    await expect(page.get_by_text("Bob")).to_be_visible()


async def test_enter_never_allows(plane: Plane, ada: str, register: Registered, chromium: Browser) -> None:
    async with client_at("127.0.0.1") as (port, came):
        client, _ = await register(redirect_uris=(f"http://127.0.0.1:{port}/cb",))
        page = await chromium.new_page()
        await page.goto(plane.url + authorize_path(client))
        await expect(page.get_by_label("User name")).to_be_focused()
        await page.keyboard.type("ada")
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await page.get_by_role("checkbox").first.focus()
        await page.keyboard.press("Enter")
        await expect(page).to_have_title("Back")
        assert came[0].startswith("/cb?error=access_denied")


async def test_everything_can_be_reached_with_the_keyboard(
    plane: Plane, ada: str, client: Client, chromium: Browser
) -> None:
    page = await chromium.new_page()
    await page.goto(plane.url + authorize_path(client))
    await sign_in(page)
    await expect(page.get_by_role("button", name="Allow", exact=True)).to_be_visible()
    reached = list[str]()
    for _ in range(6):
        await page.keyboard.press("Tab")
        script = "() => { const at = document.activeElement; return (at.value || at.textContent).trim() }"
        reached.append(await page.evaluate(script))
        outline = await page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
    assert reached == ["notes:read", "notes:write", "Use another account", "deny", "allow", "connected applications"]


async def test_a_script_on_our_host_cannot_fetch_a_page(
    plane: Plane, ada: str, client: Client, chromium: Browser
) -> None:
    page = await chromium.new_page()
    await page.goto(f"{plane.url}/oauth2/login")
    await sign_in(page)
    await expect(page.get_by_role("heading", name="Connected applications")).to_be_visible()
    await page.goto(f"{plane.url}/.well-known/jwks.json")  # a document of this origin, as an upstream's page would be
    for method, path in (("GET", authorize_path(client)), ("GET", "/oauth2/account"), ("POST", "/oauth2/authorize")):
        script = f"fetch({path!r}, {{method: {method!r}}}).then(answer => answer.status)"
        assert await page.evaluate(script) == 403


async def _shots(page: Page, plane: Plane, client: Client) -> AsyncIterator[str]:
    """Every page in turn, when it is there."""
    base = plane.url
    await page.goto(base + authorize_path(client))
    yield "sign-in"
    await page.get_by_label("User name").fill("ada")
    await page.get_by_label("Password").fill("wrong")
    async with page.expect_navigation():
        await page.get_by_role("button", name="Sign in").click()
    yield "sign-in refused"
    async with page.expect_navigation():
        await sign_in(page)
    yield "consent"
    for box in await page.get_by_role("checkbox").all():
        await box.uncheck()
    async with page.expect_navigation():
        await page.get_by_role("button", name="Allow", exact=True).click()
    yield "consent with nothing ticked"
    await page.goto(f"{base}/oauth2/account")
    yield "account"
    async with page.expect_navigation():
        await page.get_by_role("button", name="Withdraw").first.click()
    yield "account after a withdrawal"
    await page.goto(f"{base}/oauth2/login")
    yield "sign-in of somebody who is signed in"
    await page.goto(f"{base}/oauth2/logout")
    yield "sign-out"
    async with page.expect_navigation():
        await page.get_by_role("button", name="Sign out").click()
    yield "signed out"
    await page.goto(f"{base}/oauth2/authorize")
    yield "error"


async def _context(chromium: Browser, width: int, scheme: str) -> BrowserContext:
    dark = scheme == "dark"
    return await chromium.new_context(
        viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
    )


async def _found_by_axe(page: Page) -> list[str]:
    await page.evaluate(_AXE)
    found = await page.evaluate("axe.run()")
    return [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]


async def _with_grants(plane: Plane, ada: str, names: Sequence[str]) -> Client:
    """Applications that ada has allowed; the first asks again."""
    clients = [(await plane.client(name=name, confidential=False, verified=False))[0] for name in names]
    session = await plane.store.start_session(ada, "B" * 43, 60)
    assert session is not None
    for client in clients:
        request = FlowRequest(
            client_id=client.client_id,
            redirect_uri=client.redirect_uris[0],
            scopes=client.scopes,
            state=None,
            code_challenge=None,
        )
        await plane.store.issue_code(session.session_id, request, 60, remember=True)
    return clients[0]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_and_no_other_host_is_asked(
    plane: Plane, ada: str, chromium: Browser, width: int, scheme: str
) -> None:
    client = await _with_grants(plane, ada, ["Notes", "Other notes"])
    page = await (await _context(chromium, width, scheme)).new_page()
    seen, shown = Seen.of(page), 0
    async for name in _shots(page, plane, client):
        assert await _found_by_axe(page) == [], name
        shown += 1
    assert shown == 10
    assert seen.hosts == {urlsplit(plane.url).netloc}
    assert seen.complaints == []


@pytest.mark.parametrize("accent", ["#ffe600", "#0b0b0b"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_whatever_the_accent(
    store: Store, keyring: Keyring, tmp_path: Path, chromium: Browser, accent: str, scheme: str
) -> None:
    async with serving(store, keyring, tmp_path, branding={"name": "Ä", "accent": accent}) as plane:
        client = await _with_grants(plane, await plane.user(), ["Notes"])
        page = await (await _context(chromium, 800, scheme)).new_page()
        async for name in _shots(page, plane, client):
            assert await _found_by_axe(page) == [], name


@pytest.mark.parametrize("width", [320, 1280])
async def test_no_page_scrolls_sideways_however_long_the_names(
    store: Store, keyring: Keyring, tmp_path: Path, chromium: Browser, width: int
) -> None:
    words = {"notes:read": _LONG[:200], "notes:write": "Change your notes"}
    async with serving(store, keyring, tmp_path, scopes=words, branding={"name": _LONG[:100]}) as plane:
        ada = await plane.user("ada", _LONG)
        client = await _with_grants(plane, ada, [_LONG, _LONG + "2"])
        page = await (await _context(chromium, width, "light")).new_page()
        async for name in _shots(page, plane, client):
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, name


async def test_the_engines_refusal_is_a_page_that_axe_likes(
    keyring: Keyring, tmp_path: Path, plane: Plane, chromium: Browser
) -> None:
    make = refusal_page(plane.settings)

    async def refuse(_request: web.Request) -> web.Response:
        headers, body = make(502, "The service does not answer", "Please try again in a moment.", "req-1")
        return web.Response(status=502, body=body, headers=headers)

    app = web.Application()
    app.router.add_get("/api", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        await web.SockSite(runner, sock).start()
        page = await chromium.new_page()
        seen = Seen.of(page)
        await page.goto(f"http://127.0.0.1:{sock.getsockname()[1]}/api")
        background = await page.evaluate("getComputedStyle(document.querySelector('main')).backgroundColor")
        assert background == "rgb(255, 255, 255)"  # the style sheet inside it is in force
        assert await _found_by_axe(page) == []
        assert seen.complaints == []
        await runner.cleanup()


async def test_a_logo_is_drawn_and_never_runs(plane: Plane, ada: str, register: Registered, chromium: Browser) -> None:
    picture = (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><script>document.title="ran"</script></svg>'
    )
    logo = Logo(logo_name(picture) or "", picture)
    client, _ = await register(about=About(logo=logo.name), logo=logo)
    page = await chromium.new_page()
    seen = Seen.of(page)
    await page.goto(plane.url + authorize_path(client))
    await sign_in(page)
    await expect(page.locator("img.logo")).to_be_visible()
    assert await page.evaluate("document.querySelector('img.logo').naturalWidth") == 8
    assert seen.hosts == {urlsplit(plane.url).netloc}
    assert seen.complaints == []
    await page.goto(f"{plane.url}/oauth2/logo/{logo.name}")
    assert await page.title() != "ran"


async def test_pages_come_without_any_script(plane: Plane, ada: str, register: Registered, chromium: Browser) -> None:
    async with client_at("127.0.0.1") as (port, came):
        client, _ = await register(redirect_uris=(f"http://127.0.0.1:{port}/cb",))
        page = await (await chromium.new_context(java_script_enabled=False)).new_page()
        await page.goto(plane.url + authorize_path(client))
        await page.fill("#username", "ada")
        await page.fill("#password", PASSWORD)
        await page.click("button")
        await page.click("button[value=allow]")
        await until(lambda: came)
        assert came[0].startswith("/cb?code=")
