"""A page in an operator's browser learns nothing from the admin listener, whatever it asks in whatever way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, async_playwright

from tests.browser import chromium
from tests.serving import serving
from tests.streams import accepting

# Each way gives what the page has of the answer, and nothing where the browser keeps it from the page.
_ASK = """async url => {
    const fetched = async init => {
        try {
            const reply = await fetch(url, init)
            return [reply.type, reply.status, await reply.text(), ...reply.headers.keys()]
        } catch (fault) { return [] }
    }
    const added = (name, attributes) => new Promise(resolve => {
        const element = Object.assign(document.createElement(name), attributes)
        element.onload = () => resolve(["loaded"])
        element.onerror = () => resolve([])
        document.body.append(element)
    })
    const framed = () => new Promise(resolve => {
        const frame = Object.assign(document.createElement("iframe"), {src: url})
        frame.onload = () => {
            try { resolve([frame.contentWindow.document.body.innerText]) } catch (fault) { resolve([]) }
        }
        document.body.append(frame)
    })
    return {
        "fetch": await fetched({}),
        "fetch, no-cors": await fetched({mode: "no-cors"}),
        "fetch, with credentials": await fetched({credentials: "include"}),
        "fetch, POST": await fetched({method: "POST", mode: "no-cors", body: "a"}),
        "fetch, with a field": await fetched({headers: {"X-Any": "1"}}),
        "img": await added("img", {src: url}),
        "script": await added("script", {src: url}),
        "style sheet": await added("link", {rel: "stylesheet", href: url}),
        "frame": await framed(),
        "timing": performance.getEntriesByName(url).map(entry => entry.responseStatus + entry.decodedBodySize)
            .filter(told => told > 0),
    }
}"""


class Wire:
    """What passes between a browser and the admin listener: of each request its method, path and status."""

    def __init__(self, admin_url: str) -> None:
        self._place = urlsplit(admin_url)
        self.seen: list[tuple[str, str, int]] = []

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, since its connection ends with the answer."""
        head = await reader.readuntil(b"\r\n\r\n")
        above, upstream = await asyncio.open_connection(self._place.hostname, self._place.port)
        try:
            upstream.write(head.replace(b"Connection: keep-alive", b"Connection: close"))
            if head.startswith(b"POST"):
                upstream.write(await reader.readexactly(1))
            answer = await above.read()
        finally:
            upstream.close()
        method, path = head.decode().split()[:2]
        self.seen.append((method, path, int(answer.split()[1])))
        writer.write(answer)
        await writer.drain()


@asynccontextmanager
async def page_at(host: str) -> AsyncIterator[str]:
    """An empty page on a port of its own."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        page = b"<!doctype html><body></body>"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + page)
        await writer.drain()

    async with accepting(serve) as port:
        yield f"http://{host}:{port}/"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright, chromium(playwright) as browser:
        yield await browser.new_page()


@pytest.mark.browser
async def test_a_page_of_another_origin_reads_nothing_of_the_admin_listener_and_gets_no_figures(
    tmp_path: Path, database: str, page: Page
) -> None:
    async with serving(tmp_path, dsn=database, workers=1) as gateway:
        wire = Wire(gateway.admin_url)
        async with accepting(wire.pass_on) as port, page_at("127.0.0.1") as same_site, page_at("localhost") as other:
            admin = f"http://127.0.0.1:{port}"
            for origin in (same_site, other):
                for path in ("/metrics", "/healthz", "/readyz"):
                    await page.goto(origin)
                    wire.seen.clear()
                    told = await page.evaluate(_ASK, admin + path)
                    assert {way: what for way, what in told.items() if what} == {}, (origin, path)
                    asked = [(method, status) for method, place, status in wire.seen if place == path]
                    assert len(asked) >= 9
                    statuses = {status for method, status in asked if method == "GET"}
                    assert statuses == ({403} if path == "/metrics" else {200})
            await page.goto(f"{admin}/metrics")  # the operator, who opens it
            assert "gateway_build_info" in await page.inner_text("body")
