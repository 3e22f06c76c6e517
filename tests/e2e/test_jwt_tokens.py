"""JWT access tokens (RFC 9068) between the processes of a real gateway: verified elsewhere, ended here at once."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from gateway.oauth import jwk, jws
from tests.guard.test_workers import PASSES, ROUTE, callers
from tests.serving import serving
from tests.web.rig import basic


async def posted(url: str, client: dict[str, Any], **fields: str) -> Any:
    headers = basic(client["client_id"], client["client_secret"])
    async with aiohttp.ClientSession(headers=headers) as session, session.post(url, data=fields) as answer:
        assert answer.status == 200
        return await answer.json()


async def published(url: str) -> bytes:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/.well-known/jwks.json") as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        return await answer.read()


async def test_jwt_is_verified_by_what_is_published_and_refused_on_every_worker_within_a_second_of_its_end(
    tmp_path: Path, database: str
) -> None:
    tables: dict[str, Any] = {"tokens": {"format": "jwt", "jwt_algorithm": "ES256"}, "scopes": {"read": "Read"}}
    async with serving(tmp_path, dsn=database, routes=[ROUTE], workers=2, **tables) as gateway:
        client = await gateway.run("client", "create", "--name", "App", "--grant-type", "client_credentials")
        assert client["token_format"] == "jwt"
        issued = await posted(f"{gateway.url}/oauth2/token", client, grant_type="client_credentials")
        token = issued["access_token"]
        header, claims, signature = token.split(".")
        kid = json.loads(jws.decoded(header))["kid"]
        [key] = [one for one in jwk.keys_of((await published(gateway.url)).decode()) if one.kid == kid]
        assert key.verifies("ES256", f"{header}.{claims}".encode(), jws.decoded(signature))
        assert json.loads(jws.decoded(claims))["iss"] == gateway.url
        found = await posted(f"{gateway.url}/oauth2/introspect", client, token=token)
        assert (found["active"], found["iss"]) == (True, gateway.url)
        async with callers(gateway) as both:
            for caller in both:
                assert (await caller.call(token))[0] == PASSES
            assert await posted(f"{gateway.url}/oauth2/revoke", client, token=token) == {}
            await asyncio.gather(*(caller.refused(token, 1) for caller in both))
        await gateway.run("key", "rotate", "--signing")
        assert kid in json.dumps(json.loads(await published(gateway.url)))
    assert signature not in gateway.log_text
