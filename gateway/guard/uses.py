"""Which tokens and sessions were used, and for which scopes: what a worker remembers of its calls and writes down.

It does so each minute.

A call costs one entry in a set. Of a token that is in steady use, a row is written every five minutes by each worker.
"""

import asyncio
from contextlib import suppress
from typing import Final

from gateway.errors import StoreUnavailable
from gateway.guard.verdict import Allowed
from gateway.observe import get_logger
from gateway.routing import Route
from gateway.routing.call import Call
from gateway.store import Store
from gateway.store.uses import Uses

_EVERY: Final = 60.0  # seconds
_AGAIN: Final = 5  # times of that, after which what was written down is so again
MOST: Final = 50_000  # entries of one minute; what is beyond waits for the next one

_log = get_logger("gateway.guard")


class Used:
    """The uses of one worker."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._noted: set[tuple[bytes, str | None, Route, str]] = set()
        self._written: set[bytes] = set()
        self._rounds = 0
        self._writing: asyncio.Task[None] | None = None

    def note(self, token: Allowed, call: Call) -> None:
        """A call has passed all checks but its body's and its nonce's."""
        if len(self._noted) < MOST:
            self._noted.add((token.digest, token.client_id, call.route, call.method))

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
        """Write down what was used since the last time. Raises StoreUnavailable, and then has forgotten it."""
        noted, self._noted = self._noted, set()
        tokens = {digest for digest, client, _, _ in noted if client is not None} - self._written
        sessions = {digest for digest, client, _, _ in noted if client is None} - self._written
        scopes = {(client, scope) for _, client, route, method in noted if client for scope in route.scopes_for(method)}
        if tokens or scopes or sessions:
            await self._store.holdings.note(Uses(tokens, scopes, sessions))
        self._rounds = (self._rounds + 1) % _AGAIN
        self._written = self._written | tokens | sessions if self._rounds else set()

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            try:
                await self.flush()
            except StoreUnavailable:  # which is told by those who ask for something
                continue
            except Exception as exc:  # noqa: BLE001  # what is not written down stops no call
                _log.error("it cannot be written down which tokens were used", exc_info=exc)
