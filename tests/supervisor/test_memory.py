"""What a worker costs: its memory when it is ready and when it has done everything once, and what it never imports."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from gateway.model import SESSION_COOKIE
from gateway.store import Store
from gateway.web.browser import SESSION_LIFETIME, new_session_token
from gateway.web.passwords import AT_ONCE, WAITING
from tests.counts import scaled
from tests.serving import ROOT, Gateway, serving, until
from tests.web.rig import PASSWORD_HASH, SCOPES, Browser, authorize_path, basic, code_fields, code_for, new_client

pytestmark = pytest.mark.measures

MB = 1_000_000
# All that is resident differs by some 4 MB, by how large the pieces are in which the system's cache holds libraries: a
# piece is mapped whole.
ACCESS = 70 * MB  # of a worker that has done everything once, which is 48 to 52
OWN = 36 * MB  # what one more of them costs the machine, which is 31
AUTHORIZATION = 90 * MB  # of the worker that shows pages and issues tokens, which is 50 to 54
AUTHORIZATION_OWN = 43 * MB  # which is 38
CHECK = 20 * MB  # a password check, while it is under way
CHECKS = 2 * MB  # what checks a password, once it is loaded

PASSES = 502  # nothing listens behind the route
IDLE = 4096  # bytes of an idle connection after its first answer, which are 3,600

# What starts, draws for people, or comes along where it is installed for something else; and
# what is imported when something is sealed or a password is checked.
# fmt: off
NEVER = frozenset((
    "argon2", "brotli", "brotlicffi", "bz2", "click", "cryptography", "greenlet", "lzma", "markdown_it",
    "multiprocessing", "prompt_toolkit", "pygments", "rich", "setuptools", "sqlite3",
    "tkinter", "twisted", "unittest", "xml", "gateway.cli", "gateway.config.reference", "gateway.supervisor.cluster",
    "gateway.supervisor.embedded", "gateway.supervisor.supervisor",
))
OF_THE_OTHER_PLANE = {
    "access": {"aiohttp", "aiohttp_jinja2", "jinja2", "gateway.web.app", "gateway.app.authorization"},
    "authorization": {
        "aiohttp.client", "aiohttp.connector", "argparse", "gateway.guard", "gateway.proxy", "gateway.http1",
        "gateway.app.access", "http_sf", "urllib.request",
    },
}
# fmt: on
PROGRAM = """
import json, os, sys
from gateway import worker
before = dict(os.environ)
worker._MISSING += tuple(sys.argv[2:])
worker.program(sys.argv[1])
left = [name for name, module in sys.modules.items() if module is None or isinstance(module, worker._Empty)]
print(json.dumps({"modules": [*sys.modules], "unchanged": dict(os.environ) == before, "left": left}))
"""


def memory(process: psutil.Process) -> tuple[int, int]:
    """What is resident of a process, and what of it is in no file, so that the process has it for itself; in bytes."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, _ = line.split()
        sizes[name] = int(size) * 1024
    return sizes["Rss:"], sizes["Anonymous:"]


@pytest.mark.long
async def test_worker_stays_small(tmp_path: Path, database: str) -> None:
    route = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer", "mac"]}
    async with serving(tmp_path, dsn=database, workers=1, routes=[route]) as gateway:
        await _do_everything(gateway, times=scaled(300))
        [access], [authorization] = gateway.workers, gateway.authorization_workers
        resident, own = memory(access)
        assert resident <= ACCESS
        assert own <= OWN
        resident, own = memory(authorization)
        assert resident <= AUTHORIZATION
        assert own <= AUTHORIZATION_OWN


@pytest.mark.long
async def test_worker_that_shows_pages_stays_small(tmp_path: Path, database: str, store: Store) -> None:
    async with serving(tmp_path, dsn=database, workers=1, scopes=SCOPES) as gateway, AsyncExitStack() as stack:
        (worker,) = gateway.authorization_workers
        browser = Browser(gateway.url)
        stack.push_async_callback(browser.close)
        await _show_everything(browser, store, times=scaled(100))
        resident, own = memory(worker)
        assert resident <= AUTHORIZATION
        assert own <= AUTHORIZATION_OWN
        await asyncio.gather(*(browser.sign_in() for _ in range(AT_ONCE + WAITING)))
        assert memory(worker)[0] <= AUTHORIZATION + CHECKS + AT_ONCE * CHECK
        await browser.sign_in()
        await until(lambda: memory(worker)[1] <= AUTHORIZATION_OWN + CHECKS)


