"""fastmcp's client: it looks at the authorization page before it opens the browser, and listens for the answer."""

import asyncio
import os
import warnings
import webbrowser

from fastmcp import Client
from fastmcp.client.auth import OAuth
from talking import done, opened

warnings.simplefilter("ignore")  # it keeps tokens in memory
webbrowser.open = lambda url, *_: bool(opened(url))


async def main() -> None:
    steps: list[float] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with Client(os.environ["MCP"], auth=OAuth(client_name="fastmcp")) as client:
        tools = [tool.name for tool in await client.list_tools()]
        sum_ = await client.call_tool("add", {"a": 19, "b": 23})
        counted = await client.call_tool("count", {"to": 3}, progress_handler=step)
        done(results=[result.structured_content["result"] for result in (sum_, counted)], steps=steps, tools=tools)


asyncio.run(main())
