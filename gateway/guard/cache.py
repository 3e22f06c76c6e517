"""Access tokens that the database has vouched for, by digest, with what that rests on.

An entry is the answer itself (`Allowed`), so that a call with a token that is held costs a digest, a look into a dict
and a few comparisons. It counts only while the ledger's lease holds and nothing that it hangs on was touched; its
time, audience and scopes are judged anew on every call, by the guard. What no longer counts stays until it is in the
way: nothing is ever searched for.

Bounded by entries and by bytes; what was not used for longest goes first, more or less: entries leave in the order
in which they came, but one that was used since it was last looked at goes to the end of the queue instead.
"""

import sys
from collections import deque
from dataclasses import dataclass, replace
from typing import Final, cast

from gateway.guard.ledger import Ledger
from gateway.guard.signing import Signer
from gateway.guard.verdict import Allowed, Principal
from gateway.model import AccessToken, MacAlgorithm, MacDraft

ENTRIES: Final = 100_000
BYTES: Final = 38_000_000
_MAC: Final = "mac"
_CHANCES: Final = 64  # entries that one eviction may pass over
_SETS: Final = 4096  # of scopes, that are remembered for the next token with them

# What things take, as measured; a test compares the sum with what is really taken.
_ENTRY: Final = 320  # its objects, digest, and places in dict and queue
_SIGNER: Final = 160
_PRINCIPAL: Final = 520  # its place in the dict of them included
_CHARACTER: Final = 3  # of names and scopes: once as they are, once as the engine renders them
_TWIN: Final = 240  # of a principal that may also sign by RFC 9421, rendered once more


@dataclass(slots=True, kw_only=True)
class Held(Allowed):
    """A token in the cache; one of the MAC scheme with its `signer`."""

    signer: Signer | None
    marks: int
    position: int  # up to which the marks are known to be untouched
    used: bool = False


class Cache:
    """A bounded number of tokens, and the principals that they share."""

    def __init__(self, ledger: Ledger, *, entries: int = ENTRIES, size: int = BYTES) -> None:
        self._ledger = ledger
        self._entries = entries
        self._size = size
        self._held: dict[bytes, Held] = {}
        self._queue: deque[Held] = deque()
        self._principals: dict[Principal, Principal] = {}  # those that have holders
        self._scopes: dict[frozenset[str], frozenset[str]] = {}
        self._drafts: dict[tuple[MacDraft, ...], tuple[MacDraft, ...]] = {}
        self.size = 0  # bytes, as estimated

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, digest: bytes) -> bool:
        """Whether the token was good once and is still remembered; which says nothing of this moment."""
        return digest in self._held

    def get(self, digest: bytes) -> Held | None:
        """The token, if what is known of it counts now."""
        held = self._held.get(digest)
        return held if held is not None and self.counts(held) else None

    def counts(self, held: Held) -> bool:
        """Whether what is known of a token that was held once counts now."""
        ledger = self._ledger
        if held.position != ledger.position:
            if not ledger.untouched(held.marks, held.position):
                return False
            held.position = ledger.position
        if ledger.elapsed() >= ledger.holds_until:
            return False
        held.used = True
        return True

    def made(self, token: AccessToken, as_of: int) -> Held:
        """An entry for what was verified as of a position; it is not in the cache yet."""
        return Held(
            principal=self._principal(token),
            digest=token.digest,
            ends_at=token.expires_at.timestamp(),
            signer=self._signer(token),
            marks=self._ledger.marks(token),
            position=as_of,
        )

    def put(self, held: Held) -> None:
        """Hold an entry, in the place of an older one of the same token."""
        self._held[held.digest] = held
        self._queue.append(held)
        principal = held.principal
        principal.holders += 1
        self.size += _size_of(held)
        if principal.holders == 1:
            self._principals.setdefault(principal, principal)
            self.size += _size_of_principal(principal)
        while len(self._queue) > self._entries or self.size > self._size:
            self._drop(self._next_to_go())

    def _next_to_go(self) -> Held:
        for _ in range(_CHANCES):
            held = self._queue.popleft()
            if not held.used or self._held.get(held.digest) is not held:
                return held
            held.used = False
            self._queue.append(held)
        return self._queue.popleft()

    def _drop(self, held: Held) -> None:
        if self._held.get(held.digest) is held:
            del self._held[held.digest]
        principal = held.principal
        principal.holders -= 1
        self.size -= _size_of(held)
        if principal.holders == 0:
            self.size -= _size_of_principal(principal)
            if self._principals.get(principal) is principal:  # two may have come at once that are alike
                del self._principals[principal]

    def _principal(self, token: AccessToken) -> Principal:
        if len(self._scopes) >= _SETS:
            self._scopes.clear()
        fresh = Principal(
            identity=replace(token.identity, client_id=sys.intern(token.identity.client_id)),
            scopes=self._scopes.setdefault(token.scopes, token.scopes),
            token_type=sys.intern(token.token_type),
            audience=token.audience,
        )
        return self._principals.get(fresh, fresh)

    def _signer(self, token: AccessToken) -> Signer | None:
        if token.mac_key is None or token.mac_algorithm is None:
            return None
        drafts = self._drafts.setdefault(token.mac_drafts, token.mac_drafts)
        return Signer(token.mac_key, cast("MacAlgorithm", sys.intern(token.mac_algorithm)), drafts)


def _size_of(held: Held) -> int:
    return _ENTRY if held.signer is None else _ENTRY + _SIGNER


def _size_of_principal(principal: Principal) -> int:
    texts = [*principal.scopes, *principal.audience]
    identity = principal.identity
    if identity is not None:
        texts += [identity.subject, identity.client_id, identity.username or "", identity.email or ""]
    characters = sum(map(len, texts))
    return _PRINCIPAL + _CHARACTER * characters + (_TWIN + characters if principal.token_type == _MAC else 0)
