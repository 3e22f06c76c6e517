"""A data_dir whose cluster is made: initdb takes longest of all."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.supervisor import embedded
from tests.conftest import new_data_dir


@pytest.fixture(scope="module")
def template_dir() -> Iterator[Path]:
    """A data_dir whose cluster is made, since initdb takes longest of all."""
    folder = new_data_dir()

    async def make() -> None:
        async with embedded.running(folder / "data"):
            pass

    asyncio.run(make())
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def made(template_dir: Path, data_dir: Path) -> Path:
    """A data_dir with a cluster."""
    subprocess.run(["cp", "-a", template_dir, data_dir], check=True)
    return data_dir
