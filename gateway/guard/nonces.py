"""What makes a signed request pass once only: the key of its nonce and how long it is remembered."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.credentials.signed import Signed
from gateway.model import AccessToken
from gateway.store import Store

_KEY_BYTES: Final = 16

# Clocks of replicas and of the database differ a little, and a clock set back by less revives no nonce.
_MARGIN: Final = timedelta(seconds=60)


class Nonces:
    """Spends nonces in the store, each once. `skew` is in seconds."""

    def __init__(self, store: Store, skew: float) -> None:
        self._store = store
        self._skew = skew

    async def spend(self, token: AccessToken, signed: Signed) -> bool:
        """Whether this is the nonce's first time. Raises StoreUnavailable."""
        (first,) = await self._store.spend_nonces([(_key(token, signed), self._forgotten_at(token, signed))])
        return first

    def _forgotten_at(self, token: AccessToken, signed: Signed) -> datetime:
        """When the nonce can no longer be accepted anyway, also where the client's clock is ahead."""
        if signed.created is None:
            return token.expires_at + _MARGIN
        return datetime.fromtimestamp(signed.created, UTC) + timedelta(seconds=self._skew + 1) + _MARGIN


def _key(token: AccessToken, signed: Signed) -> bytes:
    """16 bytes that stand for (token, created, nonce), or for draft 00 for (token, nonce)."""
    parts = (signed.draft or signed.scheme, "" if signed.created is None else str(signed.created), signed.nonce)
    text = token.digest + "\n".join(parts).encode("ascii")
    return hashlib.blake2b(text, digest_size=_KEY_BYTES).digest()
