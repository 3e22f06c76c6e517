"""Routes take the tokens of issuers that nobody here wrote, and of another gateway, over two workers."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from gateway.crypto import Keyring
from tests.clients.rig import run_program
from tests.conftest import cloned_store
from tests.proxy.rig import RawUpstream
from tests.serving import free_ports, serving

AUDIENCE = "https://api.example.com/notes"


def route(upstream: RawUpstream) -> dict[str, Any]:
    return {
        "name": "notes",
        "path": "/notes",
        "upstreams": [f"http://127.0.0.1:{upstream.port}"],
        "auth": ["bearer"],
        "scopes": ["read"],
        "issuers": ["other"],
    }


async def test_oidc_provider(tmp_path: Path, database: str) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    issuer = {"name": "other", "url": url, "audience": [AUDIENCE]}
    async with (
        RawUpstream().serving() as upstream,
        serving(tmp_path, dsn=database, routes=[route(upstream)], issuers=[issuer]) as gateway,
    ):
        environment = {"ISSUER": url, "API": f"{gateway.url}/notes", "RESOURCE": AUDIENCE}
        facts = await run_program("oidc_provider.mjs", environment, tmp_path)
        assert facts == {
            "calls": {
                "ES256": 200,
                "again": 200,
                "RS256": 200,
                "another audience": 401,
                "another scope": 403,
                "opaque": 401,
                "altered": 401,
            },
            "typ": "at+jwt",
        }
        told = {(request.one("x-auth-subject"), request.one("x-auth-client-id")) for request in upstream.requests}
        assert told == {("other|app", "other|app")}


async def test_another_gateway(tmp_path: Path, database: str, server: str, template: str, keyring: Keyring) -> None:
    """Its tokens look as ours do, and only its keys tell whose they are; ours open the route too."""
    scopes = {"read": "Read", "write": "Write"}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with (
        cloned_store(server, template, keyring) as (dsn, _),
        RawUpstream().serving() as upstream,
        serving(tmp_path / "one", dsn=dsn, scopes=scopes, workers=1) as theirs,
    ):
        issuer = {"name": "other", "url": theirs.url, "audience": [theirs.url], "algorithms": ["RS256"]}
        async with serving(
            tmp_path / "two", dsn=database, routes=[route(upstream)], issuers=[issuer], scopes=scopes
        ) as ours:
            create = ("client", "create", "--name", "x", "--grant-type", "client_credentials", "--scope", "read")
            both = (theirs, ours)
            clients = await asyncio.gather(*(gateway.run(*create, "--token-format", "jwt") for gateway in both))
            tokens = [await token(gateway.url, client) for gateway, client in zip(both, clients, strict=True)]
            async with aiohttp.ClientSession() as session:
                for token_ in (*tokens, *tokens):
                    fields = {"Authorization": f"Bearer {token_}"}
                    async with session.get(f"{ours.url}/notes", headers=fields) as answer:
                        assert answer.status == 200, ours.log_text
                altered = {"Authorization": f"Bearer {tokens[0][:-4]}AAAA"}
                async with session.get(f"{ours.url}/notes", headers=altered) as answer:
                    assert answer.status == 401
                async with session.get(f"{ours.url}/.well-known/oauth-protected-resource/notes") as answer:
                    assert (await answer.json())["authorization_servers"] == [ours.url, theirs.url]
        subjects = [request.one("x-auth-subject") for request in upstream.requests]
        assert [subject.startswith("other|") for subject in subjects] == [True, False, True, False]


async def token(url: str, client: dict[str, Any]) -> str:
    credentials = {"Authorization": aiohttp.encode_basic_auth(client["client_id"], client["client_secret"])}
    form = {"grant_type": "client_credentials"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/oauth2/token", data=form, headers=credentials) as answer,
    ):
        said = json.loads(await answer.text())
        assert answer.status == 200, said
        return str(said["access_token"])
