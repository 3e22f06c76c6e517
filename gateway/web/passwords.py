"""Password checks off the loop: two at a time, sixteen waiting, and beyond that an honest "busy".

argon2id takes 19 MiB and some 20 ms of a core for each; without a bound, a flood of sign-ins would take them all. The
memory is kept from check to check, since a fresh one costs 12 ms more, and given back when there was none for a while.
"""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from gateway import memory
from gateway.crypto import UNKNOWN_USER_HASH, password_matches
from gateway.errors import GatewayError

AT_ONCE: Final = 2
WAITING: Final = 16
_REST: Final = 5.0  # seconds without a check


class Busy(GatewayError):
    """More checks wait than may; nobody was told whether the password is right."""


class PasswordChecks:
    """The password checks of one worker."""

    def __init__(self) -> None:
        memory.use_one_heap()
        self._threads = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="gateway-passwords")
        self._pending = 0
        self._giving_back: asyncio.TimerHandle | None = None

    async def matches(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is the one; for a user that is not there (None), no, after the same time.

        Raises Busy when AT_ONCE run and WAITING wait. A check whose caller went away counts until it has run.
        """
        if self._pending >= AT_ONCE + WAITING:
            raise Busy("too many password checks")
        self._pending += 1
        self._keep_memory()
        loop = asyncio.get_running_loop()
        check = self._threads.submit(password_matches, password_hash or UNKNOWN_USER_HASH, password)
        check.add_done_callback(lambda done: self._finished(loop, done))
        return await asyncio.wrap_future(check) and password_hash is not None

    def _finished(self, loop: asyncio.AbstractEventLoop, _check: Future[bool]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        self._pending -= 1
        if self._pending == 0:
            self._giving_back = asyncio.get_running_loop().call_later(_REST, memory.give_back)

    def _keep_memory(self) -> None:
        if self._giving_back is not None:
            self._giving_back.cancel()
            self._giving_back = None

    def close(self) -> None:
        self._keep_memory()
        self._threads.shutdown(wait=False, cancel_futures=True)
