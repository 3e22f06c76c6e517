"""One gateway for the whole table before the recorder: public routes at "/" and, with Authorization passed, "/open"."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.proxy import Limits
from gateway.store import Store
from tests.proxy.rig import KEYRING, RawUpstream, rig
from tests.wire.recorder import Recorder

ROUTES: list[dict[str, Any]] = [
    {"name": "all", "path": "/", "auth": "none"},
    {"name": "open", "path": "/open", "auth": "none", "forward_authorization": True},
]
LIMITS = Limits(tick=0.05, linger=0.5)


@dataclass
class WireRig:
    """Where the gateway listens, and what its upstream keeps."""

    port: int
    recorder: Recorder


@asynccontextmanager
async def wire_rig(folder: Path, limits: Limits = LIMITS) -> AsyncIterator[WireRig]:
    """Public routes never ask the database, so that none is needed."""
    recorder = Recorder()
    store = Store.over("postgresql://nobody@127.0.0.1:1/none", KEYRING)
    upstream = RawUpstream(handler=recorder.handle)
    async with rig(folder, store, routes=ROUTES, upstream=upstream, limits=limits) as running:
        yield WireRig(running.port, recorder)
