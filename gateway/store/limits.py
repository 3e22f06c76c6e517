"""What all workers let pass of calls that are limited."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.store.database import Database


class Told(NamedTuple):
    """What a worker tells of one bucket: the seconds that it takes to make good for what passed, and how many calls
    were asked for."""

    key: bytes
    seconds: float
    asked: int


class Heard(NamedTuple):
    """What it hears of it: the seconds until the bucket is full, and the calls that all were asked for lately."""

    seconds: float
    demand: float


class RouteLimits:
    """The buckets that workers share."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self, told: Sequence[Told]) -> dict[bytes, Heard]:
        """Tell of some buckets, each once, and hear of the same, by their keys."""
        keys, seconds, asked = zip(*told, strict=True)
        rows = await self._database.rows("rates_tell", keys=keys, seconds=seconds, asked=asked)
        return {row["key"]: Heard(row["seconds"], row["demand"]) for row in rows}

    async def count_workers(self, worker: bytes) -> int:
        """How many workers there are, on all gateways, this one included, which is known to live from now on."""
        others: int = await self._database.value("rates_count_workers", worker=worker)
        return others + 1

    async def leave(self, worker: bytes) -> None:
        """A worker ends."""
        await self._database.row("rates_leave", worker=worker)
