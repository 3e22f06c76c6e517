"""Which access tokens live: the one door through which the guard learns of a token."""

from datetime import datetime
from typing import Final

from gateway.crypto import Keyring
from gateway.model import AccessToken
from gateway.store import Store

_OURS: Final = ("gwa_", "gwr_", "gwc_")


class Tokens:
    """Looks access tokens up in the store."""

    def __init__(self, store: Store, keyring: Keyring) -> None:
        self._store = store
        self._keyring = keyring

    def invented(self, token: str) -> bool:
        """Whether a token that claims to be ours cannot be an access token: no database call is spent on it.

        Its keyed check fails, or it is a refresh token or a code. Tokens of another shape may have been imported.
        """
        return token.startswith(_OURS) and not self._keyring.is_ours(token, "gwa_")

    async def live(self, token: str, now: datetime) -> AccessToken | None:
        """The token if it may be used at `now`. Raises StoreUnavailable."""
        found = await self._store.access_token(token)
        return None if found is None or found.expires_at <= now else found
