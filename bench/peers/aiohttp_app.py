"""A proxy as one writes it with aiohttp: a catch-all handler, one ClientSession, tokens in a set."""

import argparse
from pathlib import Path

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "authorization"}


def make_app(origin: str, sink: str, tokens: frozenset[str]) -> web.Application:
    """The application; `origin` and `sink` are the upstreams, `tokens` the good Authorization values."""
    session = web.AppKey("session", ClientSession)

    async def handle(request: web.Request) -> web.StreamResponse:
        if not request.path.startswith("/open/") and request.headers.get("Authorization") not in tokens:
            return web.Response(status=401)
        base = sink if request.path.startswith("/up/") else origin
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP]
        body = request.content if request.can_read_body else None
        async with request.app[session].request(
            request.method, base + request.path_qs, headers=headers, data=body, allow_redirects=False
        ) as answer:
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            async for part in answer.content.iter_any():
                await response.write(part)
            await response.write_eof()
            return response

    async def start(app: web.Application) -> None:
        app[session] = ClientSession(
            connector=TCPConnector(limit=256), timeout=ClientTimeout(total=None), auto_decompress=False
        )

    app = web.Application(client_max_size=2 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", handle)
    app.on_startup.append(start)
    return app


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--origin")
    parser.add_argument("--sink")
    parser.add_argument("--tokens", type=Path)
    given = parser.parse_args()
    tokens = frozenset(f"Bearer {line}" for line in given.tokens.read_text().split())
    app = make_app(given.origin, given.sink, tokens)
    web.run_app(
        app, host="127.0.0.1", port=given.port, access_log=None, print=None, keepalive_timeout=600, backlog=4096,
        loop=uvloop.new_event_loop(),
    )  # fmt: skip


if __name__ == "__main__":
    main()
