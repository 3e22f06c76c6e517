"""Access tokens that the database has vouched for, by digest, with what that rests on.

They are kept in two forms:

    put away   every one, as a record: bytes, a third of what its objects would take, so that there is room for all
    at hand    those in use, also as the answer itself (`Held`), which is made of the record when it is asked for; a
               call then costs a digest, a look into a dict and a few comparisons

What is at hand are two generations. Whatever is used goes into the younger one; when that is full it becomes the
older one, and what was in the older one and was not used since is put away. Their share is fixed: room that the
records do not need yet would not come back when they do, with records strewn over it.

An entry counts only while the ledger's lease holds and nothing that it hangs on was touched; its time, audience and
scopes are judged anew on every call, by the guard. What no longer counts stays until it is in the way: nothing is
ever searched for.

Bounded by entries and by bytes. Entries leave in the order in which they came, but one that is at hand goes to the
end of the queue instead.
"""

import marshal
import sys
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import Final, cast

from gateway.guard.ledger import Ledger
from gateway.guard.signing import Signer
from gateway.guard.verdict import Allowed, Principal
from gateway.model import AccessToken, Identity, MacAlgorithm, MacDraft

ENTRIES: Final = 100_000
BYTES: Final = 39_000_000
_GENERATION: Final = 16  # one part in so many of the bytes
_MAC: Final = "mac"
_CHANCES: Final = 64  # entries that one eviction may pass over

# What things take, as measured; a test compares the sum with what is really taken.
_PLACE: Final = 185  # a record's, with its digest and its places in dict and queue
_COMMON: Final = 900
_AT_HAND: Final = 320  # an answer's, with its digest and its place in the dict
_SIGNER: Final = 160
_PRINCIPAL: Final = 400  # its place in the dict of them included
_CHARACTER: Final = 3  # of names and scopes: once as they are, once as the engine renders them
_TWIN: Final = 240  # of a principal that may also sign by RFC 9421, rendered once more


@dataclass(slots=True, kw_only=True)
class Held(Allowed):
    """A token that was vouched for; one of the MAC scheme with its `signer`."""

    signer: Signer | None
    marks: int
    position: int  # up to which the marks are known to be untouched


class Cache:
    """A bounded number of tokens."""

    def __init__(self, ledger: Ledger, *, entries: int = ENTRIES, size: int = BYTES) -> None:
        self._ledger = ledger
        self._entries = entries
        self._size_at_hand = size // _GENERATION  # of a generation
        self._most_put_away = size - 2 * self._size_at_hand
        self._records: dict[bytes, bytes] = {}
        self._queue: deque[bytes] = deque()  # the digests of all records, and no others
        self._size_put_away = 0
        self._commons = _Commons()
        self._younger, self._older = _Generation(), _Generation()

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, digest: bytes) -> bool:
        """Whether the token was good once and is still remembered; which says nothing of this moment."""
        return digest in self._records

    @property
    def size(self) -> int:
        """Bytes, as estimated."""
        return self._size_put_away + self._commons.size + self._younger.size + self._older.size

    def get(self, digest: bytes) -> Held | None:
        """The token, if what is known of it counts now."""
        held = self._younger.held.get(digest) or self._brought(digest)
        return held if held is not None and self.counts(held) else None

    def counts(self, held: Held) -> bool:
        """Whether what is known of a token that was held once counts now."""
        ledger = self._ledger
        if held.position != ledger.position:
            if not ledger.untouched(held.marks, held.position):
                return False
            held.position = ledger.position
        return ledger.elapsed() < ledger.holds_until

    def made(self, token: AccessToken, as_of: int) -> Held:
        """The answer for what was verified as of a position; it is not in the cache yet."""
        principal = Principal(
            identity=token.identity, scopes=token.scopes, token_type=token.token_type, audience=token.audience
        )
        signer = None
        if token.mac_key is not None and token.mac_algorithm is not None:
            signer = Signer(token.mac_key, token.mac_algorithm, token.mac_drafts)
        return Held(
            principal=principal,
            digest=token.digest,
            ends_at=token.expires_at.timestamp(),
            signer=signer,
            marks=self._ledger.marks(token),
            position=as_of,
        )

    def put(self, held: Held) -> None:
        """Hold a token, in the place of what was known of it before."""
        digest, principal, signer = held.digest, held.principal, held.signer
        identity = cast("Identity", principal.identity)  # every token has one
        key, algorithm, drafts = (None, None, ()) if signer is None else (signer.key, signer.algorithm, signer.drafts)
        common = _Common(principal.scopes, principal.token_type, principal.audience, algorithm, drafts)
        names = (identity.subject, identity.client_id, identity.username, identity.email)
        record = marshal.dumps((self._commons.take(common), held.ends_at, held.marks, held.position, *names, key))
        replaced = self._records.get(digest)
        if replaced is None:
            self._queue.append(digest)
        else:
            self._let_go(digest, replaced)
        self._records[digest] = record
        self._size_put_away += _PLACE + len(record)
        while len(self._queue) > self._entries or self._size_put_away + self._commons.size > self._most_put_away:
            oldest = self._next_to_go()
            self._let_go(oldest, self._records.pop(oldest))

    def _brought(self, digest: bytes) -> Held | None:
        """The token, if there is one, now at hand."""
        held = self._older.held.pop(digest, None)
        if held is None:
            record = self._records.get(digest)
            if record is None:
                return None
            held = self._of_record(digest, record)
        younger = self._younger
        if younger.size >= self._size_at_hand or 4 * len(younger.held) >= self._entries:
            self._younger, self._older = _Generation(), younger
        self._younger.add(held)
        return held

    def _of_record(self, digest: bytes, record: bytes) -> Held:
        # Written by `put`: as marshal demands, it never left the process.
        number, ends_at, marks, position, subject, client_id, username, email, key = marshal.loads(record)  # noqa: S302
        common = self._commons[number]
        identity = Identity(subject=subject, client_id=sys.intern(client_id), username=username, email=email)
        principal = Principal(
            identity=identity, scopes=common.scopes, token_type=common.token_type, audience=common.audience
        )
        signer = None if common.algorithm is None else Signer(key, common.algorithm, common.drafts)
        return Held(principal=principal, digest=digest, ends_at=ends_at, signer=signer, marks=marks, position=position)

    def _next_to_go(self) -> bytes:
        for _ in range(_CHANCES):
            digest = self._queue.popleft()
            if digest not in self._younger.held and digest not in self._older.held:
                return digest
            self._queue.append(digest)
        return self._queue.popleft()

    def _let_go(self, digest: bytes, record: bytes) -> None:
        """Forget what a record says."""
        self._size_put_away -= _PLACE + len(record)
        self._commons.release(marshal.loads(record)[0])  # noqa: S302
        self._younger.held.pop(digest, None)
        self._older.held.pop(digest, None)


