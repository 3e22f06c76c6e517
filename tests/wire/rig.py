"""One gateway for the whole table: a public route at "/" before the recorder."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.proxy import Limits
from gateway.store import Store
from tests.proxy.rig import KEYRING, RawUpstream, rig
from tests.wire.recorder import Recorder

LIMITS = Limits(half_closed=0.15, tick=0.05, linger=0.5)


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
    async with rig(folder, store, upstream=RawUpstream(handler=recorder.handle), limits=limits) as running:
        yield WireRig(running.port, recorder)
