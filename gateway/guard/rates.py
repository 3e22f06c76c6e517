"""The buckets of one worker, and how it tells of them and hears of the others (`guard.bucket` has the arithmetic).

    take ──▶ calm ───── a second later ─────▶ told, in one statement for many     little is left, so it matters
          └▶ tight ──── at once, every 50 ms at most ──┘                          soon what the others do

Strangers may come from any number of addresses, so all is bounded, for each limit by itself: a worker tells of `MOST`
buckets at a time, each of which is a row until it is full again, and holds as many more, of which it tells nobody. Of
those each worker lets its fair part pass; past their number, the oldest is forgotten.
"""

import asyncio
import random
import secrets
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Final, Never, final

from gateway.errors import StoreUnavailable
from gateway.figures import RATE_BUCKETS
from gateway.guard.bucket import Bucket
from gateway.observe import get_logger
from gateway.routing.limits import Limit
from gateway.store import Store
from gateway.store.limits import BucketUse, row_key

MOST: Final = 20_000
_BEAT: Final = 0.05  # seconds between two statements
_CALM: Final = 1.0
_PAUSE: Final = 0.5  # after a failure
_COUNT_EVERY: Final = 2.0
_AT_ONCE: Final = 1000  # buckets in one statement, or looked at for what can be forgotten

_log = get_logger("gateway.guard")


@final
class Meter:
    """The buckets of one limit of one route, by whom they count: those that are told of, and the others."""

    __slots__ = ("_prefix", "limit", "own", "shared")

    def __init__(self, route: str, limit: Limit) -> None:
        self.limit: Final = limit
        self.shared: dict[str | bytes, Bucket] = {}
        self.own: dict[str | bytes, Bucket] = {}
        self._prefix: Final = f"rate\n{route}\n{limit.name}\n{limit.count}\n{limit.burst}\n".encode()

    def key(self, who: str | bytes) -> bytes:
        """What all workers know the bucket by."""
        return row_key(self._prefix, who)

    def make(self, who: str | bytes, workers: int, now: float) -> Bucket:
        """A bucket of which nobody is told yet."""
        made = self.own[who] = Bucket(who, self.key(who), self.limit, workers, now)
        return made

    def share(self, bucket: Bucket) -> bool:
        """Whether a bucket is one of those that are told of, which it is from now on where there is room."""
        if bucket.who in self.shared:
            return True
        if len(self.shared) >= MOST:
            return False
        self.own.pop(bucket.who, None)
        self.shared[bucket.who] = bucket
        return True

    def forget_oldest(self) -> Bucket:
        """Forget the oldest bucket of which nobody is told; that bucket."""
        return self.own.pop(next(iter(self.own)))

    def forget_idle(self, now: float) -> None:
        """Forget some buckets that are full again, a few of all at a time."""
        for held in (self.shared, self.own):
            for who, bucket in list(islice(held.items(), _AT_ONCE)):
                del held[who]
                if not bucket.is_idle(now):
                    held[who] = bucket  # behind the others


