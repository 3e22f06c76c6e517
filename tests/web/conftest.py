"""A served authorization plane, browsers towards it, and who is there."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser as Chromium
from playwright.async_api import async_playwright

from gateway.crypto import Keyring
from gateway.model import Client
from gateway.store import Store
from tests.browser import chromium as a_chromium
from tests.loops import pytest_asyncio_loop_factories
from tests.web.rig import Browser, Plane, serving

__all__ = ["pytest_asyncio_loop_factories"]


@pytest.fixture
async def chromium() -> AsyncIterator[Chromium]:
    async with async_playwright() as playwright, a_chromium(playwright) as browser:
        yield browser


@pytest.fixture
async def plane(store: Store, keyring: Keyring, tmp_path: Path) -> AsyncIterator[Plane]:
    async with serving(store, keyring, tmp_path) as served:
        yield served


@pytest.fixture
async def browser(plane: Plane) -> AsyncIterator[Browser]:
    opened = Browser(plane.url)
    yield opened
    await opened.close()


@pytest.fixture
async def stranger(plane: Plane) -> AsyncIterator[Browser]:
    """Another browser."""
    opened = Browser(plane.url)
    yield opened
    await opened.close()


@pytest.fixture
async def ada(plane: Plane) -> str:
    """A user's subject."""
    return await plane.user()


@pytest.fixture
async def signed_in(browser: Browser, ada: str) -> Browser:
    """A browser in which ada is signed in."""
    assert (await browser.sign_in()).status == 303
    return browser


@pytest.fixture
async def client(plane: Plane) -> Client:
    """A confidential client."""
    return (await plane.client())[0]


@pytest.fixture
async def public(plane: Plane) -> Client:
    """A public client."""
    return (await plane.client(name="Pocket Notes", confidential=False))[0]


Registered = Callable[..., Awaitable[tuple[Client, str]]]


@pytest.fixture
def register(plane: Plane) -> Registered:
    """Registers a client; gives it with its secret."""
    return plane.client
