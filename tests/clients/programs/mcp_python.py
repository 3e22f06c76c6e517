"""The official MCP SDK's client for Python, over streamable HTTP or, with `SSE=1`, over what came before that.

It is told nothing but the server's address: it finds the gateway by the 401, registers itself, and sends the person.
"""

import asyncio
import os
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientMetadata
from talking import REDIRECT_URI, done, opened

URL = os.environ["MCP"]


class Memory:
    """Where the client keeps what it has."""

    tokens: Any = None
    client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


answers: list[AuthorizationCodeResult] = []
sent_to: list[dict[str, str]] = []


async def send(url: str) -> None:
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    sent_to.append({name: query[name] for name in ("scope", "resource", "prompt") if name in query})
    answer = parse_qs(urlsplit(await asyncio.to_thread(opened, url)).query)
    answers.append(AuthorizationCodeResult(code=answer["code"][0], state=answer["state"][0], iss=answer["iss"][0]))


async def answered() -> AuthorizationCodeResult:
    return answers.pop()


async def main() -> None:
    memory = Memory()
    auth = OAuthClientProvider(
        URL,
        OAuthClientMetadata(
            client_name="Python SDK",
            redirect_uris=[REDIRECT_URI],
            grant_types=["authorization_code", "refresh_token"],
            token_endpoint_auth_method=os.environ.get("METHOD", "none"),
        ),
        memory,
        send,
        answered,
    )
    steps: list[float] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async def use(read: Any, write: Any) -> tuple[Any, Any]:
        async with ClientSession(read, write) as session:
            await session.initialize()
            sum_ = await session.call_tool("add", {"a": 19, "b": 23})
            counted = await session.call_tool("count", {"to": 3}, progress_callback=step)
            return sum_.structured_content["result"], counted.structured_content["result"]

    if os.environ.get("SSE"):
        async with sse_client(URL, auth=auth) as (read, write):
            results = await use(read, write)
    else:
        async with (
            httpx2.AsyncClient(auth=auth, timeout=30) as http,
            streamable_http_client(URL, http_client=http) as streams,
        ):
            results = await use(streams[0], streams[1])
            auth.context.token_expiry_time = 1.0  # it believes that the token is over, and refreshes
            before = memory.tokens.access_token
            async with streamable_http_client(URL, http_client=http) as others:
                await use(others[0], others[1])
            assert memory.tokens.access_token != before
    client = memory.client
    registered = [client.token_endpoint_auth_method, bool(client.client_secret), client.client_secret_expires_at]
    done(results=results, steps=steps, sent_to=sent_to, scope=memory.tokens.scope, registered=registered)


if __name__ == "__main__":
    asyncio.run(main())
