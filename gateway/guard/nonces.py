"""What makes a signed request pass once only: its nonce is spent in the database, by whoever comes first.

    spend ──▶ waiting ──▶ one statement in flight, while the next batch collects ──▶ first, replayed or stale

Requests that wait together share a statement (`guard.lane`). Between batches of several the loop has a few turns: what
has come by then, often from those who were answered just now, goes with those who wait already, since a statement costs
as much as a dozen nonces in it. Equal
nonces in a batch: the first wins. What a batch asks is judged by the clock once more when it is sent, and by the floor
when it is answered: below the floor the database has forgotten what was spent, so nothing passes there.

Who moves the floor, and where to:

    a minute behind what is stale     any worker, once a minute, by the earlier of its and the database's clock
    a minute behind what is stale     a worker that has no room for a timestamp which is fresh by its own clock
    now                               whoever finds that nobody kept it: after a stop, or in a backup that was restored
    now                               whoever finds another history, since what was spent last may be forgotten: a
                                      standby was promoted (another timeline), or the floor is lower than it was

A plain crash of Postgres moves nothing: what was spent is on the disk.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from enum import Enum
from math import inf
from time import monotonic
from typing import Final, Never, TypeVar, cast

from gateway.credentials.signed import Once
from gateway.errors import StoreUnavailable
from gateway.faults import OperatorError
from gateway.figures import NONCE_BATCH, NONCE_SECONDS
from gateway.guard.lane import Lane, Pending
from gateway.guard.verdict import Allowed
from gateway.model import AccessToken
from gateway.observe import get_logger
from gateway.store import FoundTerms, NonceTerms
from gateway.store import nonces as stored
from gateway.store.nonces import MINUTE, WINDOW

Answer = TypeVar("Answer")

_KEY_BYTES: Final = 16
_LARGEST: Final = 1024  # nonces in one statement
_MOST_WAITING: Final = 10_000
_EVERY: Final = 15.0  # seconds between two looks at the floor
_UNKEPT: Final = 2 * MINUTE  # a floor that is further behind than it may be was kept by nobody

# Clocks of replicas and of the database differ a little, and a clock set back by less revives no nonce.
_MARGIN: Final = MINUTE

# In seconds: what is too old by it, and what is too far ahead, must both fit the window, wherever its minute began.
MOST_SKEW: Final = (WINDOW - 2 * _MARGIN - 2 * MINUTE) // 2

_log = get_logger("gateway.guard")


class Spending(Enum):
    """What became of a nonce; true if this was its first time. The value says why not, for the client."""

    FIRST = ""
    REPLAYED = "The nonce was used before; sign each request with a new one."
    STALE = "The timestamp is too old to check; sign each request when you send it."

    def __bool__(self) -> bool:
        return self is Spending.FIRST


Outcome = Spending | StoreUnavailable
Token = AccessToken | Allowed  # one that signs, of which the digest and the end are of interest


class Nonces:
    """Spends nonces in one database, each once. `skew` is in seconds, and `now` gives seconds since 1970.

    Between `start` and `close` the floor is kept; without, it moves when it has to. Raises OperatorError when the
    database could not remember so long a skew.
    """

    def __init__(self, spent_in: stored.Nonces, skew: float, now: Callable[[], float]) -> None:
        if skew > MOST_SKEW:
            raise OperatorError(f"mac.skew: {skew:g}s is more than nonces are remembered for; at most {MOST_SKEW}s fit")
        self._spent_in = spent_in
        self._skew = skew
        self._now = now
        self._terms: NonceTerms | None = None
        self._timed = Lane(self._spend_timed, largest=_LARGEST, limit=_MOST_WAITING)
        self._lasting = Lane(self._spend_lasting, largest=_LARGEST, limit=_MOST_WAITING)
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Keep the floor from now on, also if the database is not there yet."""
        self._keeping = asyncio.create_task(self._keep_on(), name="guard-nonces")

    async def close(self) -> None:
        """Break off what is asked; who waits or comes later gets StoreUnavailable."""
        if self._keeping is not None:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        await self._timed.close()
        await self._lasting.close()

    def spend(self, token: Token, once: Once) -> Pending[Spending]:
        """Spend the nonce of a request whose signature is right and fresh. Raises StoreUnavailable, also awaited."""
        return self.spend_for(token, once, _or_raised)

    def spend_for(
        self, token: Token, once: Once, answer: Callable[[Outcome], Answer], since: float | None = None
    ) -> Pending[Answer]:
        """The same, for what `answer` makes of the outcome, or raises; `since` is when the caller began to wait."""
        hashed = key(token, once)
        if once.created is None:
            ends_at = cast("datetime", token.expires_at)
            return self._lasting.add((hashed, ends_at + timedelta(seconds=_MARGIN)), answer, since)
        return self._timed.add((hashed, once.created), answer, since)

    # -- what a batch is sent and answered by -----------------------------------------------------------------

    async def _spend_lasting(self, batch: Sequence[tuple[bytes, datetime]]) -> list[Spending]:
        """Nonces that count as long as their token."""
        with _counted(batch):
            return await self._spent_lasting(batch)

    async def _spend_timed(self, batch: Sequence[tuple[bytes, int]]) -> list[Spending]:
        """Nonces that count as long as their timestamp."""
        with _counted(batch):
            return await self._spent_timed(batch)

    async def _spent_lasting(self, batch: Sequence[tuple[bytes, datetime]]) -> list[Spending]:
        spent = set(await self._spent_in.spend_untimed(list(dict(batch).items())))
        return [_outcome(key, spent) for key, _ in batch]

    async def _spent_timed(self, batch: Sequence[tuple[bytes, int]]) -> list[Spending]:
        terms = await self._terms_for(max(second for _, second in batch))
        lowest = max(terms.floor, int(self._now()) - self._skew)  # fresh still, by the rule that it was judged by
        fresh = {key: second for key, second in batch if second >= lowest}
        spent: set[bytes] = set()
        if fresh:
            found, same = await self._spent_in.spend(list(fresh), list(fresh.values()), terms)
            if same and len(found) == len(batch):  # the common case
                return [Spending.FIRST] * len(batch)
            spent = set(found)
            if not same:
                lowest = max(lowest, await self._floor_on_other_terms(terms))
        return [_outcome(key, spent) if second >= lowest else Spending.STALE for key, second in batch]

    async def _terms_for(self, newest: int) -> NonceTerms:
        """Terms with room for a timestamp; the floor is raised where they have none."""
        terms = self._terms
        if terms is None or newest >= terms.ceiling:
            terms = await self._raised(await self._spent_in.terms(), terms, self._now())
            if newest >= terms.ceiling:
                raise StoreUnavailable("no room for the timestamp")
        return terms

    async def _floor_on_other_terms(self, known: NonceTerms) -> float:
        """After a batch that was spent on terms that no longer hold: from which timestamp on it counts."""
        found = await self._spent_in.terms()
        if _is_another_history(found, known):
            await self._raised(found, known, self._now())
            return inf
        self._terms = found.terms
        return found.terms.floor

    # -- the floor --------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Let the floor follow what is stale, and empty what it has left behind. Raises StoreUnavailable."""
        known = self._terms  # before the database is asked: what it says later on is not older
        found = await self._spent_in.terms()
        # By the earlier of both clocks: one that is far ahead must not have the requests of all others refused.
        await self._raised(found, known, min(self._now(), found.now))
        await self._spent_in.empty_slots()

    async def _keep_on(self) -> Never:
        while True:
            try:
                await self.keep()
            except StoreUnavailable:
                pass
            except Exception as exc:  # noqa: BLE001  # requests move the floor too, where they must
                _log.error("the nonces' floor cannot be kept; signed calls may be refused until it is", exc_info=exc)
            await asyncio.sleep(_EVERY * random.uniform(0.8, 1.2))  # noqa: S311 -- so that workers do not all come at once

    async def _raised(self, found: FoundTerms, known: NonceTerms | None, now: float) -> NonceTerms:
        """The terms as they are to be, by a floor that was raised if need be."""
        floor = self._floor_after(found, known, now)
        terms = NonceTerms(floor, found.timeline)
        if terms != found.terms:
            await self._spent_in.raise_floor(floor)
        self._terms = terms
        return terms

    def _floor_after(self, found: FoundTerms, known: NonceTerms | None, now: float) -> int:
        floor = found.terms.floor
        if _is_another_history(found, known):
            _log.warning("the database's history has changed; requests signed before now are refused")
            return max(floor, known.floor if known else 0, int(now) + 1)
        by_clock = int(now - self._skew - _MARGIN) // MINUTE * MINUTE  # the same for all workers within a minute
        if 0 < floor < by_clock - _UNKEPT:
            return int(now)
        return max(floor, by_clock)


@contextmanager
def _counted(batch: Sequence[object]) -> Iterator[None]:
    began = monotonic()
    try:
        yield
    finally:
        NONCE_BATCH.observe(len(batch))
        NONCE_SECONDS.observe(monotonic() - began)


def _is_another_history(found: FoundTerms, known: NonceTerms | None) -> bool:
    """Whether the server that answered may have forgotten what was spent: it was promoted, or taken back."""
    return found.timeline != found.terms.timeline or (known is not None and found.terms.floor < known.floor)


def _outcome(key: bytes, spent: set[bytes]) -> Spending:
    """The first of equal nonces in a batch gets it."""
    if key not in spent:
        return Spending.REPLAYED
    spent.remove(key)
    return Spending.FIRST


def key(token: Token, once: Once) -> bytes:
    """16 bytes that stand for the token, the draft or scheme, the nonce, and the time of signing where one is said."""
    created = "" if once.created is None else once.created
    text = f"{once.draft or once.scheme}\n{created}\n{once.nonce}"
    return hashlib.blake2b(token.digest + text.encode("ascii"), digest_size=_KEY_BYTES).digest()


def _or_raised(outcome: Outcome) -> Spending:
    if isinstance(outcome, StoreUnavailable):
        raise outcome
    return outcome
