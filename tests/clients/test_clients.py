"""Clients that nobody here wrote get their tokens, use, refresh and revoke them at the running gateway.

What each of them needs stands at the head of its program.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from gateway.crypto import Keyring
from tests.clients.rig import REDIRECT_URI, World, world_of
from tests.serving import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory, keyring: Keyring
) -> AsyncIterator[World]:
    """One gateway for all of them."""
    async with world_of(server, template, tmp_path_factory.mktemp("clients"), keyring) as found:
        yield found


# -- OAuth ---------------------------------------------------------------------------------------------------


async def test_somebody_by_hand_as_the_page_says(world: World) -> None:
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    block = page.partition("By hand,")[2].partition("```sh\n")[2].partition("```")[0]
    given, lines = block.split("\n", 1)
    assert given.startswith("export ISSUER=")
    client = await world.client()
    known = {"ISSUER": world.gateway.url, "REDIRECT_URI": REDIRECT_URI, "PATH": os.environ["PATH"]}
    by_hand = await asyncio.create_subprocess_exec(
        *("sh", "-c", lines),
        env={**client, **known},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert by_hand.stdout is not None
    address = (await by_hand.stdout.readline()).decode().strip()
    (code,) = parse_qs(urlsplit(await world.allowed(address)).query)["code"]
    said, _ = await by_hand.communicate(f"{code}\n".encode())
    assert json.loads(said)["scope"] == "notes:read"


async def test_requests_oauthlib(world: World) -> None:
    facts = await world.run("requests_oauthlib_session.py", await world.client(pkce_required=False))
    assert facts == {"scope": "notes:read", "rotated": True, "calls": [200, 200, 200]}


async def test_authlib(world: World) -> None:
    facts = await world.run("authlib_session.py", await world.client(pkce_required=False))
    assert facts == {
        "scope": "notes:read",
        "rotated": True,
        "active": True,
        "revoked": [200, {}],
        "calls": [200, 200, 401],
    }


async def test_authlib_async(world: World) -> None:
    facts = await world.run("authlib_async.py", client := await world.client())
    assert facts == {
        "scope": "notes:read notes:write",
        "aud": client["API"],
        "revoked": [200, {}],
        "calls": [200, 200],
    }


async def test_openid_client(world: World) -> None:
    facts = await world.run("openid_client.mjs", client := await world.client())
    assert facts == {
        "scope": "notes:read",
        "active": True,
        "aud": client["API"],
        "calls": [200, 200, 401, 200, 200, 200],
        "registered": True,
    }


async def test_oauth4webapi(world: World) -> None:
    facts = await world.run("oauth4webapi.mjs", client := await world.client())
    assert facts == {
        "scope": "notes:read",
        "scopes_supported": ["notes:read", "notes:write"],
        "aud": client["API"],
        "calls": [200, 200, 401],
        "challenged": [["bearer", "invalid_token", "notes:read"]],
    }


async def test_simple_oauth2(world: World) -> None:
    facts = await world.run("simple_oauth2.mjs", await world.client(pkce_required=False))
    assert facts == {"scope": "notes:read", "expired": False, "calls": [200, 200, 401, 200]}


async def test_badgateway_oauth2_client(world: World) -> None:
    facts = await world.run("badgateway.mjs", client := await world.client())
    assert facts == {"scope": "notes:read", "active": True, "aud": client["API"], "calls": [200, 200, 401, 200]}


# -- OpenID Connect (with pages of its own: test_openid_page.py) ------------------------------------------------


async def test_authlib_openid(world: World) -> None:
    scopes = frozenset({"openid", "profile", "email"})
    facts = await world.run("authlib_openid.py", await world.client(scopes=scopes))
    assert facts == {"name": "ada", "same_person": True, "same_sign_in": True}


# -- MCP -----------------------------------------------------------------------------------------------------

_ASKED = {"scope": "sums offline_access", "prompt": "consent"}


@pytest.mark.parametrize("method", ["none", "client_secret_basic", "client_secret_post"])
async def test_mcp_sdk_for_python(world: World, method: str) -> None:
    mcp = f"{world.gateway.url}/mcp"
    assert await world.run("mcp_python.py", {"MCP": mcp, "METHOD": method}) == {
        "results": [42, 3],
        "steps": [1.0, 2.0, 3.0] * 2,
        "sent_to": [_ASKED | {"resource": mcp}],
        "scope": "offline_access sums",
        "registered": [method, method != "none", None if method == "none" else 0],
    }


async def test_mcp_sdk_for_python_over_sse(world: World) -> None:
    """The transport of before streamable HTTP, whose messages go to an address of their own below the same path."""
    facts = await world.run("mcp_python.py", {"MCP": f"{world.gateway.url}/before/sse", "SSE": "1"})
    assert facts["sent_to"] == [_ASKED | {"resource": f"{world.gateway.url}/before"}]
    assert facts["results"] == [42, 3]
    assert facts["steps"] == [1.0, 2.0, 3.0]


async def test_mcp_sdk_for_python_asks_for_more_where_a_403_says_so(world: World) -> None:
    """MCP 2026-07-28, Step-Up Authorization Flow: with what it had before, by the registration that it has."""
    api = f"{world.gateway.url}/api/notes"
    facts = await world.run("mcp_step_up.py", {"MCP": api, "API": api})
    first, second = "notes:read offline_access", "notes:read offline_access notes:write"
    assert facts["calls"] == [200, 200]
    assert [asked["scope"] for asked in facts["sent_to"]] == [first, second]
    assert set(facts["scope"].split()) == set(second.split())


async def test_mcp_sdk_for_typescript(world: World) -> None:
    mcp = f"{world.gateway.url}/mcp"
    assert await world.run("mcp_typescript.mjs", {"MCP": mcp}) == {
        "results": [42, 3],
        "steps": [1, 2, 3],
        "sent_to": [{"scope": "sums", "resource": mcp}],
        "scope": "sums",
    }


async def test_fastmcp(world: World) -> None:
    """It listens itself, on `localhost` and a port that it registered, and registers an empty scope."""
    facts = await world.run("fastmcp_client.py", {"MCP": f"{world.gateway.url}/mcp"})
    assert facts == {"results": [42, 3], "steps": [1.0, 2.0, 3.0], "tools": ["add", "count"]}


async def test_mcp_conformance_of_an_authorization_server(world: World) -> None:
    """`@modelcontextprotocol/conformance`, its mode `authorization`: all that it looks at, without a warning."""
    redirect_uris = ("http://127.0.0.1:3000/callback",)
    client = await world.client(confidential=False, redirect_uris=redirect_uris, scopes=frozenset({"sums"}))
    code, said = await world.conforms(client["CLIENT_ID"], f"{world.gateway.url}/mcp")
    assert code == 0, said
    assert "Total: 3 passed, 0 failed" in said, said
    assert "warning" not in said.lower()
