"""Questions to the database that wait together go in one statement, of which one is in flight at a time.

    add ──▶ waiting ──▶ one statement in flight, while the next batch collects ──▶ each is told its outcome

No timer is on the way, so that a lone question pays one round trip. After a batch of several the loop has some turns
first: what comes of those who were just told goes with those who wait already, since a statement for thirty takes the
database no more than twice what one for four takes. A question never joins a statement that is in flight already: its
answer may be older than the question. One timer for all that wait sees to it that nobody waits for long.
"""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from itertools import chain
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from gateway.errors import StoreUnavailable
from gateway.observe import get_logger
from gateway.store.pool import DEADLINE

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_TURNS: Final = 12  # of the loop between two batches: their answers out, upstream and back, and the next requests in
PATIENCE: Final = DEADLINE + 0.1  # seconds that a question may wait, for those in flight and then for its own answer

_log = get_logger("gateway.guard")


class Pending(Generic[Answer]):
    """One question that waits, and the answer that is made of its outcome: awaited, or told to one callable.

    No future: each of those takes a callback of the loop's own, and all of a batch are told in one.
    """

    __slots__ = ("_make", "_outcome", "_settled", "_tell", "came_at", "item", "wanted")

    def __init__(self, item: object, make: Callable[[Any], Answer], came_at: float) -> None:
        self.item: Final[Any] = item
        self.came_at: Final = came_at  # by the monotonic clock; with a question that led to this one, its
        self.wanted = True  # until there is an outcome, or nobody waits any more
        self._make = make
        self._settled = False
        self._outcome: object = None
        self._tell: Callable[[Pending[Answer]], None] | None = None

    def then(self, tell: Callable[["Pending[Answer]"], None]) -> None:
        """Have `tell` called with this, when the answer is there."""
        if self._settled:
            tell(self)
        else:
            self._tell = tell

    def result(self) -> Answer:
        """The answer, which must be there. Raises what is raised in its stead."""
        return self._make(self._outcome)

    def drop(self) -> None:
        """Nobody waits any more: what has not been sent is not asked."""
        self.wanted = False

    def settle(self, outcome: object) -> None:
        """Tell what became of it; the first time counts."""
        if self.wanted:
            self.wanted, self._settled, self._outcome = False, True, outcome
            if self._tell is not None:
                self._tell(self)

    def __await__(self) -> Generator[Any, None, Answer]:
        if not self._settled:
            woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.then(lambda _: None if woken.done() else woken.set_result(None))
            try:
                yield from woken
            except asyncio.CancelledError:
                self.drop()
                raise
        return self.result()


class Lane(Generic[Item]):
    """What waits for one kind of statement; `send` gives an outcome for each of up to `largest` items, in their order.

    An outcome is `StoreUnavailable` where the statement failed. `limit` may wait.
    """

    def __init__(
        self, send: Callable[[Sequence[Item]], Awaitable[Sequence[object]]], *, largest: int, limit: int
    ) -> None:
        self._send = send
        self._largest, self._limit = largest, limit
        self._waiting: list[Pending[Any]] = []
        self._flying: Sequence[Pending[Any]] = ()
        self._running: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0  # by the loop; uvloop's timer does not tell when it is due at once
        self._closed = False

    def add(self, item: Item, answer: Callable[[Any], Answer], since: float | None = None) -> Pending[Answer]:
        """Have it sent with all that come in the same turn of the loop, or after what is in flight.

        `since` is when the one who asks began to wait, if that was before. Raises StoreUnavailable.
        """
        if self._closed or len(self._waiting) >= self._limit:
            raise StoreUnavailable("closed" if self._closed else f"{self._limit} questions wait already")
        pending = Pending(item, answer, monotonic() if since is None else since)
        self._waiting.append(pending)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        if self._timer is None or since is not None:
            self._set_timer(pending.came_at + PATIENCE - monotonic())
        return pending

    async def close(self) -> None:
        """Break off what is in flight; all that wait get StoreUnavailable."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        waiting, self._waiting = self._waiting, []
        _fail(waiting, "closed")

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = [pending for pending in self._waiting[: self._largest] if pending.wanted]
                self._waiting = self._waiting[self._largest :]
                if batch:
                    self._flying = batch
                    await self._answer(batch)
                    if len(batch) > 1 or self._waiting:
                        for _ in range(_TURNS):
                            await asyncio.sleep(0)
        finally:
            self._running, self._flying = None, ()

    async def _answer(self, batch: Sequence[Pending[Any]]) -> None:
        try:
            outcomes = await self._send([pending.item for pending in batch])
        except StoreUnavailable as fault:
            _fail(batch, str(fault))
        except asyncio.CancelledError:
            _fail(batch, "closed")
            raise
        except Exception as exc:  # noqa: BLE001  # a fault of ours passes nothing
            _log.error("the database cannot be asked; calls that wait for it are refused", exc_info=exc)
            _fail(batch, f"{type(exc).__name__}")
        else:
            _tell(batch, outcomes)

    def _set_timer(self, seconds: float) -> None:
        """Look for who waits too long in so many seconds, unless that is going to happen earlier."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer, self._timer_at = loop.call_later(seconds, self._lose_patience), due

    def _lose_patience(self) -> None:
        """Let nobody wait any longer who has waited for so long; the timer is set for the next one, if any."""
        self._timer = None
        now = monotonic()
        waiting = [pending for pending in chain(self._flying, self._waiting) if pending.wanted]
        late = [pending for pending in waiting if pending.came_at + PATIENCE <= now]
        _fail(late, "no answer in time")
        left = min((pending.came_at + PATIENCE - now for pending in waiting if pending.wanted), default=None)
        if left is not None:
            self._set_timer(left)


def _fail(batch: Sequence[Pending[Any]], cause: str) -> None:
    _tell(batch, [StoreUnavailable(cause) for _ in batch])


def _tell(batch: Iterable[Pending[Any]], outcomes: Iterable[object]) -> None:
    for pending, outcome in zip(batch, outcomes, strict=True):
        try:
            pending.settle(outcome)
        except Exception as exc:  # noqa: BLE001  # a fault of one who waits is none of the others'
            _log.error("a call could not be told what the database said", exc_info=exc)
