"""Clients that register themselves, and the tokens by which they do and manage it (RFC 7591, RFC 7592).

A registration counts, and uses up what allows it, in the transaction that writes the client: one that is refused or
undone leaves nothing. What comes from one place is limited by a count of its own, since deleting what was registered
must not lift the limit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from typing import Any, Final

from msgspec.structs import replace

from gateway.crypto import digest, random_text
from gateway.model import Client
from gateway.store.clients import client_of, create_client, held_client, replace_secret, update_client
from gateway.store.clock import Now
from gateway.store.database import Database, Statements
from gateway.store.faults import translate_violations
from gateway.store.records import NewClient
from gateway.store.text import storable

Extras = Mapping[str, Any]
"""What a client said of itself that the program has no other use for, as JSON has it."""

REGISTRATIONS_COUNTED: Final = timedelta(hours=1)
MOST_REGISTRATIONS: Final = 20  # and changes of them, in that time from one place
_LOCK: Final = 0x72656769  # the advisory lock's key: "regi"


class NotAdmitted(Enum):
    """The reason why nothing was registered or changed."""

    TOO_MANY = auto()  # from that place, in the last hour
    TOKEN = auto()  # the token is unknown, expired or used up
    SECRET = auto()  # it is not the client's


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A client that registered itself. The secret and the token are there when they are made, and never again."""

    client: Client
    extras: Extras
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


class Registrations:
    """Registrations by their client and its registration access token."""

    def __init__(self, database: Database, now: Now) -> None:
        self._database, self._now = database, now

    async def add(
        self, client: NewClient, extras: Extras, *, idle: float, place: str, initial_token: str | None
    ) -> Registered | NotAdmitted:
        """A new client, which goes when it is not used for `idle` seconds.

        It is admitted by an initial access token, of which it uses one use; without one, by the limit for its place.
        """
        token, now = "gwm_" + random_text(), self._now()
        async with self._database.transaction() as statements:
            if initial_token is None:
                if not await self._admitted(statements, place):
                    return NotAdmitted.TOO_MANY
            elif not await self._used(statements, initial_token):
                return NotAdmitted.TOKEN
            made, secret = await create_client(statements, now, client)
            await statements.row(
                "registration_add",
                client_id=made.client_id,
                digest=digest(token),
                metadata=json.dumps(extras),
                idle=timedelta(seconds=idle),
                now=now,
            )
        return Registered(client=made, extras=extras, secret=secret, token=token)

    async def admits(self, initial_token: str) -> bool:
        """Whether an initial access token has a use left, which whoever adds a client by it may find used by then."""
        found = await self._database.value("registration_token_is_good", digest=digest(initial_token), now=self._now())
        return found is not None

    async def find(self, client_id: str, token: str) -> Registered | None:
        """The registration, also of a disabled client; None unless the token is its registration access token."""
        if not storable(client_id):
            return None
        async with self._database.transaction() as statements:
            found = await statements.value("registration_find", client_id=client_id, digest=digest(token))
            row = None if found is None else await statements.row("client_find", client_id=client_id)
        return None if row is None else Registered(client=client_of(row), extras=json.loads(found))

    async def change(
        self, client_id: str, token: str, client: NewClient, extras: Extras, *, secret: str | None, place: str
    ) -> Registered | NotAdmitted:
        """What the client is from now on, in place of all it was (RFC 7592, section 2.2).

        What an operator decided of it stays (`NewClient.within`).

        `secret` is the one that the request claims to be the client's. A client that becomes confidential gets one.
        """
        now = self._now()
        with translate_violations():
            async with self._database.transaction() as statements:
                held = await statements.value("registration_lock_row", client_id=client_id, digest=digest(token))
                if held is None:
                    return NotAdmitted.TOKEN
                if secret is not None and not await statements.value(
                    "registration_secret_is", client_id=client_id, digest=digest(secret), now=now
                ):
                    return NotAdmitted.SECRET
                if not await self._admitted(statements, place):
                    return NotAdmitted.TOO_MANY
                before = await held_client(statements, client_id)
                assert before is not None  # noqa: S101  # its registration is locked, and goes with it
                changed = await update_client(statements, now, client_id, client.within(before))
                await statements.row("registration_change", client_id=client_id, metadata=json.dumps(extras))
                assert changed is not None  # noqa: S101
                first = changed.has_secret and not before.has_secret
                made = await replace_secret(statements, now, client_id) if first else None
        return Registered(client=changed, extras=extras, secret=made)

    async def keep(self, client_id: str, client: NewClient, *, idle: float, place: str | None) -> bool:
        """Know a client by the identifier that it has anyway, as it is now; it goes when it is not used for `idle`
        seconds. False beyond the limit for its place, if it is new and has one."""
        if await self._is_known(self._database, client_id, client):
            return True
        now = self._now()
        async with self._database.transaction() as statements:
            await statements.row("registration_lock", lock=_LOCK)
            if await self._is_known(statements, client_id, client):  # by somebody who was here a moment ago
                return True
            if (before := await held_client(statements, client_id)) is not None:  # whatever an operator did meanwhile
                await update_client(statements, now, client_id, client.within(before))
                return True
            if place is not None and not await self._admitted(statements, place):
                return False
            await create_client(statements, now, client, client_id)
            await statements.row(
                "registration_add",
                client_id=client_id,
                digest=None,
                metadata="{}",
                idle=timedelta(seconds=idle),
                now=now,
            )
        return True

    async def _is_known(self, statements: Database | Statements, client_id: str, client: NewClient) -> bool:
        row = await statements.row("client_find", client_id=client_id)
        return row is not None and _comparable(NewClient.like(client_of(row))) == _comparable(client)

    async def create_token(self, lifetime: float, uses: int) -> str:
        """A new initial access token, good for so many registrations within so many seconds."""
        token, now = "gwi_" + random_text(), self._now()
        await self._database.row(
            "registration_token_create",
            digest=digest(token),
            now=now,
            expires_at=now + timedelta(seconds=lifetime),
            uses=uses,
        )
        return token

    async def revoke_tokens(self) -> int:
        """End all initial access tokens; how many could still be used. What was registered by them stays."""
        ended: int = await self._database.value("registration_tokens_revoke", now=self._now())
        return ended

    async def _admitted(self, statements: Statements, place: str) -> bool:
        now = self._now()
        await statements.row("registration_lock", lock=_LOCK)
        admitted = await statements.value(
            "registration_admit", place=place, now=now, since=now - REGISTRATIONS_COUNTED, most=MOST_REGISTRATIONS
        )
        return admitted is not None

    async def _used(self, statements: Statements, token: str) -> bool:
        left = await statements.value("registration_token_use", digest=digest(token), now=self._now())
        return left is not None


def _comparable(client: NewClient) -> NewClient:
    """The client with its keys in one spelling, whatever the database has made of theirs."""
    return client if client.jwks is None else replace(client, jwks=json.dumps(json.loads(client.jwks), sort_keys=True))
