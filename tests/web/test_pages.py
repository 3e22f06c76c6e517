"""The pages in Chromium: the way back to the client, keyboard, and who is asked."""

import re
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
from gateway.errors import Refused
from gateway.model import About, Client
from gateway.oauth.client_metadata import logo_name
from gateway.refusals import RefusedVisit
from gateway.store import Store
from gateway.store.records import Logo
from gateway.web.refusal import refusal_page
from tests.serving import until
from tests.web.conftest import Registered
from tests.web.pages import found_by_axe, sign_in, with_grants
from tests.web.rig import PASSWORD, Plane, authorize_path, serving

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
async def client_at(
    host: str, family: socket.AddressFamily = socket.AF_INET, popup: str = "", opener: str = ""
) -> AsyncIterator[tuple[int, list[str]]]:
    """A client's own web server: its port, and the targets that browsers bring."""
    came = list[str]()

    async def callback(request: web.Request) -> web.Response:
        came.append(request.raw_path)
        return web.Response(text=f"<title>Back</title>back<script>{popup}</script>", content_type="text/html")

    async def start(_request: web.Request) -> web.Response:
        return web.Response(text=f"<title>Client</title><script>{opener}</script>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/cb", callback)
    app.router.add_get("/", start)
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
async def test_a_decision_leads_back_to_the_client(
    plane: Plane,
    ada: str,
    register: Registered,
    chromium: Browser,
    host: str,
    family: socket.AddressFamily,
    shown: str,
) -> None:
    client, _ = await register(confidential=False, redirect_uris=(f"http://{shown}/cb",))
    async with client_at(host, family) as (port, came):
        for decision, wanted in (("deny", "/cb?error=access_denied"), ("allow", "/cb?code=gwc_")):
            page = await (await chromium.new_context()).new_page()
            seen = Seen.of(page)
            await page.goto(plane.url + authorize_path(client, redirect_uri=f"http://{shown}:{port}/cb"))
            await sign_in(page)
            await page.get_by_role("checkbox", name="Change your notes").uncheck()
            await page.locator(f"button[value={decision}]").click()
            await expect(page).to_have_title("Back")
            assert came.pop().startswith(wanted)
            assert seen.complaints == []
        (grant,) = await plane.store.grants.of(ada)
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
    await expect(page.get_by_role("heading", name="Notes Desktop has access now")).to_be_visible()
    assert await page.get_by_role("button").count() == 0, "nothing is left to be allowed or denied again"
    href = await page.get_by_role("link", name="Open Notes Desktop").get_attribute("href")
    assert (href or "").startswith("com.example.app:/cb?code=gwc_")
    assert await found_by_axe(page) == []


async def test_what_went_wrong_is_where_the_keyboard_is(
    plane: Plane, ada: str, client: Client, chromium: Browser
) -> None:
    page = await chromium.new_page()
    await page.goto(plane.url + authorize_path(client))
    await sign_in(page, password="wrong")
    await expect(page).to_have_title("Error: Sign in – Example")
    await expect(page.get_by_label("Password")).to_be_focused()
    await sign_in(page)
    for box in await page.get_by_role("checkbox").all():
        await box.uncheck()
    await page.get_by_role("button", name="Allow", exact=True).click()
    await expect(page).to_have_title("Error: Allow Notes Desktop? – Example")
    await expect(page.get_by_role("alert")).to_be_focused()


async def test_the_person_can_change_who_is_signed_in(
    plane: Plane, ada: str, client: Client, chromium: Browser
) -> None:
    await plane.user("bob", "Bob")
    page = await chromium.new_page()
    await page.goto(plane.url + authorize_path(client))
    await sign_in(page)
    await page.get_by_role("link", name="Use another account").click()
    await sign_in(page, "bob")
    await expect(page.get_by_text("Bob", exact=True)).to_be_visible()


