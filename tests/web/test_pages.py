"""The pages in Chromium: the way back to the client, keyboard, and who is asked."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.async_api import Browser, ConsoleMessage, Page, Request, expect

from gateway.crypto import Keyring
from gateway.model import About, Client
from gateway.oauth.client_metadata import logo_name
from gateway.store.records import Logo
from gateway.web.refusal import refusal_page
from tests.serving import until
from tests.web.conftest import Registered
from tests.web.pages import found_by_axe, sign_in
from tests.web.rig import PASSWORD, Plane, authorize_path

pytestmark = pytest.mark.browser


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
        assert await found_by_axe(page) == []
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
