"""In which database a nonce is spent, where several share them: by its token and its timestamp, and by nothing else.

    token, timestamp ──▶ the layout of that moment ──▶ one of its databases, by the token ──▶ `guard.nonces`

What a layout is the main database says (`store.nonces`), not a configuration: that names where databases are found. So
every worker of every gateway, with whatever list, spends a nonce in the same database or not at all, and a change of
the list lets none pass twice:

    a layout is made 20 minutes before its first timestamp     `gateway migrate`, once its databases are migrated
    a reading of the layouts counts for 15 minutes to come     timestamps beyond that wait for the next reading
    a database that is not known here, or away                 503, for the tokens that belong there and for no others

A nonce without a timestamp (MAC draft 00) counts as long as its token, whatever the layouts become meanwhile: it is
spent in the main database.
"""

import asyncio
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from typing import Any, Final, Never, TypeVar

from gateway.credentials.signed import Once
from gateway.errors import StoreUnavailable
from gateway.guard.lane import Lane, Pending
from gateway.guard.nonces import Nonces, Outcome, Token
from gateway.observe import get_logger
from gateway.store import Store
from gateway.store.nonces import BEGINNING, MAIN, Layout
from gateway.store.nonces import Nonces as Stored
from gateway.store.pool import DEADLINE

Answer = TypeVar("Answer")

_EVERY: Final = 15.0  # seconds between two readings of the layouts
_SOON: Final = 1.0  # the same while a database has not said its name
_PATIENCE: Final = 0.5  # seconds that a call waits for a name; whoever belongs elsewhere waits for it too
_LARGEST: Final = 1024
_MOST_WAITING: Final = 10_000

_log = get_logger("gateway.guard")


class Spread:
    """Spends nonces, each once, wherever it belongs; for the rest as `Nonces`."""

    def __init__(self, store: Store, skew: float, now: Callable[[], float]) -> None:
        self._store = store
        self._main = Nonces(store.nonces, skew, now)
        self._others = [Other(stored, Nonces(stored, skew, now)) for stored in store.further_nonces]
        self._layouts: tuple[Layout, ...] = (BEGINNING,)
        self._beginnings = [BEGINNING.from_second]
        self._until = 0.0  # the first timestamp for which the layout is not known yet
        self._alone = True  # there is no other layout than the main database by itself
        self._reading = Lane(self._read_for, largest=_LARGEST, limit=_MOST_WAITING)
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Keep the floors, and read the layouts, from now on, also if no database is there yet."""
        await self._main.start()
        for other in self._others:
            await other.nonces.start()
        self._keeping = asyncio.create_task(self._keep_on(), name="guard-spread")

    async def close(self) -> None:
        """Break off what is asked; who waits or comes later gets StoreUnavailable."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        await self._reading.close()
        await self._main.close()
        for other in self._others:
            await other.nonces.close()

    def spend_for(
        self, token: Token, once: Once, answer: Callable[[Outcome], Answer], since: float | None = None
    ) -> Pending[Any]:
        """Spend the nonce of a request whose signature is right and fresh, for what `answer` makes of the outcome; or
        for another Pending that does. Raises StoreUnavailable."""
        created = once.created
        if created is None:
            return self._main.spend_for(token, once, answer, since)
        if created < self._until:
            return self._home(token.digest, created).spend_for(token, once, answer, since)
        return self._reading.add(created, partial(self._read, token, once, answer, since), since)

    def _home(self, digest: bytes, created: int) -> Nonces:
        """Where the nonces of a token belong at a moment. Raises StoreUnavailable where that is not to be reached."""
        if self._alone:
            return self._main
        name = home(digest, self._layouts[bisect_right(self._beginnings, created) - 1].databases)
        if name == MAIN:
            return self._main
        for other in self._others:
            if other.name == name:
                return other.nonces
        raise StoreUnavailable("the database of this token's nonces is away, or not among database.nonces here")

    def _read(
        self, token: Token, once: Once, answer: Callable[[Outcome], Answer], since: float | None, outcome: object
    ) -> Any:
        """The same, once the layouts have been read for it."""
        try:
            if isinstance(outcome, StoreUnavailable):
                return answer(outcome)
            return self._home(token.digest, once.created or 0).spend_for(token, once, answer, since)
        except StoreUnavailable as exc:
            return answer(exc)

    async def _read_for(self, moments: Sequence[int]) -> list[StoreUnavailable | None]:
        """Read the layouts, for timestamps that they were not known for."""
        await self._look(_PATIENCE)
        late = StoreUnavailable("how nonces are spread is not known for that time")
        return [None if created < self._until else late for created in moments]

    async def _look(self, patience: float) -> None:
        """Read the layouts, and for so many seconds the names that are not known yet. Raises StoreUnavailable."""
        looks = asyncio.gather(*(other.look(patience) for other in self._others if other.name is None))
        try:
            found = await self._store.nonce_layouts.read()
        finally:
            await looks
        self._layouts = found.layouts
        self._beginnings = [layout.from_second for layout in found.layouts]
        self._alone = all(layout.databases == (MAIN,) for layout in found.layouts)
        self._until = found.until

    async def _keep_on(self) -> Never:
        while True:
            try:
                await self._look(DEADLINE)
            except StoreUnavailable:  # those that were read count for a while
                pass
            except Exception as exc:  # noqa: BLE001  # a fault of ours passes nothing
                _log.error("it cannot be read how nonces are spread; signed calls will be refused", exc_info=exc)
            pause = _EVERY if all(other.name is not None for other in self._others) else _SOON
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 -- so that workers do not all come at once


class Other:
    """A further database, by the name that it says it has; none before it has answered."""

    def __init__(self, stored: Stored, nonces: Nonces) -> None:
        self._stored = stored
        self.nonces: Final = nonces
        self.name: str | None = None

    async def look(self, patience: float) -> None:
        """Ask for the name, which stays the same, for so many seconds."""
        try:
            async with asyncio.timeout(patience):
                self.name = await self._stored.name()
        except (StoreUnavailable, TimeoutError):
            return
        except Exception as exc:  # noqa: BLE001  # a database that is not migrated is as one that is away
            _log.error("a database of nonces cannot be used; calls whose nonces belong there get 503", exc_info=exc)


def home(digest: bytes, databases: Sequence[str]) -> str:
    """Which of some databases the nonces of a token belong to: of those, few find another when one comes or goes."""
    if len(databases) == 1:
        return databases[0]
    return max(databases, key=lambda name: blake2b(digest, key=name.encode()[:64], digest_size=8).digest())
