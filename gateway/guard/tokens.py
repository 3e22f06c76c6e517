"""Which access tokens, and sessions of browsers, live: by the cache, or by the store.

    held     in the cache, and what it rests on counts: known at once
    near     else, where there are replicas: in a batch that one of them is asked for, which says only what lives
    asked    else, in a batch with all others that wait, of the primary

Tokens of ours, whose keyed check the guard has made before it asks, and those that were good once go in one lane;
tokens of other shapes, which anybody can invent, in another with a limit and a connection of its own: a flood of these
waits for itself, and asks no replica. Sessions, all of which have a keyed check, go in a third, which asks the primary
alone. Only what lives is held: of a token that is unknown or dead the log would not tell that it has been issued since.

A replica is asked with the newest change that was applied, and only within the lease, so that its answer is as good as
one of the cache's (`guard.ledger`, `store.replicas`).
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar, final

from gateway.crypto import is_like_our_jwt
from gateway.errors import StoreUnavailable
from gateway.figures import REPLICA_LOOKUPS
from gateway.guard.cache import Cache
from gateway.guard.held import Held
from gateway.guard.lane import Lane, Pending
from gateway.guard.ledger import Ledger
from gateway.store import EndedToken, Store
from gateway.store.access_tokens import FoundTokens
from gateway.store.changes import Mark

_LARGEST: Final = 256  # tokens in one query
_OWN_LANE: Final = 20_000  # tokens that may wait
_STRANGERS_LANE: Final = 512  # two batches

Answer = TypeVar("Answer")


@final
class AskPrimary:
    """What a replica says of a token that does not live as far as it knows: that is for the primary to say."""


Known = Held | EndedToken | StoreUnavailable | AskPrimary | None
"""What the database says of a token: None where it is unknown; the time of one that lives is the caller's to judge."""

_ASK_PRIMARY: Final = AskPrimary()


class Tokens:
    """Looks access tokens up, in the cache or in the store."""

    def __init__(self, store: Store, ledger: Ledger, *, keeps_sign_ins: bool = False) -> None:
        self._store = store
        self._ledger = ledger
        self.cache = Cache(ledger, keeps_sign_ins=keeps_sign_ins)
        self._own = Lane(self._find, largest=_LARGEST, limit=_OWN_LANE)
        self._strangers = Lane(self._find, largest=_LARGEST, limit=_STRANGERS_LANE)
        self._sessions = Lane(self._find_sessions, largest=_LARGEST, limit=_OWN_LANE)
        self._replicas = store.access_tokens.replicas
        self._near: Lane[bytes] | None = None
        if self._replicas is not None:
            self._near = Lane(self._find_near, largest=_LARGEST, limit=_OWN_LANE)
            self._replicas.follow(self._newest)

    def ask(
        self,
        token: bytes,
        digest: bytes,
        answer: Callable[[Known], Answer],
        since: float | None = None,
        *,
        near: bool = True,
    ) -> Pending[Answer]:
        """Ask the store for a token; what `answer` makes of it. Raises StoreUnavailable where too many wait already.

        What comes back may be from before a change that is known meanwhile: see `counts`. A replica, which is not asked
        unless `near`, may leave it AskPrimary.
        """
        if not (token.startswith(b"gwa_") or is_like_our_jwt(token)) and digest not in self.cache:
            return self._strangers.add(digest, answer, since)
        if near and self._near is not None and self._rests_near():
            return self._near.add(digest, answer, since)
        return self._own.add(digest, answer, since)

    def ask_session(
        self, digest: bytes, answer: Callable[[Known], Answer], since: float | None = None
    ) -> Pending[Answer]:
        """Ask the primary for a session, whose keyed check is good."""
        return self._sessions.add(digest, answer, since)

    def ask_primary(self, digest: bytes, answer: Callable[[Known], Answer], *, session: bool) -> Pending[Answer]:
        """Ask the primary for a token or session that was good once. Raises StoreUnavailable where too many wait
        already."""
        return (self._sessions if session else self._own).add(digest, answer)

    def counts(self, held: Held) -> bool:
        """Whether nothing of what a token hangs on was changed since the store was asked."""
        return self._ledger.untouched(held.allowed.marks, held.position)

    async def _find(self, digests: Sequence[bytes]) -> list[Held | EndedToken | None]:
        return await self._found(digests, self._store.access_tokens.find_many)

    async def _find_sessions(self, digests: Sequence[bytes]) -> list[Held | EndedToken | None]:
        return await self._found(digests, self._store.sessions.find_many)

    async def _found(
        self, digests: Sequence[bytes], find_many: Callable[[Sequence[bytes]], Awaitable[FoundTokens]]
    ) -> list[Held | EndedToken | None]:
        ledger, position = self._ledger, self._ledger.position  # before the query is sent
        found = await find_many(list(dict.fromkeys(digests)))
        answers = {hashed: self.cache.made(token, position) for hashed, token in found.tokens.items()}
        if found.server == ledger.server:
            for held in answers.values():
                if ledger.untouched(held.allowed.marks, position):
                    self.cache.put(held)
        elif found.server is not None and ledger.server is not None:
            # A server whose log is not the one that is followed: it answers this call, and nothing is built on it.
            self._store.access_tokens.renew()
        return [answers.get(hashed) or found.ended.get(hashed) for hashed in digests]

    async def _find_near(self, digests: Sequence[bytes]) -> list[Held | AskPrimary]:
        """The same of a replica, for those that it knows to live."""
        ledger, position, newest = self._ledger, self._ledger.position, self._ledger.newest  # before the query is sent
        found = None
        if newest is not None and ledger.holds:
            found = await self._store.access_tokens.find_near(list(dict.fromkeys(digests)), newest)
        if found is None or not ledger.holds:
            REPLICA_LOOKUPS.add(len(digests), "unanswered")
            return [_ASK_PRIMARY] * len(digests)
        answers = {hashed: self.cache.made(token, position) for hashed, token in found.items()}
        for held in answers.values():
            if ledger.untouched(held.allowed.marks, position):
                self.cache.put(held)
        known: list[Held | AskPrimary] = [answers.get(hashed) or _ASK_PRIMARY for hashed in digests]
        living = sum(isinstance(one, Held) for one in known)
        REPLICA_LOOKUPS.add(living, "living")
        REPLICA_LOOKUPS.add(len(digests) - living, "unknown")
        return known

    def _rests_near(self) -> bool:
        """Whether a replica may be asked now."""
        return self._replicas is not None and self._replicas.ready and self._ledger.holds

    def _newest(self) -> Mark | None:
        return self._ledger.newest

    async def close(self) -> None:
        """Break off what is asked."""
        if self._near is not None:
            await self._near.close()
        await self._own.close()
        await self._strangers.close()
        await self._sessions.close()
