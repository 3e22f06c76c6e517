"""Turns at what is scarce, so that a flood of one kind makes nobody else wait, and how often it may be had at all."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from gateway.routing.forwarded import site

PERIOD: Final = 60.0  # seconds
# In that time; a site of IPv6 is a /48, of as many places as it likes.
_FETCHES_BY_PLACE: Final = 30
_FETCHES_BY_SITE: Final = 150
_FETCHES_OF_HOST: Final = 600
_FETCHES_FOR_KNOWN: Final = 20
_FETCHES_FOR_ALL_KNOWN: Final = 3000  # at one host

_Waiting = dict[str, deque["asyncio.Future[None]"]]


class Turns:
    """So many at once. Who waits is served in turn: the places one after the other, at a place the names that are
    asked for one after the other, and for one name first come, first served.

    The place is a client's address, and the name what anybody there may flood: a flood of one name from one address
    delays no other name and no other address by more than a turn.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: dict[str, _Waiting] = {}  # by place, then by name; whose turn it is stands first

    @asynccontextmanager
    async def turn(self, place: str, name: str) -> AsyncIterator[None]:
        """Hold one turn, which ends with the context."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(place, name)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, place: str, name: str) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(place, {}).setdefault(name, deque()).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # its turn came in the moment of giving up
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            place, names = next(iter(self._waiting.items()))
            name, queue = next(iter(names.items()))
            waiter = queue.popleft()
            del self._waiting[place], names[name]  # each goes behind the others, if more wait there
            if queue:
                names[name] = queue
            if names:
                self._waiting[place] = names
            if not waiter.done():
                waiter.set_result(None)
                return
        self._free += 1


class Allowance:
    """How often in a minute a place, and the site that it is of, may have something of one name, which somebody may
    want to flood. `by_name` is well above the others: what is used up for one name is used up for everybody, so that
    no place and no site alone may come to it."""

    def __init__(
        self, clock: Callable[[], float] | None = None, *, by_place: int, by_site: int | None = None, by_name: int
    ) -> None:
        self._clock, self._by_place, self._by_site, self._by_name = clock, by_place, by_site, by_name
        self._taken: Counter[str] = Counter()
        self._since = 0.0

    def take(self, place: str, name: str) -> bool:
        """Count one more, unless place, site or name has had enough for now."""
        now = asyncio.get_running_loop().time() if self._clock is None else self._clock()
        if now - self._since >= PERIOD:
            self._taken.clear()
            self._since = now
        counted = {f"from {place}": self._by_place, f"to {name}": self._by_name}
        if self._by_site is not None and (where := site(place)) != place:
            counted[f"from {where}"] = self._by_site
        if any(self._taken[one] >= most for one, most in counted.items()):
            return False
        self._taken.update(counted.keys())
        return True


class Fetches:
    """How often in a minute strangers may have us ask a host for a document, and how often those whom we know.

    What strangers use up takes nothing from whom we know: a client that the database has, say, or an address that gave
    what it should. Those have a bound each, whoever makes us ask, and one for all of them at a host.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._strangers = Allowance(
            clock, by_place=_FETCHES_BY_PLACE, by_site=_FETCHES_BY_SITE, by_name=_FETCHES_OF_HOST
        )
        self._known = Allowance(clock, by_place=_FETCHES_FOR_KNOWN, by_name=_FETCHES_FOR_ALL_KNOWN)

    def take(self, place: str, host: str, known: str | None) -> bool:
        """Count one more for whoever is `known`, else for the place; False where that is one too many."""
        return self._strangers.take(place, host) if known is None else self._known.take(known, host)
