"""The audit record as an operator reads it; who writes it are the statements that do what it tells of."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from gateway.store.chain import time_of
from gateway.store.database import Database, Row

KINDS: Final = (
    "client.created",
    "client.deleted",
    "client.disabled",
    "client.enabled",
    "client.expired",
    "client.secret_rotated",
    "client.secrets_guessed",
    "client.updated",
    "code.replayed",
    "consent.assumed",
    "consent.denied",
    "consent.given",
    "database.restored",
    "events.begun_anew",
    "grant.withdrawn",
    "key.rotated",
    "logout.delivered",
    "logout.undelivered",
    "refresh.reused",
    "registration_token.created",
    "registration_token.revoked",
    "scope.created",
    "scope.deleted",
    "session.ended",
    "sign_in.failed",
    "sign_in.succeeded",
    "signed_out",
    "signing_key.created",
    "signing_key.removed",
    "token.issued",
    "token.revoked",
    "user.created",
    "user.deleted",
    "user.disabled",
    "user.enabled",
    "user.password_changed",
    "user.unlocked",
    "user.updated",
)
_PAGE: Final = 1000
_SLACK: Final = 120.0  # seconds by which events may be out of order: clocks differ, and failures are written afterwards


class Event(Struct, frozen=True, kw_only=True):
    """What happened to whom; `actor` did it, such as operator:root, user:u… or client:c…."""

    event_id: int
    at: datetime | None
    kind: str
    actor: str | None
    subject: str | None
    username: str | None  # today's
    client_id: str | None
    client_name: str | None  # likewise
    address: str | None
    request_id: str | None
    detail: Mapping[str, object]


class Wanted(Struct, frozen=True, kw_only=True):
    """Which events are asked for; None means any. A kind stands also for all that begin with it and a dot."""

    subject: str | None = None
    client_id: str | None = None
    kind: str | None = None


class Events:
    """Events, the newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self) -> int:
        """The number after that of the newest event."""
        number: int = await self._database.value("events_newest")
        return number

    async def before(
        self, number: int, wanted: Wanted, since: datetime | None = None, *, least: int = 0
    ) -> AsyncIterator[Event]:
        """Events that fit and have smaller numbers than `number`, the newest first, down to `least`, or until none is
        as young as `since`."""
        while True:
            rows = await self._database.rows(
                "events_before",
                before=number,
                most=_PAGE,
                subject=wanted.subject,
                client_id=wanted.client_id,
                kind=wanted.kind,
            )
            for row in rows:
                if row["event_id"] is not None and row["event_id"] >= least:
                    event = _event_of(row)
                    if since is None or event.at is None or event.at >= since:
                        yield event
            if not rows or (since is not None and rows[0]["oldest_at"] < since.timestamp() - _SLACK):
                return
            number = rows[0]["oldest"]
            if number <= least:
                return


def _event_of(row: Row) -> Event:
    return Event(
        event_id=row["event_id"],
        at=time_of(row["at"]),
        kind=row["kind"],
        actor=row["actor"],
        subject=row["subject"],
        username=row["username"],
        client_id=row["client_id"],
        client_name=row["client_name"],
        address=row["address"],
        request_id=row["request_id"],
        detail=_detail(row["detail"]),
    )


def _detail(text: str) -> Mapping[str, object]:
    """The detail's members. Whoever altered the record may have put anything there."""
    found = json.loads(text)
    return found if isinstance(found, dict) else {"value": found}
