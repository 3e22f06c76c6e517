"""What limits would decide of calls that are over: rates, quotas and calls under way, counted by one configuration.

A shadow (`gateway.app.shadow`) keeps one for each of its two. Nothing that is really counted is touched: quotas go on
here from what the database has of today when their key is first met, but for the calls that it has of those which are
judged here, and from then on by what passes here.
"""

import time
from collections.abc import Callable
from typing import Final, NamedTuple, final

from gateway.guard import Allowed
from gateway.guard.bucket import Bucket
from gateway.guard.limiting import whose
from gateway.guard.quotas import Account
from gateway.routing.limits import Limit, Limits
from gateway.store import Store

CONCURRENCY: Final = "concurrency"
_HELD: Final = 20_000  # buckets, and keys of quotas, of either configuration


@final
class Passing:
    """A call as limits see it: whose it is, when it was let pass, and when it ended, `inf` while it goes on."""

    __slots__ = ("address", "allowed", "began", "ended")

    def __init__(self, address: str, allowed: Allowed | None, began: float, ended: float) -> None:
        self.address: Final = address
        self.allowed: Final = allowed
        self.began: Final = began
        self.ended = ended

    def end(self, at: float) -> None:
        """It went on, and has ended."""
        self.ended = at


class Over(NamedTuple):
    """What a call is over: a rate, a quota, or the concurrency of its route, which is for all."""

    what: str
    by: str = ""

    def __str__(self) -> str:
        return f"over the {self.what}" + (f" by {self.by}" if self.by else "")


@final
class _Quota:
    """What is spent of one quota by one key: what the database had at `asked_at`, and what each side let pass since."""

    __slots__ = ("asked_at", "before", "passed")

    def __init__(self, before: int, asked_at: float) -> None:
        self.before = before
        self.asked_at: Final = asked_at
        self.passed: Final = [0, 0]

    def take_off(self) -> None:
        """One of the calls that the database had is among those that are judged here."""
        self.before = max(0, self.before - 1)


class Spent:
    """What of quotas is spent today, for both tallies: what the database had when it was asked, and what each has let
    pass since.

    The database is asked when the first call with a key is over, and has counted by then what began meanwhile. Of these
    calls each is taken off again when it is told of, so that none counts twice: who counts waits until all are known
    that began before. What workers hold of a quota counts as spent too, as it does there; of a small quota, or one that
    is nearly spent, they hold nothing.
    """

    def __init__(self, store: Store, now: Callable[[], float] = time.monotonic) -> None:
        self._store, self._now = store, now
        self._held: dict[bytes, _Quota] = {}
        self._day_ends = 0.0

    async def know(self, limits: Limits, passing: Passing, *, counted: bool) -> None:
        """Have what is spent of each quota that a call counts with; `counted` says whether it really counts with these,
        as it does once, by the configuration in force. Raises StoreUnavailable."""
        if self._now() >= self._day_ends:
            self._held.clear()
        keys = {_key(limits.route, limit, passing) for limit in limits.quotas}
        unknown = [key for key in keys if key not in self._held]
        if unknown:
            taken, seconds = await self._store.limits.taken(unknown)
            now = self._now()
            self._day_ends = now + seconds
            for key in unknown:
                self._held.setdefault(key, _Quota(taken.get(key, 0), now))
        if counted:
            for key in keys:
                held = self._held.get(key)
                if held is not None and passing.began <= held.asked_at:
                    held.take_off()
        while len(self._held) > _HELD:
            del self._held[next(iter(self._held))]

    def has_one(self, key: bytes, most: int, side: int) -> bool:
        """Whether a side may let one more pass."""
        held = self._held.get(key)
        return held is None or held.before + held.passed[side] < most

    def take(self, key: bytes, side: int) -> None:
        """A side has let one pass."""
        held = self._held.get(key)
        if held is not None:  # else it was forgotten meanwhile
            held.passed[side] += 1


class Tally:
    """The limits of one configuration; `side` is 0 or 1, by which `spent` tells the two apart."""

    def __init__(self, spent: Spent, side: int) -> None:
        self._spent, self._side = spent, side
        self._buckets: dict[tuple[str, Limit, str | bytes], Bucket] = {}
        self._under_way: dict[str, list[Passing]] = {}

    def over(self, limits: Limits, passing: Passing, now: float) -> Over | None:
        """What a call is over at this moment, which never goes back: it takes of all limits, or of none. Who may not
        pass otherwise, and so is `allowed` nothing, counts with the rates by address alone."""
        rate = self._over_rates(limits, limits.by_address, passing, now)
        if rate is not None or passing.allowed is None:
            return rate
        under_way = [other for other in self._under_way.get(limits.route, ()) if other.ended > passing.began]
        if limits.concurrency and len(under_way) >= limits.concurrency:
            return Over(CONCURRENCY)
        keys = [_key(limits.route, limit, passing) for limit in limits.quotas]
        for key, limit in zip(keys, limits.quotas, strict=True):
            if not self._spent.has_one(key, limit.count, self._side):
                return Over("quota", limit.by)
        rate = self._over_rates(limits, limits.rates, passing, now)
        if rate is not None:
            return rate
        for key in keys:
            self._spent.take(key, self._side)
        if limits.concurrency:
            self._under_way[limits.route] = [*under_way, passing]
        return None

    def _over_rates(self, limits: Limits, rates: tuple[Limit, ...], passing: Passing, now: float) -> Over | None:
        buckets = list[Bucket]()
        for limit in rates:
            who = whose(limit, passing.address, passing.allowed)
            key = (limits.route, limit, who)
            bucket = self._buckets.pop(key, None) or Bucket(who, b"", limit, 1, now)
            self._buckets[key] = bucket  # the one that was asked last stands last
            if len(self._buckets) > _HELD:
                del self._buckets[next(iter(self._buckets))]
            if not bucket.has_one(now, 1):
                return Over("rate", limit.by)
            buckets.append(bucket)
        for bucket in buckets:
            bucket.take(now)
        return None


def _key(route: str, limit: Limit, passing: Passing) -> bytes:
    return Account(route, limit).key(whose(limit, passing.address, passing.allowed))
