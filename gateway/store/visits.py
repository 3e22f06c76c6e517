"""What a browser comes with to an authorization request, in one look: each of its pages asks for that first."""

import json
from collections.abc import Iterable, Mapping

from msgspec import Struct

from gateway.crypto import digest
from gateway.model import Client, Session, User
from gateway.store.clients import client_of
from gateway.store.clock import Now
from gateway.store.database import Database, Row


class Visit(Struct, frozen=True, kw_only=True):
    """The client that a request names, also a disabled one; the live session of a live person in the browser that
    brings it; what that person has allowed that client, by the resources that it is for; and the plain words of every
    scope that was made by command."""

    client: Client | None
    session: Session | None
    granted: Mapping[tuple[str, ...], frozenset[str]]
    made: dict[str, str]

    def granted_at(self, resource: Iterable[str]) -> frozenset[str]:
        """The scopes that the person has allowed the client at just these resources; the order is free."""
        return self.granted.get(tuple(sorted(resource)), frozenset())


def _granted_of(text: str | None) -> dict[tuple[str, ...], frozenset[str]]:
    if text is None:
        return {}
    return {tuple(sorted(resource)): frozenset(scopes) for resource, scopes in json.loads(text)}


def _session_of(row: Row) -> Session:
    person = User(
        subject=row["subject"],
        username=row["username"],
        email=row["email"],
        name=row["person"],
        created_at=row["person_since"],
        disabled_at=None,
    )
    return Session(
        session_id=row["session_id"], user=person, signed_in_at=row["signed_in_at"], expires_at=row["expires_at"]
    )


class Visits:
    """Visits, by a client's identifier and the token of a session."""

    def __init__(self, database: Database, now: Now) -> None:
        self._database, self._now = database, now

    async def find(self, client_id: str, session_token: str | None) -> Visit:
        """`client_id` is a well-formed identifier, and `session_token` None where the browser has none."""
        hashed = None if session_token is None else digest(session_token)
        row = await self._database.row("visit_find", client_id=client_id, digest=hashed, now=self._now())
        assert row is not None  # noqa: S101  # the statement has one row, whatever is found
        return Visit(
            client=None if row["client_id"] is None else client_of(row),
            session=None if row["session_id"] is None else _session_of(row),
            granted=_granted_of(row["granted"]),
            made={} if row["made"] is None else json.loads(row["made"]),
        )