class _Generation:
    """Tokens that came into use in the same while; those that agree share their principal."""

    __slots__ = ("_principals", "held", "size")

    def __init__(self) -> None:
        self.held: dict[bytes, Held] = {}
        self._principals: dict[Principal, Principal] = {}
        self.size = 0  # bytes, as estimated, of all that were added

    def add(self, held: Held) -> None:
        """Take in a token that was not used in this while before."""
        principal = self._principals.setdefault(held.principal, held.principal)
        if principal is held.principal:
            self.size += _size_of_principal(principal)
        held.principal = principal
        self.held[held.digest] = held
        self.size += _AT_HAND if held.signer is None else _AT_HAND + _SIGNER


@dataclass(slots=True, unsafe_hash=True)
class _Common:
    """What many tokens have in common, by a number that stands in their records."""

    scopes: frozenset[str]
    token_type: str
    audience: tuple[str, ...]
    algorithm: MacAlgorithm | None  # of the MAC scheme's only
    drafts: tuple[MacDraft, ...]
    number: int = field(default=0, compare=False)
    holders: int = field(default=0, compare=False)  # tokens that have it


class _Commons:
    """All of these that have holders."""

    def __init__(self) -> None:
        self._known: dict[_Common, _Common] = {}
        self._by_number: dict[int, _Common] = {}
        self._numbers = count()
        self.size = 0  # bytes, as estimated

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, number: int) -> _Common:
        return self._by_number[number]

    def take(self, common: _Common) -> int:
        """The number of what is alike, which has one holder more."""
        known = self._known.setdefault(common, common)
        if not known.holders:
            known.number = next(self._numbers)
            self._by_number[known.number] = known
            self.size += _size_of_common(known)
        known.holders += 1
        return known.number

    def release(self, number: int) -> None:
        """It has one holder less; the last one takes it along."""
        common = self._by_number[number]
        common.holders -= 1
        if not common.holders:
            del self._by_number[number], self._known[common]
            self.size -= _size_of_common(common)


def _size_of_common(common: _Common) -> int:
    return _COMMON + sum(map(len, (*common.scopes, *common.audience)))


def _size_of_principal(principal: Principal) -> int:
    texts = [*principal.scopes, *principal.audience]
    identity = principal.identity
    if identity is not None:
        texts += [identity.subject, identity.client_id, identity.username or "", identity.email or ""]
    characters = sum(map(len, texts))
    return _PRINCIPAL + _CHARACTER * characters + (_TWIN + characters if principal.token_type == _MAC else 0)
