"""Rigs for the access plane's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.store import Store
from tests.proxy.rig import KEYRING, Rig, rig


@pytest.fixture
def no_database() -> Store:
    """A store whose database is not there: public routes never ask it."""
    return Store.over("postgresql://nobody@127.0.0.1:1/none", KEYRING)


@pytest.fixture
async def public(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    """One public route at "/"."""
    async with rig(tmp_path, no_database) as running:
        yield running
