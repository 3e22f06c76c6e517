"""The limits of routes: whether a call is within them, decided in the worker's memory.

A rate by address counts each call as it comes, whoever it is of, and before anybody looks. All others count what has
passed every check, so that nobody uses up what is another's by calls that are refused. Of these, a call takes of all or
of none.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import ceil
from time import monotonic
from typing import Final, assert_never, final

from gateway.config import Config
from gateway.errors import Refused, StoreUnavailable
from gateway.figures import CALLS_UNDER_WAY
from gateway.guard import causes
from gateway.guard.bucket import Bucket
from gateway.guard.lease import Lease
from gateway.guard.quotas import Account, Quotas
from gateway.guard.rates import Meter, Rates
from gateway.guard.verdict import Allowed, Judged
from gateway.model import Identity
from gateway.routing.call import Turn
from gateway.routing.forwarded import neighbourhood
from gateway.routing.limits import By, Limit, Limits
from gateway.store import Store
from gateway.underway import Counter, Counters, Place

_KEPT: Final = 1024


@final
class _Metered:
    """The meters of one route's limits."""

    __slots__ = ("by_address", "quotas", "rates")

    def __init__(self, by_address: list[Meter], rates: list[Meter], quotas: list[Account]) -> None:
        self.by_address: Final = by_address
        self.rates: Final = rates
        self.quotas: Final = quotas


class Limiting:
    """The limits of all routes, in one worker. `elapsed` gives seconds that never go back."""

    def __init__(self, store: Store, config: Config, elapsed: Callable[[], float], place: Place | None = None) -> None:
        self._elapsed = elapsed
        self._rates = Rates(store, config.server.workers, elapsed)
        self._quotas = Quotas(store, lambda: self._rates.workers, elapsed)
        self._wanted = any(route.rate or route.quota for route in config.routes)
        self._metered: dict[Limits, _Metered] = {}
        self._counters = Counters(place)
        self._counted: dict[str, Counter] = {}
        self._over = lru_cache(maxsize=_KEPT)(_over)

    def start(self) -> None:
        """Share with the other workers what passes, from now on."""
        if self._wanted:
            self._rates.start()
            self._quotas.start()

    async def close(self) -> None:
        """Do so no longer."""
        await self._quotas.close()
        await self._rates.close()

    def report(self) -> None:
        """Say in the figures what is held."""
        if self._wanted:
            self._rates.report()
        for route, counter in self._counted.items():
            CALLS_UNDER_WAY.set(counter.own, route)

    def arrived(self, turn: Turn) -> Refused | None:
        """Why a call may not even be looked at, if the address that it comes from is over its rate."""
        limits = turn.limits
        return self._take(turn, self._meters(limits).by_address, None) if limits.by_address else None

    def admit(self, turn: Turn, allowed: Allowed) -> Judged:
        """The verdict on a call that may pass otherwise; pending where a quota has to be asked for."""
        limits = turn.limits
        if turn.ended:  # its client left while the guard waited for the database
            return allowed
        if limits.concurrency and not turn.begin(self._counter(limits)):
            return _crowded(limits.concurrency, allowed.identity)
        return self._within(turn, allowed, self._meters(limits))

    def _counter(self, limits: Limits) -> Counter:
        """That of a route, whichever of its hosts is called."""
        counter = self._counted.get(limits.route)
        if counter is None:
            counter = self._counted[limits.route] = self._counters.of(limits.route, limits.concurrency)
        return counter

    def _within(
        self, turn: Turn, allowed: Allowed, metered: _Metered, since: float | None = None, outcome: object = None
    ) -> Judged:
        """The verdict by quotas and rates: nothing is taken of one until all have room. `since` is when the call began
        to wait for the quotas, and `outcome` what came of that."""
        if isinstance(outcome, StoreUnavailable):
            turn.end()
            return _unasked(outcome, allowed.identity)
        if turn.ended:
            return allowed
        now, quotas = self._elapsed(), self._quotas
        leases: list[Lease] = []
        for account in metered.quotas:
            lease = quotas.lease(account, whose(account.limit, turn.address, allowed), now)
            if lease.is_spent(now):
                turn.end()
                return self._refuse(turn, account.limit, lease.wait(now), allowed.identity)
            if not lease.has_one(now):
                began = monotonic() if since is None else since
                again = partial(self._within, turn, allowed, metered, began)
                try:
                    return quotas.ask(account, lease, again, began)
                except StoreUnavailable as exc:
                    turn.end()
                    return _unasked(exc, allowed.identity)
            leases.append(lease)
        over = self._take(turn, metered.rates, allowed) if metered.rates else None
        if over is not None:
            turn.end()
            return over
        for lease, account in zip(leases, metered.quotas, strict=True):
            lease.take(now)
            turn.show(account.limit.shown(lease.remaining, lease.wait(now)))
        return allowed

    def _refuse(self, turn: Turn, limit: Limit, seconds: int, identity: Identity | None) -> Refused:
        """The refusal of a call that is over this limit, for so many seconds: its answer tells of no other."""
        turn.show_only(limit.shown(0, seconds))
        return self._over(limit, seconds, identity)

    def _meters(self, limits: Limits) -> _Metered:
        metered = self._metered.get(limits)
        if metered is None:
            meter = self._rates.meter
            metered = self._metered[limits] = _Metered(
                [meter(limits.route, limit) for limit in limits.by_address],
                [meter(limits.route, limit) for limit in limits.rates],
                [self._quotas.account(limits.route, limit) for limit in limits.quotas],
            )
        return metered

    def _take(self, turn: Turn, meters: Sequence[Meter], allowed: Allowed | None) -> Refused | None:
        """Take of all these limits, or of none: then the refusal."""
        now, rates = self._elapsed(), self._rates
        buckets: list[Bucket] = []
        for meter in meters:
            bucket = rates.bucket(meter, whose(meter.limit, turn.address, allowed), now)
            if not bucket.has_one(now, rates.workers):
                bucket.refuse(now)
                rates.touched(bucket, meter)
                identity = None if allowed is None else allowed.identity
                return self._refuse(turn, meter.limit, max(1, ceil(bucket.wait)), identity)
            buckets.append(bucket)
        for bucket, meter in zip(buckets, meters, strict=True):
            bucket.take(now)
            rates.touched(bucket, meter)
            turn.show(meter.limit.left(bucket.remaining))
        return None


