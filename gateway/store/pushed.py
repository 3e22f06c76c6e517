"""Authorization requests that clients pushed, each to be answered once (RFC 9126).

    pushed ──the first browser──▶ opened ──its answer──▶ spent
        └──────── expires_in ─────────┴── the time for an answer ──▶ gone

The browser that opens a request may open it again, by reload or from sign-in; no other may, so that a copied address is
worth nothing. Answers spend it in their own transaction (`store.flows`); its browser is still told what was answered.
"""

from datetime import timedelta
from typing import Final

from msgspec import Struct

from gateway.crypto import Keyring, digest
from gateway.oauth.authorize import AuthorizationRequest
from gateway.store.clock import Now
from gateway.store.database import Database

_TO_ANSWER: Final = timedelta(hours=1)  # for signing in and deciding, once a browser has opened it


class Pushed(Struct, frozen=True):
    """A request that a client pushed, as it was read then, and the digest of its reference."""

    digest: bytes
    request: AuthorizationRequest
    answered: bool


class PushedRequests:
    """Requests by their reference, a secret that the store knows the digest of."""

    def __init__(self, database: Database, now: Now, keyring: Keyring) -> None:
        self._database, self._now, self._keyring = database, now, keyring

    async def add(self, request: AuthorizationRequest, lifetime: float) -> str | None:
        """Keep a request for `lifetime` seconds; its reference, None if the client is dead."""
        reference, now = self._keyring.new_token("gwp_"), self._now()
        added = await self._database.value(
            "pushed_request_add",
            digest=digest(reference),
            client_id=request.client_id,
            request=request.to_json(),
            now=now,
            expires_at=now + timedelta(seconds=lifetime),
        )
        return None if added is None else reference

    async def open(self, reference: str, client_id: str, browser: str, *, look: bool = False) -> Pushed | None:
        """The request, for the browser whose secret this is; with `look` it is not opened by it.

        None for what is unknown, another client's, over, or opened by another browser.
        """
        if not self._keyring.is_ours(reference, "gwp_"):
            return None
        now = self._now()
        hashed, secret = digest(reference), digest(browser)
        if look:
            found = await self._database.row(
                "pushed_request_look", digest=hashed, client_id=client_id, browser=secret, now=now
            )
        else:
            found = await self._database.row(
                "pushed_request_open",
                digest=hashed,
                client_id=client_id,
                browser=secret,
                now=now,
                until=now + _TO_ANSWER,
            )
        if found is None:
            return None
        return Pushed(hashed, AuthorizationRequest.from_json(found["request"]), found["answered"])

    async def spend(self, hashed: bytes) -> bool:
        """Spend a request, by the digest of its reference, whose answer has no flow; False if it was answered
        before."""
        return await self._database.value("pushed_request_spend", digest=hashed, now=self._now()) is not None
