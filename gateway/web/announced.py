"""What the documents for programs tell of the database: as it is, or as it was last while the database is away.

These documents say where things are, and a client whose request for one fails with a 5xx ends its flow there. What a
process holds for that is read again now and then, so it is half a minute old when the database goes away. A process
that has never reached the database tells of what the configuration has.

Public keys count for ten minutes. A key is published for so long before it signs (`store.signing_keys`), so nobody who
verifies lacks one; but that holds only if nobody keeps such an answer any longer.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from typing import Final, Never

from msgspec import Struct

from gateway import observe
from gateway.errors import StoreUnavailable
from gateway.model import GrantType
from gateway.store import Store
from gateway.store.scopes import defined
from gateway.store.signing_keys import LEAD

_EVERY: Final = 30.0  # seconds between two readings
_SILENCE: Final = 2.0  # seconds after a failure in which nobody waits for the database again

log = observe.get_logger("gateway.web")


class ServerFacts(Struct, frozen=True):
    """What the server's document takes from the database: every scope with its words, and the grant types of OAuth 2.0
    that some client may still use. `current` is false where the database gave no answer, and this is of an earlier
    one."""

    scopes: Mapping[str, str]
    legacy: Collection[GrantType]
    current: bool


class PublicKeys(Struct, frozen=True):
    """The public keys, as a JWK Set holds them; `current` as above."""

    keys: Sequence[Mapping[str, object]]
    current: bool


class Announced:
    """The scopes, grant types and public keys that documents announce, as the database said them last; the
    configuration has the scopes `configured`."""

    def __init__(self, store: Store, configured: Mapping[str, str]) -> None:
        self._store, self._configured = store, configured
        self._server = ServerFacts(defined({}, configured), (), current=False)
        self._keys: Sequence[Mapping[str, object]] = ()
        self._keys_read_at = self._failed_at = float("-inf")

    async def server(self) -> ServerFacts:
        """The scopes and grant types of now, or as they were read last while the database is away."""
        if not self._failed_just_now():
            try:
                return await self._read_server()
            except StoreUnavailable:
                self._failed_at = monotonic()
        return self._server

    async def keys(self) -> PublicKeys:
        """The keys that sign, have signed, or are going to. Raises StoreUnavailable where none are known."""
        if not self._failed_just_now():
            try:
                return PublicKeys(await self._read_keys(), current=True)
            except StoreUnavailable:
                self._failed_at = monotonic()
        if not self.knows_keys or monotonic() - self._keys_read_at >= LEAD.total_seconds():
            raise StoreUnavailable("the database gave no answer, and the public keys are not known")
        return PublicKeys(self._keys, current=False)

    @property
    def knows_keys(self) -> bool:
        """Whether any public key is known."""
        return bool(self._keys)

    async def follow(self) -> Never:
        """Read all of it again and again, for as long as the process lives. No key is made for that."""
        while True:
            try:
                await self._read_server()
                await self._read_keys(make=False)
            except StoreUnavailable:
                self._failed_at = monotonic()
            except Exception as exc:  # who asks for a document reads it anew
                log.error("what documents tell of the database could not be read; this is tried again", exc_info=exc)
            await asyncio.sleep(_EVERY)

    async def _read_server(self) -> ServerFacts:
        scopes = await self._store.scopes.defined(self._configured)
        found = ServerFacts(scopes, await self._store.clients.legacy_grant_types(), current=True)
        self._server = ServerFacts(found.scopes, found.legacy, current=False)
        return found

    async def _read_keys(self, *, make: bool = True) -> Sequence[Mapping[str, object]]:
        asked_at = monotonic()
        self._keys = await self._store.signing_keys.published(make=make)
        self._keys_read_at = asked_at
        return self._keys

    def _failed_just_now(self) -> bool:
        return monotonic() - self._failed_at < _SILENCE
