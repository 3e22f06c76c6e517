"""Access tokens that the database has vouched for, by digest, with what that rests on.

An entry counts only while the ledger's lease holds and nothing that it hangs on was touched; its time, audience and
scopes are judged anew on every call, by the guard. What no longer counts stays until it is in the way: nothing is
ever searched for.

Bounded by entries and by bytes (`guard.footprint`). Entries leave in the order in which they came: one that is in use
comes back with one question to the database, which costs less than keeping a record of who is.
"""

import re
import sys
from collections import deque
from typing import Final, TypeVar, cast

from gateway.guard.footprint import footprint
from gateway.guard.held import Held
from gateway.guard.ledger import Ledger
from gateway.guard.verdict import Allowed, Bounds, SignedIn, Voucher
from gateway.model import BEARER, DPOP, AccessToken
from gateway.oauth.foreign import Claimed
from gateway.schemes.scheme import Bound, Signer

Value = TypeVar("Value")

ENTRIES: Final = 100_000
BYTES: Final = 64_000_000
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_SHARED: Final = 1024  # sets of scopes and audiences; most tokens have one of few


class Cache:
    """A bounded number of tokens, with when and how people signed in where a route asks for that."""

    def __init__(
        self, ledger: Ledger, *, entries: int = ENTRIES, size: int = BYTES, keeps_sign_ins: bool = False
    ) -> None:
        self._ledger = ledger
        self._keeps_sign_ins = keeps_sign_ins
        self._most = entries
        self._most_bytes = size
        self._entries: dict[bytes, Held] = {}
        self._queue: deque[bytes] = deque()  # the digests of all entries, the oldest first
        self._shared: dict[object, object] = {}
        self.size = 0  # bytes

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: bytes) -> bool:
        """Whether the token was good once and is still remembered; which says nothing of this moment."""
        return digest in self._entries

    def get(self, digest: bytes) -> Held | None:
        """The token, if what is known of it counts now."""
        held = self._entries.get(digest)
        if held is None:
            return None
        ledger = self._ledger
        if held.position != ledger.position:
            if not ledger.untouched(held.allowed.marks, held.position):
                return None
            held.stands(ledger.position)
        return held if ledger.elapsed() < ledger.holds_until else None

    def made(self, token: AccessToken, as_of: int) -> Held:
        """The entry for what was verified as of a position; it is not in the cache yet."""
        identity, marks = token.identity, self._ledger.marks(token)
        signer: Signer | Bound | None = None if token.jkt is None else Bound(token.jkt)
        if token.mac_key is not None and token.mac_algorithm is not None:
            signer = Signer(token.mac_key, token.mac_algorithm, token.mac_drafts)
        signed_in_at = None if token.auth_time is None else token.auth_time.timestamp()
        allowed = Allowed(
            subject=_of_one_line(identity.subject),
            client_id=sys.intern(_of_one_line(identity.client_id)) if identity.client_id else None,
            username=None if identity.username is None else _of_one_line(identity.username),
            email=None if identity.email is None else _of_one_line(identity.email),
            scopes=self._one_for_all(token.scopes),
            scheme=token.token_type if token.jkt is None else DPOP,
            bounds=self._bounds(
                Bounds(token.audience, tuple(map(_of_one_line, identity.groups))), signed_in_at, token.acr or ""
            ),
            digest=token.digest,
            ends_at=token.expires_at.timestamp(),
            marks=marks,
        )
        return Held(allowed, signer, as_of)

    def vouched(self, claimed: Claimed, voucher: Voucher, digest: bytes) -> Held:
        """The same for a token of another issuer, that one of its keys has proven. It hangs on nothing of the store's,
        so that no change concerns it; what its issuer withdraws is told by the voucher."""
        allowed = Allowed(
            subject=claimed.subject,
            client_id=sys.intern(claimed.client_id),
            scopes=self._one_for_all(claimed.scopes),
            scheme=BEARER if claimed.jkt is None else DPOP,
            # How somebody signed in, its issuer says in words of its own.
            bounds=self._bounds(Bounds(claimed.audience, voucher=voucher), claimed.auth_time, ""),
            digest=digest,
            ends_at=claimed.ends_at,
        )
        return Held(allowed, None if claimed.jkt is None else Bound(claimed.jkt), self._ledger.position)

    def get_vouched(self, digest: bytes) -> Held | None:
        """A token of another issuer that was proven, whatever is known of the change log."""
        held = self._entries.get(digest)
        if held is None or held.allowed.voucher is None:
            return None
        held.stands(self._ledger.position)
        return held

    def put(self, held: Held) -> None:
        """Hold a token, in the place of what was known of it before."""
        digest = held.allowed.digest
        replaced = self._entries.get(digest)
        if replaced is None:
            self._queue.append(digest)
        else:
            self.size -= footprint(replaced)
        self._entries[digest] = held
        self.size += footprint(held)
        while len(self._queue) > self._most or self.size > self._most_bytes:
            self.size -= footprint(self._entries.pop(self._queue.popleft()))

    def _bounds(self, common: Bounds, signed_in_at: float | None, acr: str) -> Bounds:
        """What a token has in common with others, and its sign-in where some route asks for that."""
        shared = self._one_for_all(common)
        if not self._keeps_sign_ins or signed_in_at is None:
            return shared
        return shared._replace(sign_in=SignedIn(signed_in_at, sys.intern(acr)))

    def _one_for_all(self, value: Value) -> Value:
        """An equal value that other entries have too."""
        if len(self._shared) >= _SHARED:
            self._shared.clear()
        return cast("Value", self._shared.setdefault(value, value))


def _of_one_line(text: str) -> str:
    """The text without controls: it goes into a header line of its own."""
    return text if text.isprintable() else _CONTROLS.sub("", text)
