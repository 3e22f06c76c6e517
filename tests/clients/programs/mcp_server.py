"""An MCP server by the official SDK, which knows nothing of OAuth: `mcp_server.py PORT streamable-http|sse`."""

import sys

from mcp.server.mcpserver import Context, MCPServer

server = MCPServer("Sums")


@server.tool()
def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


@server.tool()
async def count(to: int, context: Context) -> int:
    """Count, and tell of each step while it is under way."""
    for step in range(1, to + 1):
        await context.report_progress(step, to)
    return to


if __name__ == "__main__":
    # Over SSE the messages go to an address of their own: both below one path are one resource.
    paths = {"sse_path": "/before/sse", "message_path": "/before/messages/"} if sys.argv[2] == "sse" else {}
    server.run(sys.argv[2], host="127.0.0.1", port=int(sys.argv[1]), **paths)
