"""Rigs for the access plane's tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from gateway.store import Store
from tests.loops import WatchedLoop
from tests.proxy.bulk import Spliced, spliced
from tests.proxy.rig import KEYRING, Rig, rig
from tests.proxy.signing import MAC, Signer

__all__ = ["Spliced", "spliced"]

Loops = Mapping[str, Callable[[], asyncio.AbstractEventLoop]]


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Loops:
    """asyncio's own loop, and for the tests that ask for both also the one that the program prefers."""
    loops: Loops = {"asyncio": WatchedLoop, "uvloop": uvloop.new_event_loop}
    asks = any("loop_factories" in mark.kwargs for mark in item.iter_markers("asyncio"))
    return loops if asks else {"asyncio": WatchedLoop}


@pytest.fixture
def no_database() -> Store:
    """A store whose database is not there: public routes never ask it."""
    return Store.over("postgresql://nobody@127.0.0.1:1/none", KEYRING)


@pytest.fixture
async def public(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    """One public route at "/"."""
    async with rig(tmp_path, no_database) as running:
        yield running


@pytest.fixture
async def guarded(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> AsyncIterator[Rig]:
    """The module's ROUTES, which take whatever MAC drafts and algorithms there are."""
    async with rig(tmp_path, store, routes=request.module.ROUTES, mac=MAC) as running:
        yield running


@pytest.fixture
async def signer(store: Store) -> Signer:
    """A client with a MAC token."""
    return await Signer.of(store)
