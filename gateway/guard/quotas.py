"""The quotas of one worker: what it has been given of them, in blocks, and gives back (`guard.lease` has the rules).

A call for which nothing is at hand waits for a batch of such questions (`guard.lane`). Where strangers could have a row
each, as by their addresses, the rows of a day are bounded: past `MOST_ROWS`, addresses that have none yet are refused.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, Final, Never, TypeVar, final

from gateway.errors import StoreUnavailable
from gateway.guard.lane import Lane, Pending
from gateway.guard.lease import BLOCK, IDLE, Lease, part
from gateway.observe import get_logger
from gateway.routing.limits import Limit
from gateway.store import Store
from gateway.store.limits import Taking, Unspent, row_key

Answer = TypeVar("Answer")

MOST_ROWS: Final = 1_000_000
MOST: Final = 20_000  # leases of one quota
_WAITING: Final = 10_000
_AT_ONCE: Final = 1000
_COUNT_EVERY: Final = 60.0  # seconds
_EVERY: Final = 0.5

_log = get_logger("gateway.guard")


@final
class Account:
    """The leases of one quota of one route, by whom it counts."""

    __slots__ = ("_prefix", "held", "limit")

    def __init__(self, route: str, limit: Limit) -> None:
        self.limit: Final = limit
        self.held: dict[str | bytes, Lease] = {}
        self._prefix: Final = f"quota\n{route}\n{limit.name}\n".encode()  # the same when the limit is another

    def key(self, who: str | bytes) -> bytes:
        """What all workers know the quota by."""
        return row_key(self._prefix, who)

    def make(self, who: str | bytes, now: float) -> Lease:
        """A lease of which nothing is given yet."""
        made = self.held[who] = Lease(self.key(who), self.limit.count, now)
        return made

    def forget_oldest(self, now: float) -> list[Unspent]:
        """Forget the oldest lease; what is to be given back of it."""
        return _unspent(self.held.pop(next(iter(self.held))), now, 0.0)

    def give_up(self, now: float, idle: float) -> list[Unspent]:
        """What is to be given back, unused for so many seconds, of some leases, or with zero seconds of all; those of
        which nothing would be lost are forgotten."""
        unspent: list[Unspent] = []
        for who, lease in list(islice(self.held.items(), _AT_ONCE if idle else None)):
            unspent += _unspent(lease, now, idle)
            del self.held[who]
            if not lease.is_idle(now):
                self.held[who] = lease  # behind the others
        return unspent


def _unspent(lease: Lease, now: float, idle: float) -> list[Unspent]:
    units = lease.unspent(now, idle=idle)
    return [Unspent(lease.day, lease.key, units)] if units and lease.day is not None else []


class Quotas:
    """All leases of one worker; `workers` tells how many there are on all gateways."""

    def __init__(self, store: Store, workers: Callable[[], int], elapsed: Callable[[], float]) -> None:
        self._store, self._workers, self._elapsed = store, workers, elapsed
        self._accounts: dict[tuple[str, str, int], Account] = {}
        self._lane = Lane[tuple[Account, Lease]](self._ask, largest=_AT_ONCE, limit=_WAITING)
        self._keeping: asyncio.Task[None] | None = None
        self._late: list[Unspent] = []  # of leases that were forgotten
        self._full = False
        self._counted_at = 0.0

    def account(self, route: str, limit: Limit) -> Account:
        """That of a quota, whichever of the route's hosts is called."""
        return self._accounts.setdefault((route, limit.name, limit.count), Account(route, limit))

    def lease(self, account: Account, who: str | bytes, now: float) -> Lease:
        """What is held for `who`."""
        found = account.held.get(who)
        if found is None:
            if len(account.held) >= MOST:
                self._late += account.forget_oldest(now)
            found = account.make(who, now)
        return found

    def ask(
        self, account: Account, lease: Lease, answer: Callable[[Any], Answer], since: float | None = None
    ) -> Pending[Answer]:
        """Ask for one call more, with all who ask now; `answer` is given None, or StoreUnavailable, which this raises
        too."""
        return self._lane.add((account, lease), answer, since)

    def start(self) -> None:
        """Give back, from now on, what is not used."""
        self._keeping = asyncio.create_task(self._keep_on(), name="guard-quotas")

    async def close(self) -> None:
        """Give back all that is left, and ask no more."""
        await self._lane.close()
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        with suppress(StoreUnavailable):
            await self.give_back(idle=0.0)

    async def _ask(self, batch: Sequence[tuple[Account, Lease]]) -> Sequence[object]:
        accounts = {lease: account for account, lease in batch}
        waiting = Counter(lease for _, lease in batch)
        for lease, count in waiting.items():
            lease.ask(count)
        sent_at = self._elapsed()
        try:
            taking = [
                Taking(lease.key, lease.most, count, not self._full or accounts[lease].limit.by != "address")
                for lease, count in waiting.items()
            ]
            taken = await self._store.limits.take(taking, block=BLOCK, part=part(self._workers()))
            now = self._elapsed()
            for lease in waiting:
                given = taken.get(lease.key)
                if given is None:
                    lease.denied(now, _COUNT_EVERY)
                else:
                    lease.given(given.units, given.remaining, given.day, sent_at + given.seconds, now)
        finally:
            for lease, count in waiting.items():
                lease.answered(count)
        return [None] * len(batch)

    async def _keep_on(self) -> Never:
        while True:
            await asyncio.sleep(_EVERY * random.uniform(0.8, 1.2))  # noqa: S311 -- so that workers do not all come at once
            try:
                await self.give_back()
                await self._count()
            except StoreUnavailable:  # what was on its way is lost, and passes nowhere
                continue
            except Exception as exc:  # noqa: BLE001  # a fault of ours must stop no call
                _log.error("unused calls of quotas could not be given back; they pass nowhere", exc_info=exc)

    async def give_back(self, *, idle: float = IDLE) -> None:
        """Give back what is not used, and forget who has not called. Raises StoreUnavailable, and then it is lost."""
        now = self._elapsed()
        late, self._late = self._late[:_AT_ONCE], self._late[_AT_ONCE:]
        for account in self._accounts.values():
            late += account.give_up(now, idle)
        for first in range(0, len(late), _AT_ONCE):
            await self._store.limits.give_back(late[first : first + _AT_ONCE])

    async def _count(self) -> None:
        """Look now and then whether there are more rows than strangers may make."""
        now = self._elapsed()
        if now - self._counted_at < _COUNT_EVERY or all(one.limit.by != "address" for one in self._accounts.values()):
            return
        self._counted_at = now
        full = await self._store.limits.count_quotas(MOST_ROWS) >= MOST_ROWS
        if full and not self._full:
            _log.warning("more addresses have a quota today than are counted; further ones are refused", most=MOST_ROWS)
        self._full = full
