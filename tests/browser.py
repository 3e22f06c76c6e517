"""The system's Chromium for tests, quiet on a network that reaches only this machine."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Playwright, expect

EXECUTABLE = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
expect.set_options(timeout=30_000)  # as long as Playwright waits for anything else


@asynccontextmanager
async def chromium(playwright: Playwright) -> AsyncIterator[Browser]:
    """A headless browser that ends with the context."""
    assert EXECUTABLE, "the browser tests need Chromium: install the package chromium, or name it in $CHROMIUM"
    browser = await playwright.chromium.launch(executable_path=EXECUTABLE, args=ARGUMENTS, timeout=60_000)
    try:
        yield browser
    finally:
        await browser.close()
