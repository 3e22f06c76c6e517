"""Clients by the document at their identifier: fetched, kept for a while, and written down once a person is asked.

What is kept here is what was good: no failure is, nor what could not be read (section 4.3). Whoever makes us fetch more
than a person would is told that the document cannot be read; a document that is at hand is answered always. That of a
client which the database knows is fetched whatever strangers use up, but not within 5 s of a try that failed.

The database learns of a client when somebody who is signed in is about to be asked, or when it pushes a request; from
then on the token endpoint knows it by that.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from gateway.errors import OAuthError
from gateway.fetching import Fetcher, FetchFailed
from gateway.oauth import client_documents, registration
from gateway.oauth.authorize import PageError
from gateway.oauth.registration import Registration
from gateway.web.fetched import Fetched, Kept
from gateway.web.sectors import Sectors

_AGAIN: Final = 5.0  # seconds from a failure to the next try, for a client that we know
_UNREADABLE: Final = (
    "We couldn’t read what this application says about itself. Try again in a moment, or tell its developer."
)


class _Document(Struct, frozen=True):
    registration: Registration
    scopes: frozenset[str]  # that there were when it was read
    until: float


class _Failed(Struct, frozen=True):
    cause: str
    until: float


class TooManyFetches(PageError):
    """The document was not asked for, since we were made to ask too often: nothing is known of what it says by now."""

    def __init__(self, what: str = "client metadata document: too many fetches") -> None:
        super().__init__(_UNREADABLE, what, error="invalid_client")


class ClientDocuments(Fetched):
    """The documents of clients; `enabled` says whether any are looked at."""

    def __init__(
        self, fetcher: Fetcher | None, own_host: str, sectors: Sectors, clock: Callable[[], float] | None = None
    ) -> None:
        super().__init__(fetcher, clock)
        self._own_host, self._sectors = own_host, sectors
        self._kept = Kept[_Document]()
        self._failed = Kept[_Failed]()  # of clients that we know

    @property
    def enabled(self) -> bool:
        """Whether a URL can be a client's identifier."""
        return self._fetcher is not None

    def is_one(self, client_id: str) -> bool:
        """Whether a client's identifier is the URL of a document about it, which may be fetched: never one of our own
        host's."""
        return self.enabled and client_documents.host_of(client_id) not in (None, self._own_host)

    async def read(
        self, client_id: str, known_scopes: frozenset[str], place: str, *, known: bool = False
    ) -> Registration:
        """What the client at that URL says of itself; `place` is who makes us look, and `known` whether the database
        has the client.

        Raises PageError where it says nothing that can be used: the request is abandoned (section 4.2). That is
        TooManyFetches where it was not the host that failed.
        """
        host = client_documents.host_of(client_id)
        if self._fetcher is None or host is None:
            raise ValueError("not the URL of a document")
        kept = self._at_hand(client_id, known_scopes)
        if kept is not None:
            return kept
        async with self._alone(client_id):
            kept = self._at_hand(client_id, known_scopes)
            if kept is not None:
                return kept
            failed = self._failed.get(client_id) if known else None
            if failed is not None and self._now() < failed.until:
                raise PageError(_UNREADABLE, failed.cause, error="invalid_client")
            name = client_id if known else None
            if not self._fetches.take(place, host, name):
                raise TooManyFetches
            async with self._turns.turn(place, host):
                return await self._fetched(self._fetcher, client_id, known_scopes, place, name)

    async def _fetched(
        self, fetcher: Fetcher, client_id: str, known_scopes: frozenset[str], place: str, known: str | None
    ) -> Registration:
        try:
            fetched = await fetcher.json(client_id, client_documents.LARGEST)
            members = registration.members_in(fetched.content)
            read = client_documents.read(client_id, members, known_scopes)
            await self._sectors.confirm(read, place, known)
        except FetchFailed as exc:
            raise self._failure(client_id, str(exc), known) from exc
        except OAuthError as exc:
            if exc.refused.status == 429:
                raise TooManyFetches(f"client metadata document: {exc.refused.cause}") from exc
            raise self._failure(client_id, exc.refused.description, known) from exc
        self._failed.pop(client_id, None)
        until = self._now() + client_documents.lifetime(fetched.cache_control, fetched.age)
        self._kept.keep(client_id, _Document(read, known_scopes, until))
        return read

    def _failure(self, client_id: str, why: str, known: str | None) -> PageError:
        cause = f"client metadata document: {why}"
        if known is not None:
            self._failed.keep(client_id, _Failed(cause, self._now() + _AGAIN))
        return PageError(_UNREADABLE, cause, error="invalid_client")

    def _at_hand(self, client_id: str, known_scopes: frozenset[str]) -> Registration | None:
        kept = self._kept.get(client_id)
        if kept is None or kept.until <= self._now() or kept.scopes != known_scopes:
            return None
        self._kept.move_to_end(client_id)
        return kept.registration
