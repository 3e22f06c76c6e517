"""The answer as a form (OAuth 2.0 Form Post Response Mode), which the browser posts to the client."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import unescape

import pytest
from aiohttp import web
from playwright.async_api import Browser as Chromium
from playwright.async_api import expect

from gateway.model import Client
from tests.web.conftest import Registered
from tests.web.pages import found_by_axe, sign_in
from tests.web.rig import PASSWORD, REDIRECT, Browser, Plane, authorize_path
from tests.web.test_pages import Seen


async def test_the_code_comes_as_a_form(plane: Plane, signed_in: Browser, client: Client) -> None:
    """Section 2: the members are the form's fields, and the redirect URI is its action."""
    page = await signed_in.get(authorize_path(client, response_mode="form_post"))
    answer = await signed_in.submit(page.form, decision="allow")
    assert (answer.status, "Location" in answer.headers) == (200, False)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert (answer.form.action, answer.form.method) == (REDIRECT, "post")
    members = dict(answer.form.fields)
    assert members.keys() == {"code", "state", "iss"}
    assert (members["state"], members["iss"]) == ("xyz", plane.url)
    assert members["code"].startswith("gwc_")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert re.search(r"; script-src 'sha256-[^' ]+'$", policy)
    assert "form-action 'self' https://app.example;" in policy
    assert answer.text.count("<script") == 1
    same = await signed_in.submit(page.form, decision="allow")  # a double click
    assert same.form.fields == answer.form.fields


@pytest.mark.parametrize("state", ['"><script>alert(1)</script>', "a+b c&d=e#f%20", "ünï✓", "x" * 2000])
async def test_state_comes_back_exactly_and_as_text(signed_in: Browser, client: Client, state: str) -> None:
    page = await signed_in.get(authorize_path(client, response_mode="form_post", state=state))
    answer = await signed_in.submit(page.form, decision="deny")
    members = dict(answer.form.fields)
    assert (unescape(members["state"]), members["error"]) == (state, "access_denied")
    assert answer.text.count("<script") == 1


async def test_errors_come_as_a_form_too(plane: Plane, browser: Browser, client: Client) -> None:
    """With `iss`, as every answer (RFC 9207, section 2)."""
    answer = await browser.get(authorize_path(client, response_mode="form_post", prompt="none"))
    told = dict(answer.form.fields)
    assert (answer.status, told["error"], told["iss"]) == (200, "login_required", plane.url)
    for name, value in (("response_type", None), ("response_type", "token"), ("request", "e30.e30.")):
        early = await browser.get(authorize_path(client, response_mode="form_post", **{name: value}))
        assert early.status == 200, "a refusal before it is known what is wanted"
        assert {"error", "iss"} <= dict(early.form.fields).keys()
    for changes in ({"response_mode": "FORM_POST"}, {"response_mode": "form_post", "state": b"\xff"}):
        wrong = await browser.get(authorize_path(client, **changes))
        assert wrong.members["error"] == "invalid_request"  # by the query, which carries everything
    unproven = await browser.get(
        authorize_path(client, response_mode="form_post", redirect_uri="https://evil.example/")
    )
    assert (unproven.status, "evil.example" in unproven.text) == (400, False)


@asynccontextmanager
async def client_that_takes_forms() -> AsyncIterator[tuple[int, list[dict[str, str]]]]:
    """A client's own web server: its port, and what was posted to it."""
    came = list[dict[str, str]]()

    async def callback(request: web.Request) -> web.Response:
        came.append({name: str(value) for name, value in (await request.post()).items()})
        return web.Response(text="<title>Back</title>back", content_type="text/html")

    app = web.Application()
    app.router.add_post("/cb", callback)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1], came
    finally:
        await runner.cleanup()


@pytest.mark.browser
async def test_a_browser_brings_the_form_with_scripts_and_without(
    plane: Plane, browser: Browser, ada: str, register: Registered, chromium: Chromium
) -> None:
    """And the page that waits where there are none is one that axe likes."""
    for scripts in (True, False):
        async with client_that_takes_forms() as (port, came):
            client, _ = await register(redirect_uris=(f"http://127.0.0.1:{port}/cb",))
            context = await chromium.new_context(java_script_enabled=scripts, viewport={"width": 320, "height": 640})
            page = await context.new_page()
            seen = Seen.of(page)
            await page.goto(plane.url + authorize_path(client, response_mode="form_post", state="ünï"))
            await sign_in(page, password=PASSWORD)
            await page.get_by_role("button", name="Allow", exact=True).click()
            if not scripts:
                await page.get_by_role("button", name="Continue").click()
            await expect(page).to_have_title("Back")
            assert [sorted(members) for members in came] == [["code", "iss", "state"]]
            assert came[0]["state"] == "ünï"
            assert seen.complaints == []
            await context.close()
    answer = await browser.get(authorize_path(client, response_mode="form_post", prompt="none"))
    page = await chromium.new_page(viewport={"width": 320, "height": 640})
    await page.goto(f"{plane.url}/oauth2/logout")
    await page.set_content(re.sub(r"<script>.*</script>", "", answer.text))  # or it would be gone at once
    await expect(page.get_by_role("button", name="Continue")).to_be_visible()
    assert await found_by_axe(page) == []
