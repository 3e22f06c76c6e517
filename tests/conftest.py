"""The database of the tests: one real Postgres for a whole run, one migrated template, and its clones (`databases`).

    database         the DSN of a migrated database that is as new
    empty_database   the DSN of a database without a schema
    store, keyring   an open Store on `database`, and the keys that it uses
    durable_server   a Postgres of the test's own that is as durable as in production, for crashes

A run ends by naming what it left out and why; with $CI set, it fails where that is not one of `_MAY_BE_LEFT_OUT`.

The run's server gives up durability for speed; it is shared by all xdist workers and ends with the last of them.
"""

import asyncio
import contextlib
import gc
import os
import re
import resource
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import pytest

from gateway.crypto import Keyring
from gateway.store import Store
from gateway.store.database import Server
from gateway.store.migrations import migrate
from gateway.store.pool import Pool
from gateway.supervisor import embedded
from tests.databases import cloned, disconnect, in_database, made
from tests.folders import SHORT, settle
from tests.serving import PATIENCE, RUN, fill

__all__ = ["cloned", "in_database"]

_TEMPLATE = "template_gateway"
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=400", "autovacuum=off")
_MAY_BE_LEFT_OUT = re.compile(
    r"(go|node) is not installed, so the client in \w+ cannot be run"  # others of the page are
    r"|the clients in \w+ are not installed: make clients"  # they come from the registries alone
    r"|only root can act for other users"
    r"|the scans cannot be compiled: it needs a C compiler"
    r"|(systemd-analyze|docker-compose) is not installed"
    r"|PostgreSQL 15 is not installed, of which an old database could be made"
    r"|other users cannot go to .*|no interpreter is in other users' reach"  # the checkout lies in somebody's home
)


def new_data_dir() -> Path:
    """A folder for a database, short and reachable by the system user that Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="gwt-", dir=SHORT))
    folder.chmod(0o711)
    return folder


# How long an example takes, or is in the making, says what else the machine does; what a test may take is pytest's.
hypothesis.settings.register_profile("gateway", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("gateway")


def pytest_configure(config: pytest.Config) -> None:
    """The controller names the run's folder; its xdist workers inherit the name."""
    settle()
    # A shell gives an ordinary user 1,024 open files, and single tests take more.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is started a thousand times is compiled once
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = str(new_data_dir())


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(RUN), ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays: to look for garbage in it, now and ever after, is a third of the time that it takes."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no process of a run is left with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def _left_out(config: pytest.Config) -> Counter[str]:
    """How many tests were skipped, by the reason."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", ()) if reporter is not None else ()
    return Counter(str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped)


def _forbidden(config: pytest.Config) -> list[str]:
    """The reasons that end a run of CI."""
    if not os.environ.get("CI") or hasattr(config, "workerinput"):
        return []
    return [reason for reason in _left_out(config) if not _MAY_BE_LEFT_OUT.fullmatch(reason)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.exitstatus == pytest.ExitCode.OK and _forbidden(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    forbidden = _forbidden(config)
    if left_out := _left_out(config):
        terminalreporter.section("left out")
        for reason, count in left_out.most_common():
            mark = "  (CI takes this for a failure)" if reason in forbidden else ""
            terminalreporter.line(f"{count:4} {'test' if count == 1 else 'tests'}: {reason}{mark}")


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The DSN of the run's server, for making databases in it."""
    use = embedded.Use(Path(os.environ[RUN]), options=_FAST)
    dsn = asyncio.run(use.join())
    try:
        yield dsn
    finally:
        asyncio.run(disconnect())
        asyncio.run(use.leave())


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
    async with made(server, "template0") as dsn:
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
def patient_stores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores that wait for the database for as long as a busy machine needs."""
    monkeypatch.setattr(Pool.lend, "__defaults__", (PATIENCE,))
    monkeypatch.setitem(Server.connect.__kwdefaults__ or {}, "statement_timeout", PATIENCE)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for a database of the test's own: short, reachable, removed afterwards."""
    folder = new_data_dir()
    yield folder / "data"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def durable_server(data_dir: Path) -> AsyncIterator[embedded.Server]:
    """A migrated Postgres with production's durability; the test may kill it, and it comes back."""
    fill(data_dir)
    async with embedded.Server(data_dir) as started:
        yield started
