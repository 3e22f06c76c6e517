"""What makes a signed request pass once only: the key of its nonce and how long it is remembered."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.credentials import mac
from gateway.model import AccessToken

_KEY_BYTES: Final = 16

# Clocks of replicas and of the database differ a little, and a clock set back by less revives no nonce.
_MARGIN: Final = timedelta(seconds=60)


def key(token: AccessToken, credentials: mac.Credentials) -> bytes:
    """16 bytes that stand for (token, ts, nonce), or for draft 00 for (token, nonce)."""
    parts = (credentials.draft, credentials.ts or "", credentials.nonce)
    text = token.digest + "\n".join(parts).encode("ascii")
    return hashlib.blake2b(text, digest_size=_KEY_BYTES).digest()


def forgotten_at(token: AccessToken, credentials: mac.Credentials, skew: float) -> datetime:
    """When the nonce can no longer be accepted anyway, also where the client's clock is ahead."""
    if credentials.ts is None:
        return token.expires_at + _MARGIN
    return datetime.fromtimestamp(int(credentials.ts), UTC) + timedelta(seconds=skew + 1) + _MARGIN
