"""Every page in Chromium, for tests that judge how pages look and read."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import axe_core_python  # type: ignore[import-untyped]  # only its axe.min.js is used
from playwright.async_api import Page

from gateway.model import Client
from gateway.oauth.authorize import AuthorizationRequest
from tests.web.rig import PASSWORD, Plane, authorize_path

_AXE = (Path(str(axe_core_python.__path__[0])) / "axe.min.js").read_text()
_OF_COLOURS: Final = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}
"""All rules in force that look at a colour: what axe calls `cat.color`."""


async def sign_in(page: Page, username: str = "ada", password: str = PASSWORD) -> None:
    await page.get_by_label("Username").fill(username)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()


async def shots(page: Page, plane: Plane, client: Client) -> AsyncIterator[str]:
    """Every page in turn, when it is there."""
    base = plane.url
    await page.goto(base + authorize_path(client))
    yield "sign-in"
    async with page.expect_navigation():
        await sign_in(page, password="wrong")
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
    await page.locator("details.remove summary").first.click()
    yield "account before a withdrawal"
    async with page.expect_navigation():
        await page.locator("details.remove").first.get_by_role("button").click()
    yield "account after a withdrawal"
    await page.goto(f"{base}/oauth2/account/sessions")
    yield "browsers"
    await page.goto(f"{base}/oauth2/account/password")
    yield "new password"
    for label in ("Current password", "New password", "New password again"):
        await page.get_by_label(label, exact=True).fill("password")
    async with page.expect_navigation():
        await page.get_by_role("button", name="Change password").click()
    yield "new password refused"
    async for name in _shots_of_device(page, plane, client):
        yield name
    await page.goto(base + authorize_path(client, prompt="select_account"))
    yield "choice of an account"
    await page.goto(base + authorize_path(client))
    await page.evaluate("document.querySelector('input[name=csrf_token]').value = 'x'")
    async with page.expect_navigation():
        await page.get_by_role("button", name="Allow", exact=True).click()
    yield "a form that is out of date"
    await page.goto(f"{base}/oauth2/login")
    yield "sign-in of somebody who is signed in"
    await page.goto(f"{base}/oauth2/logout")
    yield "sign-out"
    async with page.expect_navigation():
        await page.get_by_role("button", name="Sign out").click()
    yield "signed out"
    await page.goto(f"{base}/oauth2/authorize")
    yield "error"


async def _shots_of_device(page: Page, plane: Plane, client: Client) -> AsyncIterator[str]:
    base = plane.url
    codes = await plane.store.devices.start(client.client_id, client.scopes, ())
    assert codes is not None
    await page.goto(f"{base}/oauth2/device")
    yield "code of a device"
    await page.get_by_label("Code on your device").fill("BCDF-GHJK")
    async with page.expect_navigation():
        await page.get_by_role("button", name="Continue").click()
    yield "code of a device refused"
    await page.goto(f"{base}/oauth2/device?user_code={codes[1]}")
    yield "code of a device from a link"
    async with page.expect_navigation():
        await page.get_by_role("button", name="Continue").click()
    yield "consent for a device"
    async with page.expect_navigation():
        await page.get_by_role("button", name="Allow", exact=True).click()
    yield "device connected"


async def found_by_axe(page: Page, *, of_colours: bool = False) -> list[str]:
    """What axe objects to on the page; where only the colours are others than before, by the rules of these."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(_AXE)
    options: dict[str, object] = {"resultTypes": ["violations"]}  # what passed is not told node by node
    found = await page.evaluate("axe.run", options | (_OF_COLOURS if of_colours else {}))
    return [f"{rule['id']}: {node['html']}" for rule in found["violations"] for node in rule["nodes"]]


async def with_grants(plane: Plane, ada: str, names: Sequence[str], **of_all: Any) -> Client:
    """Applications that ada has allowed; the first asks again."""
    clients = [(await plane.client(name=name, confidential=False, verified=False, **of_all))[0] for name in names]
    session = await plane.store.sessions.start(ada, "B" * 43, 60)
    assert session is not None
    for client in clients:
        request = AuthorizationRequest(
            client_id=client.client_id, redirect_uri=client.redirect_uris[0], scopes=client.scopes
        )
        await plane.store.flows.issue_code(session.session_id, request, 60, remember=True)
    return clients[0]
