"""Routes that people open in a browser: over two workers, and in Chromium."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, async_playwright, expect

from gateway.crypto import Keyring
from gateway.store import Store
from tests.browser import chromium
from tests.counts import scaled
from tests.serving import Gateway, crowding, serving, until
from tests.streams import accepting
from tests.web.rig import PASSWORD, PASSWORD_HASH

CALLS = 500


class Wiki:
    """The application behind the gateway: a page with a form, a stream, and what it saw of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.url = ""

    async def page(self, request: web.Request) -> web.Response:
        self.calls.append((request.method, request.raw_path, {k.lower(): v for k, v in request.headers.items()}))
        who = request.headers.get("X-Forwarded-User", "nobody")
        text = (
            f"<title>Wiki</title><h1>Hello, {who}</h1><p id=at>{request.method} {request.path_qs}</p>"
            "<form method=post action=/wiki/saved><button>Save</button></form><a href=/oauth2/logout>Sign out</a>"
        )
        return web.Response(text=text, content_type="text/html")

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: hello\n\n")
        await asyncio.Event().wait()
        return response


@pytest.fixture
async def wiki() -> AsyncIterator[Wiki]:
    made = Wiki()
    app = web.Application()
    app.router.add_get("/wiki/events", made.events)
    app.router.add_route("*", "/{tail:.*}", made.page)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def gateway(tmp_path: Path, database: str, wiki: Wiki) -> AsyncIterator[Gateway]:
    route = {"name": "wiki", "path": "/wiki", "upstreams": [wiki.url], "auth": ["session"]}
    async with serving(tmp_path, dsn=database, routes=[route], workers=2, log={"access": "json"}) as running:
        yield running


async def test_session_counts_on_all_workers_and_ends_on_all_within_a_second(
    gateway: Gateway, wiki: Wiki, store: Store, keyring: Keyring
) -> None:
    user = await store.users.create("ada", None, "Ada", PASSWORD_HASH)
    token = keyring.new_token("gwb_")
    assert await store.sessions.start(user.subject, token, 3600) is not None
    headers = {"Cookie": f"gateway_session={token}"}
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        workers = set[str]()

        async def status() -> int:
            async with session.get(f"{gateway.url}/wiki", allow_redirects=False) as answer:
                workers.add(answer.headers["X-Request-Id"][:16])
                return answer.status

        for _ in range(scaled(CALLS) // 50):
            assert set(await asyncio.gather(*(status() for _ in range(50)))) == {200}
        await until(lambda: status() if len(workers) < 2 else True)
        assert {call[2]["x-auth-subject"] for call in wiki.calls} == {user.subject}
        async with session.get(f"{gateway.url}/wiki/events") as events:
            assert await events.content.readline() == b"data: hello\n"
            assert await store.holdings.revoke_sessions(session_id=None, subject=user.subject) == 1
            ended = time.monotonic()
            with pytest.raises(aiohttp.ClientPayloadError):
                await events.content.read()
            assert time.monotonic() - ended < 1.0 * crowding()
        await asyncio.sleep(max(0.0, ended + 1.0 - time.monotonic()))
        assert set(await asyncio.gather(*(status() for _ in range(50)))) == {401}


def access_lines(gateway: Gateway) -> list[dict[str, Any]]:
    return [line for line in gateway.logs if line.get("event") == "call" and line["route"] == "wiki"]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright, chromium(playwright) as made:
        yield made


async def signed_in(page: Page, password: str = PASSWORD) -> None:
    await page.get_by_label("Username or email").fill("ada")
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def test_person_opens_a_page_signs_in_lands_on_it_and_signs_out(
    gateway: Gateway, wiki: Wiki, store: Store, browser: Browser
) -> None:
    await store.users.create("ada", None, "Ada", PASSWORD_HASH)
    page = await browser.new_page()
    asked = f"{gateway.url}/wiki/%C3%A4/page?q=a+b&next=//evil.example&x=%2F"
    await page.goto(asked)
    assert page.url.startswith(f"{gateway.url}/oauth2/login?next=/wiki/")
    assert wiki.calls == []
    await signed_in(page, "wrong-password")
    await expect(page.get_by_text("Incorrect username or password.")).to_be_visible()
    await signed_in(page)
    await expect(page.get_by_role("heading", name="Hello, ada")).to_be_visible()
    assert page.url == asked
    method, path, fields = wiki.calls[-1]
    assert (method, path) == ("GET", "/wiki/%C3%A4/page?q=a+b&next=//evil.example&x=%2F")
    assert (fields["x-auth-token-type"], fields["x-forwarded-user"]) == ("session", "ada")
    assert "gateway_" not in fields.get("cookie", "")

    await page.get_by_role("button", name="Save").click()  # a form of its own
    await expect(page.locator("#at")).to_have_text("POST /wiki/saved")

    await page.get_by_role("link", name="Sign out").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_text("You’ve signed out")).to_be_visible()
    seen = len(wiki.calls)
    await page.goto(asked)
    assert page.url.startswith(f"{gateway.url}/oauth2/login?next=/wiki/")
    assert len(wiki.calls) == seen
    await until(lambda: len(access_lines(gateway)) >= 4)
    schemes = [(line["status"], line["scheme"]) for line in access_lines(gateway)]
    assert schemes == [(303, None), (200, "session"), (200, "session"), (303, None)]


FORM = """<form method=post action="{url}/wiki/saved"><input name=a value=b><button>Win</button></form>
<script>
window.told = new Promise(done => {{
    const socket = new WebSocket("{socket}/wiki/socket");
    socket.onopen = () => done("open"); socket.onerror = () => done("refused");
}});
window.fetched = fetch("{url}/wiki/saved", {{method: "POST", mode: "no-cors", credentials: "include"}});
</script>"""


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"], ids=["sibling", "stranger"])
async def test_page_of_another_origin_changes_nothing_in_a_persons_name(
    gateway: Gateway, wiki: Wiki, store: Store, browser: Browser, host: str
) -> None:
    """A sibling at another port is of the same site, so that the cookie comes with what it sends (RFC 6265bis, 5.2)."""
    await store.users.create("ada", None, "Ada", PASSWORD_HASH)
    text = FORM.format(url=gateway.url, socket=gateway.url.replace("http", "ws", 1)).encode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(head % len(text) + text)

    async with accepting(serve) as port:
        page = await browser.new_page()
        await page.goto(f"{gateway.url}/wiki")
        await signed_in(page)
        await expect(page.get_by_role("heading", name="Hello, ada")).to_be_visible()
        seen = len(wiki.calls)
        await page.goto(f"http://{host}:{port}/")
        assert await page.evaluate("window.told") == "refused"
        await page.evaluate("window.fetched.then(() => 'done', () => 'failed')")
        await page.get_by_role("button", name="Win").click()
        await page.wait_for_url(f"{gateway.url}/wiki/saved")
        heading = "This came from another site" if host == "127.0.0.1" else "You’re not signed in"
        await expect(page.get_by_role("heading", name=heading)).to_be_visible()
        assert len(wiki.calls) == seen
        await page.goto(f"{gateway.url}/wiki")  # and the person is signed in as before
        await expect(page.get_by_role("heading", name="Hello, ada")).to_be_visible()
