"""What a cached token may rest on: how far the log has been applied, what it touched, and until when that counts.

Everything is told in positions: a counter of this process that moves with each reading that brought changes.

    verified as of p     the database said so in a query that was sent when p had been applied
    untouched since p    none of what a token hangs on was named by a change that was applied after p
    forgotten at p       nothing from before counts: the log could not tell what had changed

So a token that was verified as of p holds as long as it is untouched since p, whichever of answer and change came
first. That is the whole argument, and it covers the miss that meets a revocation: its answer may be from before a
change that was applied while it was under way, but then it was verified as of a position before that change.

What a token hangs on (itself, its family, grant, client and user; a session, itself and its user) is remembered as five
marks of 16 bits in one number, and what was touched as the latest position for each mark. Two things may share a mark:
then a change costs a token that it did not concern one more query, and a hundred thousand cached tokens need no index
of their origins.

The lease bounds what is not known: it counts from the moment in which the last successful reading was *sent*.
"""

from collections.abc import Callable, Collection, Iterable
from math import inf
from typing import Final

from gateway.model import SESSION, AccessToken
from gateway.store.changes import Mark
from gateway.store.clock import since_boot

LEASE: Final = 2.0  # seconds
_BITS: Final = 16
_MASK: Final = (1 << _BITS) - 1
_MARKS: Final = 5
_KINDS: Final = frozenset(("token", "family", "grant", "client", "user"))


def _mark(kind: str, key: str) -> int:
    return hash((kind, key)) & _MASK


def parts(marks: int) -> tuple[int, ...]:
    """The single marks in what `Ledger.marks` gave."""
    return tuple([marks >> _BITS * place & _MASK for place in range(_MARKS)])


class Ledger:
    """The state that the follower of the log writes and the cache of tokens reads; it does no IO and never waits."""

    def __init__(self, *, stale_for: float = 0.0, elapsed: Callable[[], float] = since_boot) -> None:
        self.elapsed = elapsed
        self.position = 0
        self.holds_until = -inf  # by `elapsed`; nothing that is cached counts from then on
        self.server: float | None = None  # the one whose log is followed
        self.newest: Mark | None = None  # the change up to which it was applied, where the log has any
        self._on_touched: Callable[[Collection[int] | None], None] | None = None
        self._lease = LEASE + stale_for
        self._forgotten_at = 0
        self._touched_at = [0] * (_MASK + 1)

    def subscribe(self, touched: Callable[[Collection[int] | None], None]) -> None:
        """Tell `touched` of the marks that changes name from now on, and None where anything may have changed."""
        self._on_touched = touched

    @property
    def holds(self) -> bool:
        """Whether the lease lasts: whether something may rest on how far the log has been applied."""
        return self.elapsed() < self.holds_until

    @property
    def age(self) -> float:
        """Seconds since the last successful reading was sent; endless before the first."""
        return self.elapsed() - self.holds_until + self._lease

    def marks(self, token: AccessToken) -> int:
        """What a token's life hangs on, besides its time."""
        own = ("token", token.digest.hex())
        packed = _mark(*own)
        for kind, key in (
            ("family", token.family_id),
            ("grant", token.grant_id),
            ("client", None if token.token_type == SESSION else token.identity.client_id),
            ("user", token.identity.subject),
        ):
            packed = packed << _BITS | (_mark(*own) if key is None else _mark(kind, key))
        return packed

    def untouched(self, marks: int, since: int) -> bool:
        """Whether what was verified as of the position `since` still holds, as far as the log has been applied."""
        if since < self._forgotten_at:
            return False
        touched_at = self._touched_at
        for _ in range(_MARKS):
            if touched_at[marks & _MASK] > since:
                return False
            marks >>= _BITS
        return True

    def apply(self, changes: Iterable[tuple[str, str]]) -> None:
        """Take note of what changed. A kind that is not known, as a newer release may write, could mean anything."""
        changes = tuple(changes)
        if not changes:
            return
        self.position += 1
        marks: list[int] | None = []
        for kind, key in changes:
            if kind in _KINDS:
                mark = _mark(kind, key)
                self._touched_at[mark] = self.position
                if marks is not None:
                    marks.append(mark)
            else:
                self._forgotten_at, marks = self.position, None
        if self._on_touched is not None:
            self._on_touched(marks)

    def forget(self, server: float) -> None:
        """Let nothing from before count; from now on the log of `server` is followed."""
        self.position += 1
        self._forgotten_at = self.position
        self.server = server
        if self._on_touched is not None:
            self._on_touched(None)

    def read_up_to(self, newest: Mark | None) -> None:
        """The log has been applied up to this change."""
        self.newest = newest

    def renew(self, sent_at: float) -> None:
        """Begin the lease anew, after a reading that was sent at `sent_at` has been applied."""
        self.holds_until = sent_at + self._lease
