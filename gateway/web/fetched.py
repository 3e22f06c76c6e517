"""What clients have at addresses of theirs: fetched when it is asked for, and kept.

One asks an address at a time, and whoever waited finds what came at hand. So many are asked at once, in turns that no
place and no host takes from others, and in a minute strangers make us ask no more often than `Fetches` says.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from gateway.fetching import Fetcher
from gateway.web.turns import Fetches, Turns

_MOST_KEPT: Final = 1000
_AT_ONCE: Final = 16

Value = TypeVar("Value")


class Kept(OrderedDict[str, Value]):
    """A bounded number of values by address. What was kept or moved to the end longest ago goes first."""

    def keep(self, address: str, value: Value) -> None:
        self[address] = value
        self.move_to_end(address)
        if len(self) > _MOST_KEPT:
            self.popitem(last=False)


class Fetched:
    """What is shared by those that fetch: the one at an address, the turns, the bounds, and the clock for it all."""

    def __init__(self, fetcher: Fetcher | None, clock: Callable[[], float] | None) -> None:
        self._fetcher, self._clock = fetcher, clock
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._turns = Turns(_AT_ONCE)
        self._fetches = Fetches(clock)

    def close(self) -> None:
        """Let go of the connections."""
        if self._fetcher is not None:
            self._fetcher.close()

    def _alone(self, address: str) -> AbstractAsyncContextManager[None]:
        """Hold an address, so that nobody else asks it."""
        return self._locks.setdefault(address, asyncio.Lock())

    def _now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()