class Rates:
    """All buckets of one worker; `workers` is how many this gateway has."""

    def __init__(self, store: Store, workers: int, elapsed: Callable[[], float]) -> None:
        self._store, self._configured, self._elapsed = store, workers, elapsed
        self.workers = workers  # on all gateways, as far as is known
        self._name = secrets.token_bytes(16)
        self._meters: dict[tuple[str, str, int, int], Meter] = {}
        self._calm: dict[Bucket, Meter] = {}  # the one that waits longest stands first
        self._tight: dict[Bucket, Meter] = {}
        self._pressing = asyncio.Event()
        self._telling: asyncio.Task[None] | None = None
        self._counted_at = -_COUNT_EVERY

    def meter(self, route: str, limit: Limit) -> Meter:
        """That of a limit, whichever of the route's hosts is called."""
        key = route, limit.name, limit.count, limit.burst
        return self._meters.setdefault(key, Meter(route, limit))

    def bucket(self, meter: Meter, who: str | bytes, now: float) -> Bucket:
        """The bucket that counts for `who`."""
        return meter.shared.get(who) or meter.own.get(who) or self._made(meter, who, now)

    def _made(self, meter: Meter, who: str | bytes, now: float) -> Bucket:
        if len(meter.own) >= MOST:
            oldest = meter.forget_oldest()
            self._calm.pop(oldest, None)
            self._tight.pop(oldest, None)
        return meter.make(who, self.workers, now)

    def touched(self, bucket: Bucket, meter: Meter) -> None:
        """There is something to tell of a bucket."""
        if bucket in self._tight:
            return
        if bucket.tight:
            self._calm.pop(bucket, None)
            self._tight[bucket] = meter
            self._pressing.set()
        else:
            self._calm.setdefault(bucket, meter)

    def start(self) -> None:
        """Tell the others, and hear of them, from now on."""
        self._telling = asyncio.create_task(self._tell_on(), name="guard-rates")

    async def close(self) -> None:
        """Do so once more, and no longer."""
        if self._telling is None:
            return
        self._telling.cancel()
        with suppress(asyncio.CancelledError):
            await self._telling
        with suppress(StoreUnavailable):
            await self._tell([*self._tight.items(), *self._calm.items()][:_AT_ONCE])
            await self._store.limits.leave(self._name)

    def report(self) -> None:
        """Say in the figures how many buckets there are."""
        meters = self._meters.values()
        RATE_BUCKETS.set(sum(len(meter.shared) for meter in meters), "shared")
        RATE_BUCKETS.set(sum(len(meter.own) for meter in meters), "own")

    # -- telling ------------------------------------------------------------------------------------------------------

    async def _tell_on(self) -> Never:
        while True:
            pause = _BEAT
            try:
                await self.exchange()
            except StoreUnavailable:  # which is told by those who ask for something; fair parts count meanwhile
                pause = _PAUSE * random.uniform(0.5, 1.0)  # noqa: S311 -- so that workers do not all come at once
            except Exception as exc:  # noqa: BLE001  # a fault of ours must stop no call
                _log.error("rates cannot be shared with the other workers; each lets its fair part pass", exc_info=exc)
                pause = _PAUSE
            now = self._elapsed()
            for meter in self._meters.values():
                meter.forget_idle(now)
            if self._tight:
                self._pressing.set()
            await asyncio.sleep(pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(_CALM):
                    await self._pressing.wait()
            self._pressing.clear()

    async def exchange(self) -> None:
        """Tell of what is pressing or has waited for long, and hear of it. Raises StoreUnavailable."""
        now = self._elapsed()
        if now - self._counted_at >= _COUNT_EVERY:
            self.workers = max(self._configured, await self._store.limits.count_workers(self._name))
            self._counted_at = now
        due = list(islice(self._tight.items(), _AT_ONCE))
        for bucket, meter in islice(self._calm.items(), _AT_ONCE - len(due)):
            if bucket.since > now - _CALM:
                break
            due.append((bucket, meter))
        await self._tell(due)

    async def _tell(self, due: list[tuple[Bucket, Meter]]) -> None:
        now = self._elapsed()
        sent: list[tuple[Bucket, Meter, int, int]] = []
        uses: list[BucketUse] = []
        for bucket, meter in due:
            if meter.share(bucket):
                sent.append((bucket, meter, bucket.passed, bucket.asked))
                uses.append(BucketUse(bucket.key, bucket.owed(now) / meter.limit.pace, bucket.asked))
            else:
                self._done(bucket, meter, bucket.passed, bucket.asked, now)
        if not uses:
            return
        heard = await self._store.limits.tell(uses)
        now = self._elapsed()
        for bucket, meter, passed, asked in sent:
            self._done(bucket, meter, passed, asked, now)
            seconds, demand = heard[bucket.key]
            limit = meter.limit
            bucket.heard(limit.burst - seconds * limit.pace if seconds > 0.0 else limit.burst, demand, now)

    def _done(self, bucket: Bucket, meter: Meter, passed: int, asked: int, now: float) -> None:
        bucket.reported(passed, asked, now)
        self._tight.pop(bucket, None)
        self._calm.pop(bucket, None)
        if bucket.asked:
            self.touched(bucket, meter)
