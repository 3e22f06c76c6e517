"""Grants, which hold what people have allowed: one for each client and set of resources."""

from datetime import timedelta
from typing import Final

from gateway.model import Grant
from gateway.store.clients import about_of
from gateway.store.clock import Now
from gateway.store.database import Database, Row
from gateway.store.text import storable

_LATELY: Final = timedelta(minutes=5)


def _grant_of(row: Row) -> Grant:
    return Grant(
        grant_id=row["grant_id"],
        subject=row["subject"],
        client_id=row["client_id"],
        client_name=row["client_name"],
        client_verified=row["verified"],
        client_redirect_uris=tuple(row["redirect_uris"]),
        resource=tuple(row["resource"]),
        scopes=frozenset(row["scopes"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        last_used_at=row["last_used_at"],
        about=about_of(row),
    )


class Grants:
    """Grants, by who gave them and to which client."""

    def __init__(self, database: Database, now: Now) -> None:
        self._database, self._now = database, now

    async def scopes(self, subject: str, client_id: str, resource: tuple[str, ...] = ()) -> frozenset[str]:
        """What the user has allowed the client at just these resources and not withdrawn; the order is free."""
        return frozenset(
            await self._database.value("grant_scopes", subject=subject, client_id=client_id, resource=list(resource))
            or ()
        )

    async def of(self, subject: str) -> list[Grant]:
        """What the user has allowed, by the applications' names: one for each set of resources."""
        return [_grant_of(row) for row in await self._database.rows("grants_list", subject=subject)]

    async def withdraw(self, subject: str, client_id: str) -> bool:
        """Ends the client's grants and everything that was issued from them; False when there is none."""
        if not storable(client_id):
            return False
        return (
            await self._database.value("grant_withdraw", subject=subject, client_id=client_id, now=self._now())
            is not None
        )

    async def withdrawn_lately(self, subject: str, client_id: str) -> str | None:
        """The name of a client that the user withdrew everything from in the last minutes; None if it has a grant."""
        since = self._now() - _LATELY
        found: str | None = await self._database.value(
            "grant_withdrawn", subject=subject, client_id=client_id, since=since
        )
        return found
