"""Questions that wait together are asked together: one query in flight, while the next collects.

No timer is on the way. A question that comes while nothing is in flight is sent at once, with all that came in the
same turn of the loop; all others go with the next query, however many they are, in the order in which they came. A
question never joins a query that is in flight already: its answer may be older than the question.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Final, Generic, TypeVar

from gateway.errors import GatewayError

Key = TypeVar("Key")
Answer = TypeVar("Answer")

_LARGEST: Final = 256  # keys in one query


class Overloaded(GatewayError):
    """Too many questions wait already."""


class _Question(Generic[Answer]):
    """One key, and how many wait for its answer."""

    __slots__ = ("answer", "asking")

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer | Exception | None] = asyncio.get_running_loop().create_future()
        self.asking = 0


class Batches(Generic[Key, Answer]):
    """Answers by key, asked of `ask` in batches; what it leaves out has no answer. `limit` keys may wait."""

    def __init__(self, ask: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Answer]]], *, limit: int) -> None:
        self._ask = ask
        self._limit = limit
        self._waiting: dict[Key, _Question[Answer]] = {}
        self._running: asyncio.Task[None] | None = None

    async def answer(self, key: Key) -> Answer | None:
        """The answer as of now or later; None if there is none. Raises Overloaded, and whatever `ask` raises."""
        question = self._waiting.get(key)
        if question is None:
            if len(self._waiting) >= self._limit:
                raise Overloaded(f"{self._limit} questions wait already")
            question = self._waiting[key] = _Question()
            if self._running is None:
                self._running = asyncio.create_task(self._run(), name="guard-batches")
        question.asking += 1
        try:
            answer = await asyncio.shield(question.answer)
        finally:
            question.asking -= 1
            if not question.asking and self._waiting.get(key) is question:
                del self._waiting[key]  # nobody wants to know any more
        if isinstance(answer, Exception):
            raise answer.with_traceback(None)  # it may be raised many times, and would hold on to every frame
        return answer

    async def close(self) -> None:
        """Break off the query in flight; who waits or comes later gets Overloaded."""
        self._limit = 0
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        waiting, self._waiting = self._waiting, {}
        _tell(waiting, Overloaded("closed"))

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch = dict(islice(self._waiting.items(), _LARGEST))
                for key in batch:
                    del self._waiting[key]
                await self._answer(batch)
        finally:
            self._running = None

    async def _answer(self, batch: Mapping[Key, _Question[Answer]]) -> None:
        try:
            answers = await self._ask(list(batch))
        except Exception as exc:  # the fault is theirs who asked: each is told
            _tell(batch, exc)
        except asyncio.CancelledError:
            _tell(batch, Overloaded("closed"))
            raise
        else:
            for key, question in batch.items():
                question.answer.set_result(answers.get(key))


def _tell(batch: Mapping[Key, _Question[Answer]], fault: Exception) -> None:
    for question in batch.values():
        question.answer.set_result(fault)
