"""What all workers let pass of calls that are limited."""

from collections.abc import Sequence
from datetime import date
from hashlib import blake2b
from typing import NamedTuple

from gateway.store.database import Database


def row_key(limit: bytes, who: str | bytes) -> bytes:
    """The 16 bytes by which all workers know the row where a limit, named by `limit`, counts for somebody."""
    return blake2b(limit + (who if isinstance(who, bytes) else who.encode()), digest_size=16).digest()


class BucketUse(NamedTuple):
    """What a worker tells of one bucket: the seconds that it takes to make good for what passed, and how many calls
    were asked for."""

    key: bytes
    seconds: float
    asked: int


class Heard(NamedTuple):
    """What a worker hears of a bucket that it told of: the seconds until it is full, and how many calls all workers
    were asked for lately."""

    seconds: float
    demand: float


class Taking(NamedTuple):
    """What a worker takes of one quota, of which there are `most`: `asked` calls wait. One that `grows` may be new."""

    key: bytes
    most: int
    asked: int
    grows: bool


class Given(NamedTuple):
    """So many calls are the worker's now, `remaining` are anybody's, for so many seconds of that day."""

    units: int
    remaining: int
    day: date
    seconds: float


class Unspent(NamedTuple):
    """Calls that were given out and did not pass."""

    day: date
    key: bytes
    units: int


class RouteLimits:
    """The buckets that workers share, and the quotas."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self, uses: Sequence[BucketUse]) -> dict[bytes, Heard]:
        """Tell of some buckets, each once, and hear of the same, by their keys."""
        keys, seconds, asked = zip(*uses, strict=True)
        rows = await self._database.rows("rates_tell", keys=keys, seconds=seconds, asked=asked)
        return {row["key"]: Heard(row["seconds"], row["demand"]) for row in rows}

    async def count_workers(self, worker: bytes) -> int:
        """How many workers there are, on all gateways, this one included, which is known to live from now on."""
        others: int = await self._database.value("rates_count_workers", worker=worker)
        return others + 1

    async def take(self, taking: Sequence[Taking], *, block: int, part: float) -> dict[bytes, Given]:
        """Take of some quotas, each once: what waits, or a `part` of what is left, up to a block. By their keys; those
        that may not be new and are, are not among them."""
        keys, most, asked, grows = zip(*taking, strict=True)
        rows = await self._database.rows(
            "quotas_take", keys=keys, most=most, asked=asked, grows=grows, block=block, part=part
        )
        return {row["key"]: Given(row["given"], row["remaining"], row["day"], row["seconds"]) for row in rows}

    async def taken(self, keys: Sequence[bytes]) -> tuple[dict[bytes, int], float]:
        """How many calls were taken of some quotas today, where any were, and the seconds until the day ends."""
        rows = await self._database.rows("quotas_taken", keys=keys)
        return {row["key"]: row["taken"] for row in rows if row["key"] is not None}, rows[0]["seconds"]

    async def give_back(self, unspent: Sequence[Unspent]) -> None:
        """Give back what did not pass."""
        days, keys, units = zip(*unspent, strict=True)
        await self._database.row("quotas_give_back", days=days, keys=keys, unspent=units)

    async def count_quotas(self, most: int) -> int:
        """How many quotas were taken of today, up to so many."""
        found: int = await self._database.value("quotas_count", most=most)
        return found

    async def leave(self, worker: bytes) -> None:
        """A worker ends."""
        await self._database.row("rates_leave", worker=worker)
