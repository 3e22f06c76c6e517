"""What a process remembers of its latest decisions, in bounded space, for whoever asks about one of them afterwards.

Each is kept under its kind, a refusal's cause for instance. Where the space is full, the kind that takes most of it
forgets its oldest: a flood of one cause makes no other forgotten. Nothing is searched until somebody asks.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, NamedTuple, TypeVar

Kept = TypeVar("Kept")

SECONDS: Final = 3600.0  # how long anything is remembered
KINDS: Final = 100  # that are told apart, or strangers could make up more; the others are one
_OTHERS: Final = ""
_MOST_COUNTED: Final = 1000


class Memory(NamedTuple):
    """How far a process remembers: since when, and how many decisions of the last hour it had no room for."""

    since: float  # seconds since 1970
    forgotten: int  # 1000 stands for more, too


class _Entry(NamedTuple, Generic[Kept]):
    request_id: bytes
    at: float
    size: int
    kept: Kept


class _Kind(deque[_Entry[Kept]]):
    """The decisions of one kind, the oldest first, and what they take."""

    size = 0

    def keep(self, entry: _Entry[Kept]) -> None:
        """Have one more."""
        self.append(entry)
        self.size += entry.size

    def drop_oldest(self) -> _Entry[Kept]:
        """Have the oldest no more."""
        gone = self.popleft()
        self.size -= gone.size
        return gone


class Recent(Generic[Kept]):
    """The decisions of the last hour, as far as `most` bytes hold them; `clock` gives seconds since 1970."""

    def __init__(self, most: int, clock: Callable[[], float] = time.time) -> None:
        self._most, self._clock = most, clock
        self._began = clock()
        self._kinds: dict[str, _Kind[Kept]] = {}
        self._expires_at = 0.0  # not to be done for every new kind of a flood
        # When those were made that had to go before their time.
        self._forgotten: deque[float] = deque(maxlen=_MOST_COUNTED)
        self.size = 0

    def keep(self, kind: str, request_id: bytes, kept: Kept, size: int) -> None:
        """Remember a decision on this request, which takes so many bytes."""
        now = self._clock()
        kept_kind = self._kinds.get(kind)
        if kept_kind is None:
            if len(self._kinds) >= KINDS:
                if now >= self._expires_at:
                    self._expire(now)
                kind = kind if len(self._kinds) < KINDS else _OTHERS
            kept_kind = self._kinds.setdefault(kind, _Kind())
        kept_kind.keep(_Entry(request_id, now, size, kept))
        self.size += size
        while self.size > self._most:
            self._make_room(kept_kind, now)

    def pass_over(self, count: int) -> None:
        """Count decisions of the last moments that are not kept, since too many are like them."""
        self._forgotten.extend([self._clock()] * min(count, _MOST_COUNTED))

    def find(self, request_id: bytes) -> list[tuple[float, Kept]]:
        """When and how the requests of this identifier were decided on, the latest first."""
        self._expire(self._clock())
        found = [
            (entry.at, entry.kept) for kind in self._kinds.values() for entry in kind if entry.request_id == request_id
        ]
        return sorted(found, key=lambda each: each[0], reverse=True)

    @property
    def memory(self) -> Memory:
        """How far back it reaches."""
        oldest = self._clock() - SECONDS
        return Memory(max(self._began, oldest), sum(at > oldest for at in self._forgotten))

    def _make_room(self, newest: _Kind[Kept], now: float) -> None:
        kind = newest  # in a flood it is the one, and there is no need to look at the others
        if kind.size * len(self._kinds) <= self.size:
            kind = max(self._kinds.values(), key=lambda each: each.size)
        gone = self._drop_oldest(kind)
        if gone.at > now - SECONDS:
            self._forgotten.append(gone.at)

    def _expire(self, now: float) -> None:
        """Forget what is over an hour old, and kinds of which nothing is left."""
        for kind in self._kinds.values():
            while kind and kind[0].at <= now - SECONDS:
                self._drop_oldest(kind)
        self._kinds = {name: kind for name, kind in self._kinds.items() if kind}
        self._expires_at = now + 1.0

    def _drop_oldest(self, kind: _Kind[Kept]) -> _Entry[Kept]:
        gone = kind.drop_oldest()
        self.size -= gone.size
        return gone
