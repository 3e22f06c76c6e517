"""Keys of clients that stand at an address of theirs (`jwks_uri`; RFC 7591, section 2): fetched, and kept for a while.

    the time that Cache-Control says is over (a minute to a day)    asked again
    an assertion names a key that is not among those kept           asked again, but not within 30 s of the last try
    the address gives no set                                        what was kept counts for a day from when it was had

So a client may change its keys whenever it likes, and neither its address nor strangers who name keys that there are
not can make us fetch more than twice a minute; and those at the addresses of clients that nobody has verified no more
than a place and a host are allowed, however many clients they registered. An address that gave a set is asked whatever
strangers use up elsewhere at its host; where it is our own bound that keeps us from asking, no old set counts.
"""

import json
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from gateway.errors import OAuthError, invalid_client
from gateway.fetching import Fetcher, FetchFailed
from gateway.oauth import client_documents
from gateway.web.fetched import Fetched, Kept

_AGAIN: Final = 30.0  # seconds between two tries
_AT_MOST: Final = 86400.0  # seconds that a set counts without being had anew


class _Keys(Struct, frozen=True):
    jwks: str | None  # as `jwk.parse_set` makes it, as JSON; None where there was none to be had
    why_none: str
    tried: float
    fresh_until: float
    until: float

    def answers(self, kid: str | None, now: float) -> bool:
        """Whether there is nothing to ask for."""
        return now < self.fresh_until and self.has(kid)

    def has(self, kid: str | None) -> bool:
        """Whether the key of that identifier is there; of one without, nobody can tell."""
        return kid is None or (
            self.jwks is not None and any(key.get("kid", kid) == kid for key in json.loads(self.jwks)["keys"])
        )


class ClientKeys(Fetched):
    """The keys at clients' addresses. `make` gives what fetches them, when it is first needed."""

    def __init__(self, make: Callable[[], Fetcher], clock: Callable[[], float] | None = None) -> None:
        super().__init__(None, clock)
        self._make = make
        self._kept = Kept[_Keys]()

    async def at(
        self, uri: str, kid: str | None, place: str, *, limited: bool = False, known: str | None = None
    ) -> str:
        """The keys at that address, as JSON; `kid` is the one that is looked for, `place` who makes us look.

        `limited` is for an address that no operator has seen, and `known` the client, if we know that the host is its.

        Raises OAuthError (invalid_client) where none are to be had.
        """
        kept = self._kept.get(uri)
        if kept is not None and kept.jwks is not None and kept.answers(kid, self._now()):
            return kept.jwks  # and waits for nobody who asks for another key
        async with self._alone(uri):
            kept, now = self._kept.get(uri), self._now()
            if kept is None or (now - kept.tried >= _AGAIN and not kept.answers(kid, now)):
                if kept is not None and kept.jwks is not None:
                    known = uri
                if not limited or self._fetches.take(place, urlsplit(uri).hostname or uri, known):
                    async with self._turns.turn(place, uri):
                        kept = await self._asked(uri, kept)
                elif kept is None or now >= kept.fresh_until:
                    raise invalid_client("client keys: too many fetches")
        if kept.jwks is None or kept.until <= now:
            raise invalid_client(f"client keys: {kept.why_none or 'they were had too long ago'}")
        return kept.jwks

    async def _asked(self, uri: str, before: _Keys | None) -> _Keys:
        kept = await self._fetched(uri)
        if kept.jwks is None and before is not None and before.jwks is not None:
            kept = replace(before, tried=kept.tried, why_none=kept.why_none)
        self._kept.keep(uri, kept)
        return kept

    async def _fetched(self, uri: str) -> _Keys:
        from gateway.oauth import jwk

        if self._fetcher is None:
            self._fetcher = self._make()
        try:
            fetched = await self._fetcher.json(uri, jwk.LARGEST_SET)
            jwks = json.dumps(jwk.parse_set(fetched.content, only_good=True, of_strangers=True))
        except (FetchFailed, ValueError, OAuthError) as exc:
            now = self._now()
            return _Keys(None, str(exc), now, now, now)
        now = self._now()
        fresh = client_documents.lifetime(fetched.cache_control, fetched.age)
        return _Keys(jwks, "", now, now + fresh, now + _AT_MOST)
