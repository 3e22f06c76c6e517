"""From nothing to an authorised call, with parts that nobody here wrote: httpbin behind the gateway, a real OAuth
client, a real browser, oauthlib's MAC signer.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
import requests
from oauthlib.oauth2.rfc6749.tokens import prepare_mac_header
from playwright.async_api import Page, async_playwright
from requests_oauthlib import OAuth2Session

from tests.browser import chromium
from tests.counts import scaled
from tests.serving import PATIENCE, Gateway, free_ports, holds_within, serving, until

REDIRECT_URI = "http://127.0.0.1/callback"  # a loopback client: the port is its own (RFC 8252, section 7.3)
PASSWORD = "correct horse battery staple"
SIZE = 64 * 1024 * 1024


@dataclass
class World:
    """httpbin behind a gateway of two workers, a person, and a client."""

    gateway: Gateway
    client: dict[str, Any]
    upstream: "Httpbin"

    def session(self, *scopes: str) -> OAuth2Session:
        redirect_uri = REDIRECT_URI.replace("127.0.0.1", "127.0.0.1:49152")
        return OAuth2Session(self.client["client_id"], scope=list(scopes), redirect_uri=redirect_uri, pkce="S256")


class Httpbin:
    """PyPI's httpbin in a process of its own, with the requests that it saw in its log."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self._log = folder / "httpbin.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-m", "flask", "--app", "httpbin:app", "run", "-p", str(self.port)],
                stdout=log,
                stderr=log,
            )

    @property
    def seen(self) -> list[str]:
        """The request lines that reached it."""
        return [line.split('"')[1] for line in self._log.read_text().splitlines() if '"' in line and "HTTP/1." in line]

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return requests.get(f"http://127.0.0.1:{self.port}/status/204", timeout=2).status_code == 204
        return False


@contextlib.contextmanager
def httpbin(folder: Path) -> Iterator[Httpbin]:
    upstream = Httpbin(folder)
    try:
        yield upstream
    finally:
        upstream.process.kill()
        upstream.process.wait()


@pytest.fixture(autouse=True)
def relaxed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What oauthlib wants to be told: the gateway is on plain http here, and a person may allow less than asked."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_RELAX_TOKEN_SCOPE", "1")


@pytest.fixture
async def world(tmp_path: Path, database: str) -> AsyncIterator[World]:
    with httpbin(tmp_path) as upstream:
        shared = {"upstreams": [f"http://127.0.0.1:{upstream.port}"], "max_body": "65MiB", "timeout": "60s"}
        scopes = {"GET": ["things:read"], "*": ["things:write"]}
        routes = [
            {"name": "bearer", "path": "/bearer", "strip_prefix": "/bearer", "auth": ["bearer"], "scopes": scopes},
            {"name": "mac", "path": "/mac", "strip_prefix": "/mac", "auth": ["mac"], "scopes": scopes},
        ]
        described = {"things:read": "See your things", "things:write": "Change your things"}
        async with serving(
            tmp_path, routes=[{**route, **shared} for route in routes], dsn=database, scopes=described
        ) as gateway:
            await gateway.run("user", "create", "--username", "ada", "--email", "ada@example.test", "--password-stdin",
                              text=PASSWORD)  # fmt: skip
            client = await gateway.run("client", "create", "--name", "Thing viewer", "--redirect-uri", REDIRECT_URI,
                                       "--scope", "things:read", "--scope", "things:write")  # fmt: skip
            await until(upstream.answers)
            yield World(gateway, client, upstream)


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright, chromium(playwright) as browser:
        yield await browser.new_page()


async def authorize(page: Page, url: str, *, untick: str | None = None) -> str:
    """Sign in, untick a scope, allow; the URL to which the browser is sent back."""
    sent_back = asyncio.get_running_loop().create_future()

    def note(request: Any) -> None:
        if request.url.startswith("http://127.0.0.1:49152/callback") and not sent_back.done():
            sent_back.set_result(request.url)

    page.on("request", note)
    await page.goto(url)
    await page.fill("input[name=username]", "ada")
    await page.fill("input[name=password]", PASSWORD)
    await page.click("button[type=submit]")
    await page.wait_for_selector("input[name=scope]")
    if untick is not None:
        await page.uncheck(f"input[name=scope][value='{untick}']")
    await page.click("button[name=decision][value=allow]")
    async with asyncio.timeout(PATIENCE):
        url = await sent_back
    return str(url)


