"""The database of the tests: one real Postgres for a whole run, one migrated template, a clone for each test.

    database         the DSN of a fresh, migrated database
    empty_database   the DSN of a database without a schema
    store, keyring   an open Store on `database`, and the keys that it uses
    durable_server   a Postgres of the test's own that is as durable as in production, for crashes

The run's server gives up durability for speed; it is shared by all xdist workers and ends with the last of them.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import pytest

from gateway.crypto import Keyring
from gateway.store import Store
from gateway.store.migrations import migrate
from gateway.supervisor import embedded

_FOLDER = "GATEWAY_TEST_DATABASE"
_TEMPLATE = "template_gateway"
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=400", "autovacuum=off")
_numbers = itertools.count(1)


def new_data_dir() -> Path:
    """A folder for a database, short and reachable by the system user that Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="gwt-", dir="/tmp"))
    folder.chmod(0o711)
    return folder


# How long an example takes, or is in the making, says what else the machine does; what a test may take is pytest's.
hypothesis.settings.register_profile("gateway", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("gateway")


def pytest_configure(config: pytest.Config) -> None:
    """The controller names the run's folder; its xdist workers inherit the name."""
    if not hasattr(config, "workerinput"):
        os.environ[_FOLDER] = str(new_data_dir())


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(_FOLDER), ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The DSN of the run's server, for making databases in it."""
    use = embedded.Use(Path(os.environ[_FOLDER]), options=_FAST)
    dsn = asyncio.run(use.join())
    try:
        yield dsn
    finally:
        asyncio.run(use.leave())


def in_database(dsn: str, name: str) -> str:
    """The same server's DSN for another database."""
    return dsn.replace("/gateway?", f"/{name}?", 1)


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """The name of a migrated database to clone, made by whichever worker comes first."""

    async def make() -> None:
        connection = await asyncpg.connect(server)
        try:
            await connection.execute("select pg_advisory_lock(8642)")
            if await connection.fetchval("select 1 from pg_database where datname = $1", _TEMPLATE) is None:
                await connection.execute(f"create database {_TEMPLATE}_new")
                await migrate(in_database(server, f"{_TEMPLATE}_new"))
                await _rename(connection)
        finally:
            await connection.close()

    asyncio.run(make())
    return _TEMPLATE


async def _rename(connection: asyncpg.Connection) -> None:
    """Give the migrated database its name once the migration's own connection has gone."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(asyncpg.ObjectInUseError):
                await connection.execute(f"alter database {_TEMPLATE}_new rename to {_TEMPLATE}")
                return
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def cloned(server: str, template: str) -> AsyncIterator[str]:
    """A database of its own; gives its DSN."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"create database {name} template {template} strategy file_copy")
        yield in_database(server, name)
    finally:
        await connection.execute(f"drop database if exists {name} with (force)")
        await connection.close()


@pytest.fixture
async def database(server: str, template: str) -> AsyncIterator[str]:
    async with cloned(server, template) as dsn:
        yield dsn


@contextlib.asynccontextmanager
async def cloned_store(server: str, template: str, keyring: Keyring) -> AsyncIterator[tuple[str, Store]]:
    """The same with a store over it, for what is shared by the tests of a module."""
    async with cloned(server, template) as dsn:
        store = await Store.open(dsn, keyring, size=2, name="gateway-test")
        try:
            yield dsn, store
        finally:
            await store.close()


@pytest.fixture
async def empty_database(server: str) -> AsyncIterator[str]:
    async with cloned(server, "template0") as dsn:
        yield dsn


@pytest.fixture(scope="session")
def keyring() -> Keyring:
    return Keyring(b"obviously-a-fake-key-for-tests!!")


@pytest.fixture
async def store(database: str, keyring: Keyring) -> AsyncIterator[Store]:
    opened = await Store.open(database, keyring, size=4, name="gateway-test")
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for a database of the test's own: short, reachable, removed afterwards."""
    folder = new_data_dir()
    yield folder / "data"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def durable_server(data_dir: Path) -> AsyncIterator[embedded.Server]:
    """A migrated Postgres with production's durability; the test may kill it, and it comes back."""
    async with embedded.Server(data_dir) as started:
        await migrate(started.dsn)
        yield started
