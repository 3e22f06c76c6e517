"""HTTP message signatures from the commands to the upstream: a client is made, a request signed, and passes once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.proxy.rig import RawUpstream
from tests.proxy.signing import nonces
from tests.serving import Gateway, serving


@pytest.fixture
async def running(tmp_path: Path, database: str) -> AsyncIterator[tuple[Gateway, RawUpstream]]:
    """A gateway of two workers with one route that takes signatures."""
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(RawUpstream().serving())
        route = {
            "name": "notes",
            "path": "/notes",
            "upstreams": [f"http://127.0.0.1:{upstream.port}"],
            "auth": ["signature"],
            "scopes": ["notes"],
        }
        scopes = {"notes": "Your notes"}
        yield await stack.enter_async_context(serving(tmp_path, routes=[route], dsn=database, scopes=scopes)), upstream


async def test_signed_request_passes_once_over_all_workers(running: tuple[Gateway, RawUpstream], database: str) -> None:
    gateway, upstream = running
    client = await gateway.run(
        *("client", "create", "--name", "Signer", "--grant-type", "client_credentials"),
        *("--scope", "notes", "--token-type", "mac"),
    )
    tokens = await gateway.run("token", "issue", "--client", client["client_id"], "--scope", "notes")
    url = f"{gateway.url}/notes?b=1&a=2"
    signed = await gateway.run(
        *("signature", "sign", "--keyid", tokens["access_token"], "--key-stdin", "--method", "POST", "--url", url),
        *("--body", "hello", "--field", "Content-Type: text/plain", "--cover", "content-type"),
        text=tokens["mac_key"],
    )
    headers = {
        "Content-Type": "text/plain",
        "Content-Digest": signed["content_digest"],
        "Signature-Input": signed["signature_input"],
        "Signature": signed["signature"],
    }

    async def status(**changes: str) -> int:
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(url, data=changes.pop("body", "hello"), headers=headers | changes) as answer,
        ):
            return answer.status

    assert await status(body="hallo") == 401
    assert await status(**{"Content-Type": "text/html"}) == 401
    assert await nonces(database) == 0
    found = await asyncio.gather(*(status() for _ in range(20)))
    assert sorted(found) == [200] + [401] * 19
    (seen,) = upstream.requests
    assert (seen.body, seen.one("x-auth-token-type"), seen.one("x-auth-scope")) == (b"hello", "signature", "notes")
    assert await nonces(database) == 1
    assert tokens["access_token"] not in gateway.log_text
    assert signed["signature"] not in gateway.log_text
