"""Sectors that clients name by `sector_identifier_uri` (Core, section 8.1; Registration 1.0, section 5).

A client whose redirect URIs are on several hosts names the address of a document that lists them, and its sector is
that address's host. Whoever has a say at that host has listed them, so that no stranger learns subjects of another
sector. The document is read when the client is registered or changed, and with a client's own document.
"""

from collections.abc import Callable
from typing import Final

from gateway.errors import OAuthError, Refused
from gateway.fetching import Fetcher, FetchFailed
from gateway.oauth import registration
from gateway.oauth.registration import Registration
from gateway.web.turns import PERIOD, Fetches, Turns

_LARGEST: Final = 64 * 1024  # bytes
_AT_ONCE: Final = 4


class Sectors:
    """The documents of sectors. `make` gives what fetches them, when it is first needed."""

    def __init__(self, make: Callable[[], Fetcher], clock: Callable[[], float] | None = None) -> None:
        self._make = make
        self._fetcher: Fetcher | None = None
        self._turns = Turns(_AT_ONCE)
        self._fetches = Fetches(clock)

    async def confirm(self, said: Registration, place: str, known: str | None = None) -> None:
        """Have the document of a client's sector, if it names one, list its redirect URIs; `place` makes us look, and
        `known` is the client, if it is one that we know.

        Raises OAuthError (invalid_client_metadata; 429 for too many).
        """
        uri, sector = said.sector_identifier_uri, said.openid.sector
        if uri is None:
            return
        host = sector or uri
        if not self._fetches.take(place, host, known):
            text = "Too many documents of sectors were asked for. Try again in a minute."
            cause = "too many fetches of sector documents"
            raise OAuthError(Refused("temporarily_unavailable", text, cause, status=429, retry_after=int(PERIOD)))
        if self._fetcher is None:
            self._fetcher = self._make()
        try:
            async with self._turns.turn(place, host):
                fetched = await self._fetcher.json(uri, _LARGEST)
        except FetchFailed as exc:
            text = f"sector_identifier_uri cannot be read: {exc}."
            raise OAuthError(Refused("invalid_client_metadata", text)) from exc
        registration.require_listed(said.redirect_uris, fetched.content)

    def close(self) -> None:
        if self._fetcher is not None:
            self._fetcher.close()
