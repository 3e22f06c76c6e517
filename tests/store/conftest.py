"""A store whose time a test can move, with a person and a client in it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway import config
from gateway.crypto import Keyring
from gateway.store import Store
from tests.store.rig import MovableClock, Rig


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def store(database: str, keyring: Keyring, clock: MovableClock) -> AsyncIterator[Store]:
    opened = await Store.open(database, keyring, size=4, name="gateway-test", clock=clock)
    yield opened
    await opened.close()


@pytest.fixture
async def rig(store: Store) -> Rig:
    return await Rig.build(store)


@pytest.fixture
async def another(database: str, keyring: Keyring) -> AsyncIterator[Callable[..., Awaitable[Store]]]:
    """More stores on the same database: as other workers have them, with other settings or another clock."""
    async with AsyncExitStack() as stack:

        async def make(
            *, size: int = 4, keys: Keyring = keyring, clock: Any = None, issuer: str = "", **tokens: Any
        ) -> Store:
            read = config.parse({"server": {"public_url": "https://api.example.com"}, "tokens": tokens})
            opened = await Store.open(
                database, keys, size=size, name="gateway-test", tokens=read.tokens, clock=clock, issuer=issuer
            )
            stack.push_async_callback(opened.close)
            return opened

        yield make
