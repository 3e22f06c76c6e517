"""What a worker costs: its memory when it is ready and when it has done everything once, and what it never imports."""

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import psutil
import pytest

from gateway.crypto import Keyring
from gateway.model import SESSION_COOKIE
from gateway.store import Store
from gateway.web.browser import SESSION_LIFETIME, new_session_token
from gateway.web.passwords import AT_ONCE, WAITING
from tests.counts import scaled
from tests.issuers import an_issuer
from tests.serving import ROOT, Gateway, serving, until
from tests.web.rig import PASSWORD_HASH, SCOPES, Browser, authorize_path, basic, code_fields, code_for, new_client

pytestmark = pytest.mark.measures

MB = 1_000_000
ACCESS = 70 * MB  # of a worker that has done everything once
ISSUERS = 20 * MB  # more, once it has proven a token of another issuer
AUTHORIZATION = 90 * MB  # of the worker that shows pages and issues tokens
CHECK = 20 * MB  # a password check, while it is under way
CHECKS = 2 * MB  # what checks a password, once it is loaded

PASSES = 502  # nothing listens behind the route
IDLE = 4096  # bytes of an idle connection after its first answer, which are 3,600

# What starts, draws for people, or comes along where it is installed for something else; and
# what is imported when something is sealed or a password is checked.
# fmt: off
NEVER = frozenset((
    "argon2", "click", "cryptography", "gateway.cli", "gateway.config.reference", "gateway.supervisor.cluster",
    "gateway.supervisor.embedded", "gateway.supervisor.supervisor", "pycares",
))
OF_THE_OTHER_PLANE = {
    "access": {"aiohttp", "aiohttp_jinja2", "jinja2", "gateway.web.app", "gateway.app.authorization"},
    "authorization": {
        "gateway.guard", "gateway.proxy", "gateway.app.access", "http_sf",
    },
}
# fmt: on
PROGRAM = "import json, sys; from gateway import worker; worker.program(sys.argv[1]); print(json.dumps([*sys.modules]))"


def memory(process: psutil.Process) -> int:
    """What is resident of a process, in bytes."""
    return int(process.memory_info().rss)


@pytest.mark.long
async def test_worker_stays_small(tmp_path: Path, database: str) -> None:
    route = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer", "mac"]}
    async with serving(tmp_path, dsn=database, workers=1, routes=[route]) as gateway:
        await _do_everything(gateway, times=scaled(300))
        [access], [authorization] = gateway.workers, gateway.authorization_workers
        assert memory(access) <= ACCESS
        assert memory(authorization) <= AUTHORIZATION


@pytest.mark.long
async def test_worker_that_proves_tokens_of_other_issuers_takes_little_more(tmp_path: Path, database: str) -> None:
    route = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]}
    route |= {"issuers": ["corp"]}
    async with (
        an_issuer() as issuer,
        serving(tmp_path, dsn=database, workers=1, routes=[route], issuers=[issuer.configured()]) as gateway,
        aiohttp.ClientSession() as session,
    ):
        for number in range(scaled(2000)):
            fields = {"Authorization": f"Bearer {issuer.token(jti=str(number))}"}
            async with session.get(f"{gateway.url}/notes", headers=fields) as answer:
                assert answer.status == PASSES
        (access,) = gateway.workers
        assert memory(access) <= ACCESS + ISSUERS, memory(access)


@pytest.mark.long
async def test_worker_that_shows_pages_stays_small(
    tmp_path: Path, database: str, store: Store, keyring: Keyring
) -> None:
    async with serving(tmp_path, dsn=database, workers=1, scopes=SCOPES) as gateway, AsyncExitStack() as stack:
        (worker,) = gateway.authorization_workers
        browser = Browser(gateway.url)
        stack.push_async_callback(browser.close)
        await _show_everything(browser, store, new_session_token(keyring), times=scaled(100))
        shown = memory(worker)
        assert shown <= AUTHORIZATION
        await asyncio.gather(*(browser.sign_in() for _ in range(AT_ONCE + WAITING)))
        assert memory(worker) <= shown + CHECKS + AT_ONCE * CHECK
        await browser.sign_in()
        await until(lambda: memory(worker) <= shown + CHECKS)  # what the checks took is given back


@pytest.mark.long
async def test_idle_connection_costs_a_page_of_memory(tmp_path: Path, database: str) -> None:
    count = scaled(5000)
    async with serving(tmp_path, dsn=database, workers=1) as gateway, AsyncExitStack() as connections:
        (worker,) = gateway.workers
        for _ in range(50):  # what is made for the first ones serves the others too
            await _answered_once(gateway, connections)
        before = memory(worker)
        for _ in range(count):
            await _answered_once(gateway, connections)
        assert memory(worker) - before <= count * IDLE


async def _answered_once(gateway: Gateway, connections: AsyncExitStack) -> None:
    """Open a connection that stays, and get one answer on it."""
    address = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    connections.callback(writer.close)
    writer.write(f"GET /nothing HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")


async def _show_everything(browser: Browser, store: Store, session: str, times: int) -> None:
    """Every page, document and endpoint, for somebody whose session began elsewhere: no password is hashed."""
    user = await store.users.create("ada", None, None, PASSWORD_HASH)
    client, secret = await new_client(store)
    credentials = basic(client.client_id, secret)
    await store.sessions.start(user.subject, session, SESSION_LIFETIME)
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


@pytest.mark.parametrize("plane", sorted(OF_THE_OTHER_PLANE))
def test_worker_imports_nothing_that_it_never_needs(plane: str) -> None:
    command = [sys.executable, "-c", PROGRAM, plane]
    modules = json.loads(subprocess.run(command, capture_output=True, cwd=ROOT, check=True, text=True).stdout)
    assert f"gateway.app.{plane}" in modules
    assert (NEVER | OF_THE_OTHER_PLANE[plane]).intersection(modules) == set()
