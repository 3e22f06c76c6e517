"""Password checks, and the hashing of new ones, off the loop: two at a time, sixteen waiting, and beyond that an
honest "busy".

argon2id takes 19 MiB and some 20 ms of a core for each; without a bound, a flood of sign-ins would take them all. The
memory is kept from check to check, since a fresh one costs 12 ms more, and given back when there was none for a while.

The places are shared fairly between client addresses, so that who floods waits for himself:

    a check begins     the addresses that wait take turns; each has its own first come, first served
    no place is left   whoever has most waiting gives up the place of the one that came last, if the newcomer's address
                       has fewer by more than that one; else the newcomer is told "busy"

An IPv6 address stands for its /64, all of which one host may have.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gateway import memory
from gateway.crypto import UNKNOWN_USER_HASH, hash_password, password_matches
from gateway.errors import GatewayError
from gateway.figures import PASSWORD_CHECKS_WAITING
from gateway.routing.forwarded import neighbourhood

AT_ONCE: Final = 2
WAITING: Final = 16
_REST: Final = 5.0  # seconds without a check


class Busy(GatewayError):
    """More checks wait than may; nobody was told whether the password is right."""


@dataclass(frozen=True, slots=True, eq=False)
class _Check:
    work: Callable[[], bool | str]
    answer: "asyncio.Future[Any]"


class PasswordChecks:
    """The password checks of one worker."""

    def __init__(self) -> None:
        memory.use_one_heap()
        self._threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="gateway-passwords")
        self._running = 0
        self._waiting: dict[str, deque[_Check]] = {}  # by neighbourhood; whose turn it is stands first
        self._giving_back: asyncio.TimerHandle | None = None

    async def matches(self, password_hash: str | None, password: str, address: str) -> bool:
        """Whether the password is the one; for a user that is not there (None), no, after the same time.

        Raises Busy when AT_ONCE run and WAITING wait and the client's `address` has its share of them. A check that
        runs when its caller goes away counts until it has run.
        """
        check = partial(password_matches, password_hash or UNKNOWN_USER_HASH, password)
        right: bool = await self._in_turn(check, address)
        return right and password_hash is not None

    async def hashed(self, password: str, address: str) -> str:
        """The hash of a new password, in the same turns. Raises Busy."""
        made: str = await self._in_turn(partial(hash_password, password), address)
        return made

    async def _in_turn(self, work: Callable[[], bool | str], address: str) -> Any:
        check, place = _Check(work, asyncio.get_running_loop().create_future()), neighbourhood(address)
        self._make_room(place)
        self._waiting.setdefault(place, deque()).append(check)
        self._begin()
        try:
            return await check.answer
        finally:
            self._withdraw(place, check)

    @property
    def _pending(self) -> int:
        return self._running + sum(map(len, self._waiting.values()))

    def report(self) -> None:
        """Say in the figures how many checks run or wait."""
        PASSWORD_CHECKS_WAITING.set(self._pending)

    def _make_room(self, place: str) -> None:
        if self._pending < AT_ONCE + WAITING:
            return
        heaviest = max(self._waiting.values(), key=len)
        if len(heaviest) <= len(self._waiting.get(place, ())) + 1:
            raise Busy("too many password checks")
        last = heaviest.pop()
        if not last.answer.done():
            last.answer.set_exception(Busy("too many password checks from one address"))

    def _begin(self) -> None:
        while self._running < AT_ONCE and self._waiting:
            place, queue = next(iter(self._waiting.items()))
            check = queue.popleft()
            del self._waiting[place]
            if queue:
                self._waiting[place] = queue  # behind all others
            self._run(check)

    def _run(self, check: _Check) -> None:
        self._running += 1
        self._keep_memory()
        loop = asyncio.get_running_loop()
        work = self._threads.submit(check.work)
        work.add_done_callback(lambda done: self._finished(loop, check, done))

    def _withdraw(self, place: str, check: _Check) -> None:
        """The caller is gone or has its answer; a check that has not begun need not."""
        queue = self._waiting.get(place, deque())
        if check in queue:
            queue.remove(check)
            if not queue:
                del self._waiting[place]

    def _finished(self, loop: asyncio.AbstractEventLoop, check: _Check, work: "Future[bool | str]") -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._release, check, work)

    def _release(self, check: _Check, work: "Future[bool | str]") -> None:
        self._running -= 1
        if not check.answer.done():
            if (fault := None if work.cancelled() else work.exception()) is not None:
                check.answer.set_exception(fault)
            elif work.cancelled():
                check.answer.cancel()
            else:
                check.answer.set_result(work.result())
        self._begin()
        if self._pending == 0:
            self._giving_back = asyncio.get_running_loop().call_later(_REST, memory.give_back)

    def _keep_memory(self) -> None:
        if self._giving_back is not None:
            self._giving_back.cancel()
            self._giving_back = None

    def close(self) -> None:
        self._keep_memory()
        self._threads.shutdown(wait=False, cancel_futures=True)
