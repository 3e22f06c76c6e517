"""An installation that is healthy but for what a test does to it, on a durable server, by a role of its own."""

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from gateway.crypto import new_master_key
from gateway.store.migrations import migrate
from gateway.supervisor import embedded
from tests.conftest import new_data_dir
from tests.databases import in_database
from tests.doctor.rig import HOST, upstream
from tests.loops import pytest_asyncio_loop_factories
from tests.serving import free_ports, toml, write_key

__all__ = ["pytest_asyncio_loop_factories"]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Installation:
    """A configuration file, table by table, and the folder that it lies in."""

    folder: Path
    tables: dict[str, dict[str, Any]]
    route: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    issuer: dict[str, Any] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def write(self) -> Path:
        text = "".join(f"[{name}]\n{toml(table)}\n" for name, table in self.tables.items())
        text += "" if self.issuer is None else f"[[issuers]]\n{toml(self.issuer)}"
        self.config.write_text(f"{text}[[routes]]\n{toml(self.route)}")
        self.config.chmod(0o600)
        return self.config


def healthy(folder: Path, dsn: str) -> Installation:
    """A healthy one on a migrated database, whose upstream answers."""
    public, admin = free_ports(2)
    write_key(folder / "master.key", new_master_key())
    tables: dict[str, dict[str, Any]] = {
        "server": {"listen": f"127.0.0.1:{public}", "public_url": f"https://{HOST}", "workers": 1},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "database": {"url": dsn},
        "keys": {"master": {"file": "master.key"}},
        "scopes": {"notes:read": "Read your notes"},
    }
    route = {
        "name": "notes",
        "path": "/notes",
        "hosts": ["notes.example.com"],
        "upstreams": ["http://127.0.0.1:9"],
        "auth": ["bearer"],
        "scopes": ["notes:read"],
    }
    return Installation(folder, tables, route)


@pytest.fixture(scope="module")
def durable() -> Iterator[str]:
    """The DSN of a superuser on a server as it comes, with a migrated template that the role `serving` owns."""
    folder = new_data_dir()
    use = embedded.Use(folder / "data")

    async def begin() -> str:
        dsn = await use.join()
        await run(dsn, "create role serving login", "create database template_serving owner serving")
        await migrate(as_serving(in_database(dsn, "template_serving")))
        return dsn

    try:
        yield asyncio.run(begin())
    finally:
        asyncio.run(use.leave())
        shutil.rmtree(folder, ignore_errors=True)


def as_serving(dsn: str, role: str = "serving") -> str:
    return dsn.replace("//gateway@", f"//{role}@", 1)


async def run(dsn: str, *statements: str) -> None:
    """Statements of somebody else's, one by one."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


_numbers = itertools.count(1)


@pytest.fixture
async def fresh(durable: str) -> AsyncIterator[str]:
    """The superuser's DSN of a database of the test's own."""
    name = f"doctor_{next(_numbers)}"
    await run(durable, f"create database {name} template template_serving owner serving")
    yield in_database(durable, name)
    await run(durable, f"drop database {name} with (force)")


@pytest.fixture
async def installation(tmp_path: Path, fresh: str) -> AsyncIterator[Installation]:
    tmp_path.chmod(0o700)
    made = healthy(tmp_path, as_serving(fresh))
    async with upstream(OK) as port:
        made.route["upstreams"] = [f"http://127.0.0.1:{port}"]
        yield made
