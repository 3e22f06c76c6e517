"""The official MCP SDK's client, at an API that wants more for a POST than for a GET, and names it in a 403."""

import asyncio

import httpx2
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import OAuthClientMetadata
from mcp_python import Memory, answered, send, sent_to
from talking import API, REDIRECT_URI, done


async def main() -> None:
    memory = Memory()
    metadata = OAuthClientMetadata(
        client_name="Step by step",
        redirect_uris=[REDIRECT_URI],
        grant_types=["authorization_code", "refresh_token"],
        token_endpoint_auth_method="none",
    )
    async with httpx2.AsyncClient(auth=OAuthClientProvider(API, metadata, memory, send, answered)) as http:
        calls = [(await http.get(API)).status_code, (await http.post(API)).status_code]
    done(calls=calls, sent_to=sent_to, scope=memory.tokens.scope)


asyncio.run(main())
