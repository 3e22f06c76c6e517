"""DPoP (RFC 9449) between the processes of a real gateway: a proof passes once, whichever worker it comes to."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from tests.counts import scaled
from tests.oauth.proofs import ES256, OTHER, proof
from tests.proxy.rig import RawUpstream
from tests.serving import on_every_worker, serving
from tests.web.rig import basic


def call_headers(url: str, token: str, jti: str, **changes: Any) -> dict[str, str]:
    usual: dict[str, Any] = {"key": ES256, "method": "GET", "url": f"{url}/notes/1", "now": time.time(), "token": token}
    return {"Authorization": f"DPoP {token}", "DPoP": proof(jti=jti, **(usual | changes))}


async def test_proof_passes_once_over_two_workers_and_never_reaches_the_upstream(tmp_path: Path, database: str) -> None:
    async with RawUpstream().serving() as upstream:
        route = {
            "name": "notes",
            "path": "/notes",
            "upstreams": [f"http://127.0.0.1:{upstream.port}"],
            "auth": ["bearer"],
            "dpop": "optional",
        }
        async with (
            serving(tmp_path, dsn=database, routes=[route], workers=2, scopes={"read": "Read"}) as gateway,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session,
        ):
            client = await gateway.run("client", "create", "--name", "App", "--grant-type", "client_credentials")
            token_url = f"{gateway.url}/oauth2/token"
            headers = basic(client["client_id"], client["client_secret"])
            headers["DPoP"] = proof(ES256, method="POST", url=token_url, now=time.time())
            async with session.post(token_url, data={"grant_type": "client_credentials"}, headers=headers) as answer:
                issued = await answer.json()
            assert issued["token_type"] == "DPoP"
            token = issued["access_token"]

            async def status(headers: dict[str, str], session: aiohttp.ClientSession = session) -> int:
                async with session.get(f"{gateway.url}/notes/1?x=y", headers=headers) as got:
                    await got.read()
                    return got.status

            async with on_every_worker(gateway, 10) as sessions:
                for number in range(scaled(20)):
                    headers = call_headers(gateway.url, token, f"j{number}")
                    found = Counter(await asyncio.gather(*(status(headers, each) for each in sessions)))
                    assert found == {200: 1, 401: 19}
            assert await status({"Authorization": f"Bearer {token}"}) == 401
            assert await status(call_headers(gateway.url, token, "other", key=OTHER)) == 401
            assert len(upstream.requests) == scaled(20)
            for request in upstream.requests:
                names = [name for name, _ in request.fields]
                assert "dpop" not in names
                assert "authorization" not in names
                assert request.one("x-auth-token-type") == "dpop"
    assert token not in gateway.log_text