def whose(limit: Limit, address: str, allowed: Allowed | None) -> str | bytes:
    """Whose calls a call is counted with; a public route has none but those of addresses and of all."""
    by = limit.by
    if by == "client":
        return "" if allowed is None else allowed.client_id or ""
    if by == "address":
        return neighbourhood(address)
    if by == "user":
        return "" if allowed is None else allowed.subject or ""
    if by == "token":
        return b"" if allowed is None else allowed.digest
    if by == "route":
        return ""
    assert_never(by)


def _each(by: By) -> str:
    """For whom a limit holds, as its callers are told."""
    match by:
        case "client":
            return "each application"
        case "user":
            return "each person"
        case "token":
            return "each access token"
        case "address":
            return "each address"
        case "route":
            return "all callers together"
        case _:
            assert_never(by)


def _unasked(exc: StoreUnavailable, identity: Identity | None) -> Refused:
    """The refusal of a call whose quota nobody can say anything of."""
    description = "The quota cannot be checked at the moment; try again."
    return Refused("temporarily_unavailable", description, causes.NO_QUOTA.naming(str(exc)), identity=identity)


@lru_cache(maxsize=_KEPT)
def _crowded(most: int, identity: Identity | None) -> Refused:
    """The refusal of a call on a route with as many under way as may be."""
    cause = causes.OVER_CONCURRENCY.naming(str(most))
    return Refused("temporarily_unavailable", "The service is busy; try again in a moment.", cause, identity=identity)


def _over(limit: Limit, seconds: int, identity: Identity | None) -> Refused:
    """The refusal of a call that is over this limit, for so many seconds."""
    over = causes.OVER_QUOTA if limit.per == "day" else causes.OVER_RATE
    if limit.by == "address" and limit.per != "day":
        over = causes.ADDRESS_OVER_RATE
    description = (
        f"Too many calls: {limit.count} a {limit.per} are allowed for {_each(limit.by)}. "
        f"Try again in {seconds} second{'' if seconds == 1 else 's'}."
    )
    return Refused("too_many_requests", description, over.naming(str(limit)), retry_after=seconds, identity=identity)
