"""What a worker costs: its memory when it is ready and when it has done everything once, and what it never imports."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.counts import scaled
from tests.serving import ROOT, Gateway, serving

MB = 1_000_000
READY = 55 * MB  # all that is resident, which is 50 here; libraries' own pages, shared by all processes, are a third
PRIVATE = 40 * MB  # what one more worker costs the machine, which is 33 when it is ready and 36 later

IDLE = 4608  # bytes of an idle connection after its first answer, which are 3,900

# What starts, judges a configuration, draws for people, or comes along where it is installed for something else; and
# what is imported when something is sealed or a password is checked.
# fmt: off
NEVER = frozenset((
    "argon2", "brotli", "brotlicffi", "bz2", "click", "cryptography", "difflib", "greenlet", "lzma", "markdown_it",
    "multiprocessing", "prompt_toolkit", "pydantic", "pydantic_core", "pygments", "rich", "setuptools", "sqlite3",
    "tkinter", "tomllib", "twisted", "unittest", "xml", "gateway.cli", "gateway.config.loading",
    "gateway.config.tables", "gateway.supervisor.cluster", "gateway.supervisor.embedded",
    "gateway.supervisor.supervisor",
))
# fmt: on
PROGRAM = """
import json, os, ssl, sys
from gateway import worker
before = dict(os.environ)
worker._program()
left = [name for name, module in sys.modules.items() if module is None]
print(json.dumps({"modules": [*sys.modules], "unchanged": dict(os.environ) == before, "left": left,
                  "certificates": ssl.create_default_context().cert_store_stats()["x509_ca"]}))
"""


def memory(process: psutil.Process) -> tuple[int, int]:
    """What is resident of a process, and what of it is the process's alone, in bytes."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, _ = line.split()
        sizes[name] = int(size) * 1024
    return sizes["Rss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"]


async def test_worker_stays_small(tmp_path: Path) -> None:
    route = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer", "mac"]}
    async with serving(tmp_path, routes=[route]) as gateway:
        for worker in gateway.workers:
            resident, private = memory(worker)
            assert resident <= READY
            assert private <= PRIVATE
        await _do_everything(gateway, times=scaled(300))
        for worker in gateway.workers:
            assert memory(worker)[1] <= PRIVATE


@pytest.mark.long
async def test_idle_connection_costs_a_page_of_memory(tmp_path: Path) -> None:
    count = scaled(5000)
    async with serving(tmp_path, workers=1) as gateway, AsyncExitStack() as connections:
        (worker,) = gateway.workers
        for _ in range(50):  # what is made for the first ones serves the others too
            await _answered_once(gateway, connections)
        before, _ = memory(worker)
        for _ in range(count):
            await _answered_once(gateway, connections)
        assert memory(worker)[0] - before <= count * IDLE


async def _answered_once(gateway: Gateway, connections: AsyncExitStack) -> None:
    """Open a connection that stays, and get one answer on it."""
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    connections.callback(writer.close)
    writer.write(f"GET /nothing HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")


async def _do_everything(gateway: Gateway, times: int) -> None:
    """Pages, documents, refusals of the engine; each a few times, so that every worker has done each."""
    for path, status in {
        "/oauth2/login": 200,  # seals what travels in its form
        "/.well-known/openid-configuration": 200,
        "/notes": 401,
        "/nothing": 404,
    }.items():
        for _ in range(times):
            assert await gateway.status(path) == status


def _started(**environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
        text=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_worker_imports_nothing_that_it_never_needs() -> None:
    modules = _started()["modules"]
    assert isinstance(modules, list)
    assert "gateway.app" in modules
    assert NEVER.intersection(modules) == set()


@pytest.mark.parametrize("stated", [{}, {"SSL_CERT_FILE": ssl.get_default_verify_paths().openssl_cafile}])
def test_what_is_kept_from_a_worker_s_start_is_there_afterwards(stated: dict[str, str]) -> None:
    found = _started(**stated)
    assert found["unchanged"]
    assert found["left"] == []
    assert found["certificates"] == ssl.create_default_context().cert_store_stats()["x509_ca"]
