"""How the pages look in Chromium: nothing overflows or breaks, everything can be hit, seen and read, in any colours."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page

from gateway.cli import sample_api
from gateway.crypto import Keyring
from gateway.errors import Refused
from gateway.model import About, Owner
from gateway.oauth.client_metadata import logo_name
from gateway.refusals import RefusedVisit
from gateway.store import Store
from gateway.store.records import Logo
from gateway.web.refusal import refusal_page
from tests.web.pages import found_by_axe, shots, with_grants
from tests.web.rig import Plane, serving

pytestmark = pytest.mark.browser

LONG: Final = "Wörterbuchverlagsauslieferungsgesellschaft" * 3
WIDTHS: Final = (320, 360, 1280)  # CSS pixels
SIZES: Final = (16, 24, 32)  # what a browser's text size of 100, 150 and 200 % makes of 1rem
COLOURS: Final[Sequence[dict[str, Any]]] = (
    {"color_scheme": "light", "forced_colors": "none"},
    {"color_scheme": "dark", "forced_colors": "none"},
    {"color_scheme": "light", "forced_colors": "active"},
    {"color_scheme": "dark", "forced_colors": "active"},
)
PICTURE: Final = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4"/></svg>'

# What sticks out of the page or its own box, and each word of at most twelve letters that is broken.
MEASURE: Final = """() => {
  const faults = [], width = document.documentElement.clientWidth;
  const name = element => `${element.tagName}.${element.className}`;
  if (document.documentElement.scrollWidth > width) faults.push(`the page is ${document.documentElement.scrollWidth}`);
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest("svg, .unseen, input")) continue;
    const box = element.getBoundingClientRect(), style = getComputedStyle(element);
    if (box.width === 0) continue;
    if (box.left < -0.5 || box.right > width + 0.5) faults.push(`${name(element)} ends at ${box.right}`);
    const block = style.display !== "inline";
    if (block && element.scrollWidth > element.clientWidth + 1) faults.push(`${name(element)} overflows`);
    const cut = style.overflowY !== "visible" && element.scrollHeight > element.clientHeight + 1;
    if (cut) faults.push(`${name(element)} is cut`);
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const node = texts.currentNode, range = document.createRange();
    if (node.parentElement.closest(".unseen")) continue;
    for (const word of node.data.matchAll(/(?<=^|\\s)\\p{L}[\\p{L}’]{0,11}(?=\\s|$|[.,:?])/gu)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top)));
      if (lines.size > 1) faults.push(`“${word[0]}” is broken`);
    }
  }
  return faults;
}"""

# Every target that is smaller than 44 by 44 CSS pixels, or than 24 high where it stands in a sentence or a list of
# links (WCAG 2.2, section 2.5.8, allows less there).
SMALL: Final = """() => [...document.querySelectorAll("a, button, summary, input:not([type=hidden]), label.choice")]
  .filter(element => element.getClientRects().length && !element.closest(".choice input"))
  .map(element => [element, element.getBoundingClientRect(), element.closest("p, .links") ? 24 : 44])
  .filter(([, box, wanted]) => box.height < wanted || box.width < wanted)
  .map(([element, box]) => `${element.outerHTML} is ${box.width} by ${box.height}`)"""


async def scaled(page: Page, pixels: int) -> None:
    """Make 1rem as large as a browser's setting for text makes it."""
    session = await page.context.new_cdp_session(page)
    await session.send("Page.setFontSizes", {"fontSizes": {"standard": pixels, "fixed": pixels}})
    await session.detach()
    got = await page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)")
    assert got == pixels


async def about(plane: Plane) -> dict[str, Any]:
    """A client that tells people everything, at length."""
    subject = await plane.user("owner", LONG)
    logo = Logo(logo_name(PICTURE) or "", PICTURE)
    told = About(
        description=LONG,
        owner=Owner(subject=subject, username="owner", name=LONG),
        homepage="https://a.example/",
        privacy="https://a.example/p",
        terms="https://a.example/t",
        logo=logo.name,
    )
    return {"about": told, "logo": logo}


