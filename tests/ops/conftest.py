"""What the tests of `ops/` share."""

import shutil
from collections.abc import AsyncIterator

import pytest

from gateway.supervisor import embedded
from tests.conftest import new_data_dir


@pytest.fixture
async def server_of_ones_own() -> AsyncIterator[str]:
    """A server of the test's own, since roles are a whole server's."""
    folder = new_data_dir()
    use = embedded.Use(folder / "data")
    try:
        yield await use.join()
    finally:
        await use.leave()
        shutil.rmtree(folder, ignore_errors=True)
