"""Which access tokens live: the one door through which the guard learns of a token.

    held     in the cache, and what it rests on counts: known at once
    asked    else, in a batch with all others that wait

Tokens of ours (their keyed check is good) and those that were good once go in one lane, tokens of other shapes, which
anybody can invent, in another with a limit and a connection of its own: a flood of these waits for itself. Only what
lives is held: of a token that is unknown or dead the log would not tell that it has been issued since.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from gateway.crypto import digest
from gateway.guard.batches import Batches
from gateway.guard.cache import Cache, Held
from gateway.guard.ledger import Ledger
from gateway.store import Store

_OWN_LANE: Final = 20_000  # tokens that may wait
_STRANGERS_LANE: Final = 512  # two batches


class Tokens:
    """Looks access tokens up, in the cache or in the store."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self.cache = Cache(ledger)
        self._own = Batches(self._ask, limit=_OWN_LANE)
        self._strangers = Batches(self._ask, limit=_STRANGERS_LANE)

    async def known(self, token: str) -> Held | None:
        """The token unless it is unknown or was ended; its time is for the caller to judge.

        Raises StoreUnavailable, or Overloaded.
        """
        hashed = digest(token)
        held = self.cache.get(hashed)
        if held is not None:
            return held
        lane = self._own if token.startswith("gwa_") or hashed in self.cache else self._strangers
        while True:
            held = await lane.answer(hashed)
            if held is None or self._ledger.untouched(held.marks, held.position):
                return held
            # It met a change of what it hangs on, and may be from before that: asked again.

    async def still_live(self, digests: Collection[bytes], now: float) -> frozenset[bytes]:
        """Which tokens live at `now`, by their digests. Raises StoreUnavailable."""
        held = {hashed: found for hashed in digests if (found := self.cache.get(hashed)) is not None}
        live = frozenset(hashed for hashed, found in held.items() if found.ends_at > now)
        rest = [hashed for hashed in digests if hashed not in held]
        return live | await self._store.live_access_tokens(rest) if rest else live

    async def _ask(self, digests: Sequence[bytes]) -> Mapping[bytes, Held]:
        ledger, position = self._ledger, self._ledger.position  # before the query is sent
        found = await self._store.access_tokens(digests)
        answers = {hashed: self.cache.made(token, position) for hashed, token in found.tokens.items()}
        if found.server == ledger.server:
            for held in answers.values():
                if ledger.untouched(held.marks, position):
                    self.cache.put(held)
        elif found.server is not None and ledger.server is not None:
            # A server whose log is not the one that is followed: it answers this call, and nothing is built on it.
            self._store.renew_lookups()
        return answers

    async def close(self) -> None:
        """Break off what is asked."""
        await self._own.close()
        await self._strangers.close()