async def test_nothing_overflows_and_no_word_is_broken_however_large_the_text_and_long_the_names(
    store: Store, keyring: Keyring, tmp_path: Path, chromium: Browser
) -> None:
    words = {"notes:read": LONG[:200], "notes:write": "Change your notes"}
    async with serving(store, keyring, tmp_path, scopes=words, branding={"name": LONG[:100]}) as plane:
        ada = await plane.user("ada", LONG)
        client = await with_grants(plane, ada, [LONG, "Notes for Mac"], **await about(plane))
        page = await chromium.new_page()
        found, seen = list[str](), 0
        async for name in shots(page, plane, client):
            found += [f"{name}, {fault}" for fault in await measured(page)]
            seen += 1
        _, body = refusal_page(plane.settings)(RefusedVisit(Refused("bad_gateway", ""), "r" * 36, again="/wiki"))
        page = await chromium.new_page()  # the other one keeps its policy, which lets no style sheet in
        await page.set_content(body.decode())
        found += [f"refusal, {fault}" for fault in await measured(page)]
        assert seen >= 10
        assert not found, "\n".join(found)


async def measured(page: Page) -> list[str]:
    """What is wrong with the page at any width and any size of text."""
    found = list[str]()
    for pixels in SIZES:
        await scaled(page, pixels)
        for width in WIDTHS:
            await page.set_viewport_size({"width": width, "height": 800})
            found += [f"{width} px, {pixels * 100 // 16} %: {fault}" for fault in await page.evaluate(MEASURE)]
    await scaled(page, 16)
    return found


async def test_every_target_is_large_enough_to_hit(plane: Plane, ada: str, chromium: Browser) -> None:
    client = await with_grants(plane, ada, ["Notes", "Other notes"], **await about(plane))
    page = await chromium.new_page(viewport={"width": 360, "height": 800})
    async for name in shots(page, plane, client):
        assert await page.evaluate(SMALL) == [], name


async def test_axe_finds_nothing_in_any_colours_and_no_other_host_is_asked(
    plane: Plane, ada: str, chromium: Browser
) -> None:
    client = await with_grants(plane, ada, ["Notes", "Other notes"], **await about(plane))
    page = await chromium.new_page()
    hosts = set[str]()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    shown = 0
    async for name in shots(page, plane, client):
        for width, colours in product((360, 1280), COLOURS):
            await page.set_viewport_size({"width": width, "height": 800})
            await page.emulate_media(**colours)
            others = colours is not COLOURS[0]
            assert await found_by_axe(page, of_colours=others) == [], (name, width, colours)
        shown += 1
    assert shown >= 10
    assert hosts == {urlsplit(plane.url).netloc}


@pytest.mark.parametrize("accent", ["#ffe600", "#ff9900", "#0b0b0b"])
async def test_axe_finds_nothing_whatever_the_accent(
    store: Store, keyring: Keyring, tmp_path: Path, chromium: Browser, accent: str
) -> None:
    async with serving(store, keyring, tmp_path, branding={"name": "Ä", "accent": accent}) as plane:
        client = await with_grants(plane, await plane.user(), ["Notes"])
        page = await chromium.new_page()
        async for name in shots(page, plane, client):
            for colours in COLOURS[:2]:
                await page.emulate_media(**colours)
                assert await found_by_axe(page, of_colours=True) == [], (name, colours)


async def test_allow_and_deny_never_look_alike(plane: Plane, ada: str, chromium: Browser) -> None:
    client = await with_grants(plane, ada, ["Notes"])
    page = await chromium.new_page()
    script = "value => getComputedStyle(document.querySelector(`button[value=${value}]`)).backgroundColor"
    async for name in shots(page, plane, client):
        if name == "consent":
            break
    for colours in COLOURS:
        await page.emulate_media(**colours)
        assert await page.evaluate(script, "allow") != await page.evaluate(script, "deny"), colours


@pytest.mark.parametrize("query", ["code=gwc_" + "x" * 60, "error=access_denied&error_description=" + LONG, ""])
async def test_the_demos_own_page_is_one_that_axe_likes_and_keeps_to_its_width(chromium: Browser, query: str) -> None:
    page = await chromium.new_page()
    with sample_api.serving() as port:
        await page.goto(f"http://127.0.0.1:{port}/callback?{query}")
        assert await found_by_axe(page) == []
        assert await measured(page) == []
