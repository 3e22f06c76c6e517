"""Which tokens and sessions were used, and for which scopes: what a worker remembers of its calls and writes down.

It does so each minute. Of a token that is in steady use, a row is written every five minutes by each worker: what is
held of it says whether a call is the first of these minutes, so that others touch nothing that grows with the tokens.
"""

import asyncio
from contextlib import suppress
from typing import Final

from gateway.errors import StoreUnavailable
from gateway.guard.held import Held
from gateway.observe import get_logger
from gateway.routing import Route
from gateway.routing.call import Call
from gateway.store import Store
from gateway.store.uses import Uses

_EVERY: Final = 60.0  # seconds
_AGAIN: Final = 5  # times of that are a period, in each of which the use of a token is noted once
MOST: Final = 50_000  # entries of a kind in one minute; what is beyond waits for the next one

_log = get_logger("gateway.guard")


class Used:
    """The uses of one worker."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tokens: set[bytes] = set()
        self._sessions: set[bytes] = set()
        self._calls: set[tuple[str, Route, str]] = set()  # by client, route and method
        self._period = 1
        self._rounds = 0
        self._writing: asyncio.Task[None] | None = None

    def note(self, held: Held, call: Call) -> None:
        """A call has passed all checks but its body's and its nonce's."""
        client_id = held.allowed.client_id
        if held.noted_in != self._period:
            digests = self._sessions if client_id is None else self._tokens
            if len(digests) < MOST:
                digests.add(held.allowed.digest)
                held.noted(self._period)
        if client_id and len(self._calls) < MOST:
            self._calls.add((client_id, call.route, call.method))

    def start(self) -> None:
        """Write down each minute what was used, from now on."""
        self._writing = asyncio.create_task(self._write(), name="guard-uses")

    async def close(self) -> None:
        """Do so once more, and no longer."""
        if self._writing is not None:
            self._writing.cancel()
            with suppress(asyncio.CancelledError):
                await self._writing
            with suppress(StoreUnavailable):
                await self.flush()

    async def flush(self) -> None:
        """Write down what was used since the last time. Raises StoreUnavailable, and keeps it then."""
        tokens, sessions, calls = self._tokens, self._sessions, self._calls
        self._tokens, self._sessions, self._calls = set(), set(), set()
        self._rounds += 1
        if self._rounds % _AGAIN == 0:
            self._period += 1
        scopes = {(client, scope) for client, route, method in calls for scope in route.scopes_for(method)}
        if not (tokens or sessions or scopes):
            return
        try:
            await self._store.holdings.note(Uses(tokens, scopes, sessions))
        except BaseException:
            self._tokens |= tokens
            self._sessions |= sessions
            self._calls |= calls
            raise

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self.flush()
            except StoreUnavailable:  # which is told by those who ask for something
                continue
            except Exception as exc:  # noqa: BLE001  # what is not written down stops no call
                _log.error("it cannot be written down which tokens were used", exc_info=exc)
