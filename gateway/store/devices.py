"""Devices that wait for a person's answer (RFC 8628), by their device code and by the user code that they show.

What the person says is written with the flow's own decision (`store.flows`), and what the device asks is answered where
tokens are issued (`store.tokens`).
"""

import secrets
from datetime import timedelta
from typing import Final

from msgspec import Struct

from gateway.crypto import Keyring, digest
from gateway.oauth import device
from gateway.store.clock import Now
from gateway.store.database import Database

DEVICES_KEPT: Final = timedelta(hours=1)  # after their end, so that a device is told that they are over
_ATTEMPTS: Final = 3  # at a user code that nobody else has


class Device(Struct, frozen=True, kw_only=True):
    """A device that shows a code: what its client asks for, and the answer that it got, if any, and whose."""

    digest: bytes
    client_id: str
    scopes: frozenset[str]
    resource: tuple[str, ...]
    decision: str | None
    subject: str | None


class Devices:
    """Device codes and user codes."""

    def __init__(self, database: Database, now: Now, keyring: Keyring) -> None:
        self._database, self._now, self._keyring = database, now, keyring

    async def start(self, client_id: str, scopes: frozenset[str], resource: tuple[str, ...]) -> tuple[str, str] | None:
        """A device code and its user code, None when the client is dead."""
        device_code, now = self._keyring.new_token("gwd_"), self._now()
        for _ in range(_ATTEMPTS):
            user_code = device.new_user_code(secrets.choice)
            added = await self._database.value(
                "device_code_add",
                digest=digest(device_code),
                user_code=self._keyed(user_code),
                client_id=client_id,
                scopes=sorted(scopes),
                resource=list(resource),
                now=now,
                expires_at=now + timedelta(seconds=device.LIFETIME),
                pace=device.PACE,
            )
            if added is not None:
                return device_code, user_code
        return None

    async def find(self, user_code: str) -> Device | None:
        """The device that shows this code, answered or not, as long as it may wait."""
        row = await self._database.row("device_code_find", user_code=self._keyed(user_code), now=self._now())
        if row is None:
            return None
        return Device(
            digest=row["digest"],
            client_id=row["client_id"],
            scopes=frozenset(row["scopes"]),
            resource=tuple(row["resource"]),
            decision=row["decision"],
            subject=row["subject"],
        )

    def _keyed(self, user_code: str) -> bytes:
        return self._keyring.keyed_digest("user-code", user_code)