async def test_enter_in_a_check_box_decides_nothing(
    plane: Plane, ada: str, register: Registered, chromium: Browser
) -> None:
    async with client_at("127.0.0.1") as (port, came):
        client, _ = await register(redirect_uris=(f"http://127.0.0.1:{port}/cb",))
        page = await chromium.new_page()
        await page.goto(plane.url + authorize_path(client))
        await expect(page.get_by_label("Username")).to_be_focused()
        await page.keyboard.type("ada")
        await page.keyboard.press("Tab")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await page.get_by_role("checkbox").first.focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Space")
        await expect(page.get_by_role("checkbox").first).not_to_be_checked()
        assert came == []


async def _tab_stops(page: Page, last: str) -> list[str]:
    """What the Tab key reaches, each with an outline to see it by, up to `last`."""
    reached = list[str]()
    while last not in reached:
        assert len(reached) < 40, reached
        await page.keyboard.press("Tab")
        script = "() => { const at = document.activeElement; return (at.value || at.textContent).trim() }"
        reached.append(await page.evaluate(script))
        assert await page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") != "none"
    return reached


async def test_everything_can_be_reached_with_the_keyboard(
    plane: Plane, ada: str, client: Client, chromium: Browser
) -> None:
    page = await chromium.new_page()
    await page.goto(plane.url + authorize_path(client))
    await sign_in(page)
    await expect(page.get_by_role("button", name="Allow", exact=True)).to_be_visible()
    reached = await _tab_stops(page, "connected applications")
    assert reached == ["Use another account", "notes:read", "notes:write", "deny", "allow", "connected applications"]


MANY = {f"{group}:{verb}": f"{verb} your {group}" for group in ("mail", "notes", "files", "tasks") for verb in "abcd"}


async def test_many_permissions_come_in_groups_with_few_stops(
    store: Store, keyring: Keyring, tmp_path: Path, chromium: Browser
) -> None:
    async with serving(store, keyring, tmp_path, scopes=MANY, routes=[]) as plane, client_at("127.0.0.1") as (port, _):
        ada = await plane.user()
        client, _ = await plane.client(redirect_uris=(f"http://127.0.0.1:{port}/cb",), scopes=frozenset(MANY))
        page = await (await chromium.new_context(java_script_enabled=True)).new_page()
        seen = Seen.of(page)
        await page.goto(plane.url + authorize_path(client, scope=None))
        await sign_in(page)
        await expect(page.get_by_text("All selected").locator("visible=true")).to_have_count(4)
        stops = await _tab_stops(page, "connected applications")
        assert len(stops) == 10, stops  # account, all, none, four groups, deny, allow, and where it can be taken back
        assert await found_by_axe(page) == []
        text = await page.inner_text("main")
        assert text.index("Ada Lovelace") < text.index("127.0.0.1") < text.index("a your mail")
        await page.get_by_role("button", name="Select none").click()
        await expect(page.get_by_text("None selected").locator("visible=true")).to_have_count(4)
        await expect(page.get_by_role("button", name="Select none")).to_be_focused()
        await page.get_by_text("Notes", exact=True).first.click()
        await page.get_by_role("button", name="All of these").locator("visible=true").click()
        await expect(page.get_by_text("All selected").locator("visible=true")).to_have_count(1)
        await page.get_by_role("checkbox", name="c your notes").uncheck()
        await page.get_by_text("Notes", exact=True).first.click()
        await expect(page.get_by_text("Some selected").locator("visible=true")).to_have_count(1)
        await page.get_by_role("button", name="Allow", exact=True).click()
        await expect(page).to_have_title("Back")
        (grant,) = await plane.store.grants.of(ada)
        assert grant.scopes == {"notes:a", "notes:b", "notes:d"}
        assert seen.complaints == []


