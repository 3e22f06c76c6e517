"""The API behind `gateway demo`: it knows nothing of OAuth and believes the identity headers that it is sent.

GET, POST /notes  /signed/notes   a few notes, in memory
*         /echo   /signed/echo    the request as it arrived, so that one sees what the gateway adds and removes
GET       /callback               where the demo's client gets its answer: it shows the code
"""

import asyncio
import contextlib
import html
import json
import threading
from collections import deque
from collections.abc import Iterator

from aiohttp import web

_MOST_NOTES = 100
_LONGEST_NOTE = 1000

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} – Demo notes app</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 10vh auto; padding: 0 1rem;
  overflow-wrap: anywhere }}
h1 {{ line-height: 1.2 }}
pre {{ padding: 1rem; border: 1px solid; border-radius: .5rem; white-space: pre-wrap }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{words}</p>
<pre>{text}</pre>
</main>
</body>
</html>
"""


def create_app() -> web.Application:
    """The sample API."""
    app = web.Application(client_max_size=64 * 1024)
    notes = _Notes()
    for prefix in ("", "/signed"):
        app.router.add_get(f"{prefix}/notes", notes.list)
        app.router.add_post(f"{prefix}/notes", notes.add)
        app.router.add_route("*", f"{prefix}/echo", _echo)
    app.router.add_get("/callback", _callback)
    return app


class _Notes:
    """A few notes, the newest last."""

    def __init__(self) -> None:
        self._all = deque([{"text": "Buy milk", "by": "the sample API"}], maxlen=_MOST_NOTES)

    async def list(self, _: web.Request) -> web.Response:
        return web.json_response({"notes": [*self._all]})

    async def add(self, request: web.Request) -> web.Response:
        try:
            text = json.loads(await request.read())["text"]
        except (ValueError, KeyError, TypeError):
            text = None
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST_NOTE:
            return web.json_response({"error": 'send {"text": "…"}'}, status=400)
        writer = request.headers.get("X-Forwarded-User") or request.headers.get("X-Auth-Client-Id") or "nobody"
        self._all.append({"text": text, "by": writer})
        return web.json_response({"text": text, "by": writer}, status=201)


async def _echo(request: web.Request) -> web.Response:
    body = (await request.read()).decode(errors="replace")
    headers = [[name, value] for name, value in request.headers.items()]
    return web.json_response({"method": request.method, "target": request.raw_path, "headers": headers, "body": body})


async def _callback(request: web.Request) -> web.Response:
    if (code := request.query.get("code")) is not None:
        title, words = (
            "The demo notes app has its code",
            "Within a minute, paste this line into your terminal, and then the curl line that the demo printed:",
        )
        text = f"CODE={code}"
    else:
        title, words = "The demo notes app got no code", "The gateway answered:"
        text = "\n".join(f"{name}: {value}" for name, value in request.query.items()) or "nothing"
    page = _PAGE.format(title=title, words=words, text=html.escape(text))
    return web.Response(text=page, content_type="text/html", headers={"Cache-Control": "no-store"})


@contextlib.contextmanager
def serving() -> Iterator[int]:
    """The port of 127.0.0.1 on which the sample API serves, in a thread that ends with the context."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(create_app(), access_log=None, shutdown_timeout=1.0)

    async def start() -> int:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port: int = runner.addresses[0][1]
        return port

    thread = threading.Thread(target=loop.run_forever, name="sample-api", daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(start(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