@pytest.mark.browser
async def test_a_person_allows_a_client_one_scope_and_its_token_opens_just_that(world: World, page: Page) -> None:
    gateway, upstream = world.gateway, world.upstream
    session = world.session("things:read", "things:write")
    url, state = await asyncio.to_thread(session.authorization_url, f"{gateway.url}/oauth2/authorize")
    callback = await authorize(page, url, untick="things:write")
    answer = parse_qs(urlsplit(callback).query)
    assert answer["state"] == [state]
    assert answer["iss"] == [gateway.url]

    token = await asyncio.to_thread(
        session.fetch_token,
        f"{gateway.url}/oauth2/token",
        authorization_response=callback,
        client_secret=world.client["client_secret"],
        include_client_id=True,
    )
    assert token["scope"] == ["things:read"]
    assert token["access_token"].startswith("gwa_")

    spoofed = {"X-Auth-Subject": "root", "X-Forwarded-User": "root", "Cookie": "gateway_session=x; theirs=1"}
    echoed = await asyncio.to_thread(session.get, f"{gateway.url}/bearer/anything?a=%2F&show_env=1", headers=spoofed)
    assert echoed.status_code == 200
    headers = echoed.json()["headers"]
    user = await gateway.run("user", "show", "ada")
    assert headers["X-Auth-Subject"] == user["subject"]
    assert headers["X-Forwarded-User"] == "ada"
    assert headers["X-Forwarded-Email"] == "ada@example.test"
    assert headers["X-Auth-Client-Id"] == world.client["client_id"]
    assert headers["X-Auth-Scope"] == "things:read"
    assert headers["X-Auth-Token-Type"] == "bearer"
    assert headers["X-Request-Id"] == echoed.headers["X-Request-Id"]
    assert headers["X-Forwarded-For"] == "127.0.0.1"
    assert headers["X-Forwarded-Host"] == urlsplit(gateway.url).netloc
    assert headers["Cookie"] == "theirs=1"
    assert "Authorization" not in headers
    assert "root" not in str(headers)
    assert token["access_token"] not in echoed.text

    refused = await asyncio.to_thread(session.post, f"{gateway.url}/bearer/anything/never", data=b"x")
    assert refused.status_code == 403
    assert 'scope="things:write"' in refused.headers["WWW-Authenticate"]
    assert not [line for line in upstream.seen if "never" in line]

    session.scope = token["scope"]  # what was granted: a refresh may not ask for more (RFC 6749, section 6)
    credentials = (world.client["client_id"], world.client["client_secret"])
    fresh = await asyncio.to_thread(session.refresh_token, f"{gateway.url}/oauth2/token", auth=credentials)
    assert fresh["refresh_token"] != token["refresh_token"]
    assert (await asyncio.to_thread(session.get, f"{gateway.url}/bearer/get")).status_code == 200

    ended = await asyncio.to_thread(
        requests.post, f"{gateway.url}/oauth2/revoke", data={"token": fresh["refresh_token"]}, auth=credentials
    )
    assert (ended.status_code, ended.json()) == (200, {})

    async def refused_everywhere() -> bool:
        return (await asyncio.to_thread(session.get, f"{gateway.url}/bearer/get")).status_code == 401

    # The other worker may have it in its cache, and has a second to hear of it.
    await holds_within(1, refused_everywhere)
    for secret in (token["access_token"], token["refresh_token"], fresh["access_token"], answer["code"][0], PASSWORD):
        assert secret not in gateway.log_text


async def test_a_signed_request_passes_once_on_whichever_worker(world: World) -> None:
    gateway = world.gateway
    token = await gateway.run("token", "issue", "--client", world.client["client_id"], "--user", "ada", "--type", "mac",
                              "--scope", "things:read")  # fmt: skip
    workers: set[str] = set()
    number = 0
    while number < scaled(100) or len(workers) < 2:
        url = f"{gateway.url}/mac/anything/{number}?b=1&a=2"
        header = prepare_mac_header(
            token["access_token"], url, token["mac_key"], "GET", hash_algorithm=token["mac_algorithm"], draft=1
        )
        first = await asyncio.to_thread(requests.get, url, headers=header)
        assert first.status_code == 200
        assert first.json()["headers"]["X-Auth-Token-Type"] == "mac"
        replays = await asyncio.gather(*(asyncio.to_thread(requests.get, url, headers=header) for _ in range(6)))
        assert {replay.status_code for replay in replays} == {401}
        workers |= {answer.headers["X-Request-Id"][:16] for answer in (first, *replays)}
        assert len([line for line in world.upstream.seen if f"/anything/{number}?" in line]) == 1
        number += 1


async def test_64_mib_pass_up_and_down_byte_for_byte_in_little_memory(world: World) -> None:
    gateway = world.gateway
    token = await gateway.run("token", "issue", "--client", world.client["client_id"], "--user", "ada",
                              "--scope", "things:write", "--scope", "things:read")  # fmt: skip
    bearer = {"Authorization": f"Bearer {token['access_token']}", "Content-Type": "application/octet-stream"}
    for _ in range(4):
        await asyncio.to_thread(requests.post, f"{gateway.url}/bearer/post", data=b"warm", headers=bearer)
    workers = gateway.workers
    before = {worker.pid: worker.memory_info().rss for worker in workers}
    body = os.urandom(SIZE)
    posting = asyncio.create_task(
        asyncio.to_thread(requests.post, f"{gateway.url}/bearer/post", data=body, headers=bearer, timeout=290)
    )
    growth = 0
    while not posting.done():
        growth = max(growth, *(_rss(worker) - before[worker.pid] for worker in workers))
        await asyncio.wait([posting], timeout=0.02)
    echoed = await posting
    assert echoed.status_code == 200
    data = echoed.json()["data"]  # httpbin echoes binary data as a data: URL of some 86 MiB
    received = base64.b64decode(data.partition("base64,")[2])
    assert hashlib.sha256(received).digest() == hashlib.sha256(body).digest()
    assert growth < 8 * 1024 * 1024


def _rss(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0
