"""A proxy as one writes it with FastAPI and httpx: a catch-all route, one AsyncClient, tokens in a set.

`ORIGIN`, `SINK` and `TOKENS` come from the environment, as uvicorn imports this module. What it imports stands in the
peers' own folder, where the type checker does not look.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx  # type: ignore[import-not-found]
from fastapi import FastAPI, Request, Response  # type: ignore[import-not-found]
from starlette.background import BackgroundTask  # type: ignore[import-not-found]
from starlette.responses import StreamingResponse  # type: ignore[import-not-found]

HOP_BY_HOP: Final = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "authorization"}
ORIGIN: Final = os.environ["ORIGIN"]
SINK: Final = os.environ["SINK"]
TOKENS: Final = frozenset(f"Bearer {line}" for line in Path(os.environ["TOKENS"]).read_text().split())
METHODS: Final = ["GET", "POST"]

client: Final = httpx.AsyncClient(
    timeout=60, limits=httpx.Limits(max_connections=256, max_keepalive_connections=256, keepalive_expiry=600)
)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Close the client at the end."""
    async with client:
        yield


async def handle(request: Request) -> Response:
    """Pass one request on, both bodies streamed."""
    path = request.url.path
    if not path.startswith("/open/") and request.headers.get("authorization") not in TOKENS:
        return Response(status_code=401)
    base = SINK if path.startswith("/up/") else ORIGIN
    headers = [(name, value) for name, value in request.headers.items() if name not in HOP_BY_HOP]
    body = request.stream() if "content-length" in request.headers else None
    answer = await client.send(
        client.build_request(request.method, base + path, headers=headers, content=body), stream=True
    )
    kept = {name: value for name, value in answer.headers.items() if name not in HOP_BY_HOP}
    return StreamingResponse(
        answer.aiter_raw(), status_code=answer.status_code, headers=kept, background=BackgroundTask(answer.aclose)
    )


app: Final = FastAPI(lifespan=lifespan, openapi_url=None)
app.add_api_route("/{path:path}", handle, methods=METHODS, response_model=None)