async def test_a_client_s_popup_brings_the_code_back_to_its_window(
    plane: Plane, ada: str, register: Registered, chromium: Browser
) -> None:
    script = "opener.postMessage(location.search, location.origin); document.title = 'Sent'"
    opener = "onmessage = event => { document.title = 'Got ' + event.data }"
    async with client_at("127.0.0.1", popup=script, opener=opener) as (port, _):
        client, _ = await register(confidential=False, redirect_uris=(f"http://127.0.0.1:{port}/cb",))
        window = await chromium.new_page()
        await window.goto(f"http://127.0.0.1:{port}/")
        async with window.expect_popup() as opened:
            await window.evaluate(f"void open({plane.url + authorize_path(client)!r}, '', 'popup,width=480')")
        popup = await opened.value
        await popup.get_by_label("Password").fill("wrong")
        await popup.get_by_label("Username").fill("ada")
        await popup.get_by_role("button", name="Sign in").click()
        await sign_in(popup)
        await popup.get_by_role("button", name="Allow", exact=True).click()
        await expect(window).to_have_title(re.compile(r"Got \?code=gwc_"))


async def test_a_second_click_on_allow_is_no_harm(
    plane: Plane, ada: str, register: Registered, chromium: Browser
) -> None:
    async with client_at("127.0.0.1") as (port, came):
        client, _ = await register(confidential=False, redirect_uris=(f"http://127.0.0.1:{port}/cb",))
        page = await chromium.new_page()
        await page.goto(plane.url + authorize_path(client))
        await sign_in(page)
        await page.get_by_role("button", name="Allow", exact=True).dblclick(no_wait_after=True)
        await expect(page).to_have_title("Back")
        assert len(set(came)) == 1
        assert came[0].startswith("/cb?code=gwc_")
        assert len(await plane.store.grants.of(ada)) == 1


async def test_back_from_the_client_goes_on_with_the_request(
    plane: Plane, ada: str, register: Registered, chromium: Browser
) -> None:
    async with client_at("127.0.0.1") as (port, came):
        client, _ = await register(confidential=False, redirect_uris=(f"http://127.0.0.1:{port}/cb",))
        page = await chromium.new_page()
        await page.goto(plane.url + authorize_path(client))
        await sign_in(page)
        await page.get_by_role("button", name="Allow", exact=True).click()
        await expect(page).to_have_title("Back")
        await page.go_back()
        await expect(page.get_by_role("button", name="Allow", exact=True)).to_be_visible()
        assert "Nothing was shared" not in await page.inner_text("main")
        await page.get_by_role("button", name="Allow", exact=True).click()
        await expect(page).to_have_title("Back")
        assert all(target.startswith("/cb?code=gwc_") for target in came)


async def test_enter_in_the_address_bar_after_a_mistake_goes_on(
    plane: Plane, ada: str, client: Client, chromium: Browser
) -> None:
    page = await chromium.new_page()
    await page.goto(plane.url + authorize_path(client))
    await sign_in(page, password="wrong")
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.goto(page.url)
    await sign_in(page)
    for box in await page.get_by_role("checkbox").all():
        await box.uncheck()
    await page.get_by_role("button", name="Allow", exact=True).click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.goto(page.url)
    await expect(page.get_by_role("button", name="Allow", exact=True)).to_be_visible()


async def test_removing_an_application_asks_once(plane: Plane, ada: str, chromium: Browser) -> None:
    await with_grants(plane, ada, ["Notes"])
    page = await (await chromium.new_context(java_script_enabled=False)).new_page()
    await page.goto(f"{plane.url}/oauth2/login")
    await sign_in(page)
    await page.goto(f"{plane.url}/oauth2/account")
    button = page.locator("details.remove").get_by_role("button")
    await expect(button).to_be_hidden()
    await page.locator("details.remove summary").click()
    await button.click()
    await expect(page.locator("details.remove")).to_have_count(0)
    assert await plane.store.grants.of(ada) == []


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
        headers, body = make(RefusedVisit(Refused("bad_gateway", ""), "req-1", again="/api"))
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
