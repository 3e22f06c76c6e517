"""Turns at what is scarce, so that a flood of one kind makes nobody else wait, and how often it may be had at all."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

PERIOD: Final = 60.0  # seconds
_FETCHES: Final = 30  # in that time

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
    """How often in a minute a place may have something of one name, which somebody may want to flood: as a rule make us
    ask a host for a document."""

    def __init__(
        self, clock: Callable[[], float] | None = None, *, by_place: int = _FETCHES, by_name: int = _FETCHES
    ) -> None:
        self._clock, self._by_place, self._by_name = clock, by_place, by_name
        self._taken: Counter[str] = Counter()
        self._since = 0.0

    def take(self, place: str, name: str) -> bool:
        """Count one more, unless place or name has had enough for now."""
        now = asyncio.get_running_loop().time() if self._clock is None else self._clock()
        if now - self._since >= PERIOD:
            self._taken.clear()
            self._since = now
        from_place, to_name = f"from {place}", f"to {name}"
        if self._taken[from_place] >= self._by_place or self._taken[to_name] >= self._by_name:
            return False
        self._taken.update((from_place, to_name))
        return True