@pytest.mark.long
async def test_idle_connection_costs_a_page_of_memory(tmp_path: Path, database: str) -> None:
    count = scaled(5000)
    async with serving(tmp_path, dsn=database, workers=1) as gateway, AsyncExitStack() as connections:
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


async def _show_everything(browser: Browser, store: Store, times: int) -> None:
    """Every page, document and endpoint, for somebody whose session began elsewhere: no password is hashed."""
    user = await store.create_user("ada", None, None, PASSWORD_HASH)
    client, secret = await new_client(store)
    session, credentials = new_session_token(), basic(client.client_id, secret)
    await store.start_session(user.subject, session, SESSION_LIFETIME)
    for _ in range(times):
        browser.forget(SESSION_COOKIE)
        for path, status in {
            "/oauth2/login": 200,
            authorize_path(client): 200,
            "/oauth2/logout": 200,
            "/oauth2/account": 303,
            "/oauth2/authorize": 400,
            "/.well-known/oauth-authorization-server": 200,
        }.items():
            assert (await browser.get(path)).status == status
        browser.set_cookie(SESSION_COOKIE, session)
        code = await code_for(browser, client, sorted(SCOPES), prompt="consent")
        answer = await browser.send("POST", "/oauth2/token", code_fields(code, client), credentials)
        token = answer.json["access_token"]
        answer = await browser.send("POST", "/oauth2/introspect", [("token", token)], credentials)
        assert answer.json["active"]
        for path in ("/oauth2/account", "/oauth2/logout"):
            assert (await browser.get(path)).status == 200


async def _do_everything(gateway: Gateway, times: int) -> None:
    """Pages, documents, refusals, calls by bearer and by MAC, for whose first one a key is unsealed."""
    client = await gateway.run("client", "create", "--name", "x", "--grant-type", "client_credentials")
    issue = ("token", "issue", "--client", client["client_id"], "--type")
    bearer, mac = await gateway.run(*issue, "bearer"), await gateway.run(*issue, "mac")
    named = ("--id", mac["access_token"], "--key", mac["mac_key"], "--method", "GET", "--url", f"{gateway.url}/notes")
    called = [f"Bearer {bearer['access_token']}"] * times
    called.append((await gateway.run("mac", "sign", *named))["authorization"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        for credential in called:
            async with session.get(f"{gateway.url}/notes", headers={"Authorization": credential}) as answer:
                assert answer.status == PASSES
        for path, status in {
            "/oauth2/login": 200,  # seals what travels in its form
            "/.well-known/openid-configuration": 200,
            "/notes": 401,
            "/nothing": 404,
        }.items():
            for accept in ("text/html", "application/json") * times:
                async with session.get(gateway.url + path, headers={"Accept": accept}) as answer:
                    assert answer.status == status


def _started(plane: str, *missing: str, **environment: str) -> dict[str, object]:
    """What a worker's process has loaded, where those modules are missing besides."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, plane, *missing],
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=True,
        text=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("plane", sorted(OF_THE_OTHER_PLANE))
def test_worker_imports_nothing_that_it_never_needs(plane: str) -> None:
    modules = _started(plane)["modules"]
    assert isinstance(modules, list)
    assert f"gateway.app.{plane}" in modules
    assert (NEVER | OF_THE_OTHER_PLANE[plane]).intersection(modules) == set()


@pytest.mark.parametrize("plane", sorted(OF_THE_OTHER_PLANE))
@pytest.mark.parametrize("stated", [{}, {"FROZENLIST_NO_EXTENSIONS": ""}])
def test_what_is_kept_from_a_worker_s_start_is_there_afterwards(plane: str, stated: dict[str, str]) -> None:
    found = _started(plane, **stated)
    assert found["unchanged"]
    assert found["left"] == []


def test_worker_starts_with_all_where_a_library_needs_what_was_kept_out() -> None:
    modules = _started("authorization", "aiohttp.hdrs")["modules"]
    assert isinstance(modules, list)
    assert {"gateway.app.authorization", "aiohttp.hdrs", "aiohttp.client"}.issubset(modules)


def test_what_is_kept_out_of_a_worker_is_never_made_by_mistake() -> None:
    program = "from gateway import worker; worker.program('authorization'); import aiohttp; aiohttp.ClientSession()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, cwd=ROOT, text=True)
    assert "ImportError: this is kept out of a worker" in done.stderr
