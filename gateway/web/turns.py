"""Turns at what is scarce, so that a flood of one kind makes nobody else wait, and how often it may be had at all."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

_PERIOD: Final = 60.0  # seconds
_MOST_BY_PLACE: Final = 30  # fetches in that time
_MOST_BY_HOST: Final = 30

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
    """How often a place may make us ask a host for something, which somebody may want to flood through us."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._taken: Counter[str] = Counter()
        self._since = 0.0

    def take(self, place: str, host: str) -> bool:
        """Count one more, unless the place or the host has had enough for now."""
        now = asyncio.get_running_loop().time() if self._clock is None else self._clock()
        if now - self._since >= _PERIOD:
            self._taken.clear()
            self._since = now
        by_place, by_host = f"from {place}", f"to {host}"
        if self._taken[by_place] >= _MOST_BY_PLACE or self._taken[by_host] >= _MOST_BY_HOST:
            return False
        self._taken.update((by_place, by_host))
        return True
