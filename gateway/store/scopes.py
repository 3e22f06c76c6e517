"""The scopes that clients may ask for."""

from collections.abc import Mapping
from typing import Final

from gateway.model import Scope
from gateway.oauth import openid
from gateway.store.clock import Now
from gateway.store.database import ACT_DEADLINE, Database
from gateway.store.faults import translate_violations

_BATCH: Final = 1000  # grants or tokens that one transaction takes a scope from


def defined(made: Mapping[str, str], configured: Mapping[str, str]) -> dict[str, str]:
    """Every scope and its plain words: OpenID Connect's, those `made` by command, then those of the configuration.

    Where a name is there twice, the words of the later ones count.
    """
    return {**openid.SCOPES, **made, **configured}


class Scopes:
    """Scopes by their name."""

    def __init__(self, database: Database, now: Now) -> None:
        self._database, self._now = database, now

    async def create(self, name: str, description: str) -> Scope:
        """A new scope. Raises Conflict when there is one of that name, OperatorError when it is malformed."""
        with translate_violations():
            await self._database.row("scope_create", name=name, description=description, now=self._now())
        return Scope(name=name, description=description)

    async def all(self) -> list[Scope]:
        """The scopes that were made by command, by name; see `defined` for the configuration's too."""
        rows = await self._database.rows("scopes_list")
        return [Scope(name=row["name"], description=row["description"]) for row in rows]

    async def defined(self, configured: Mapping[str, str]) -> dict[str, str]:
        """The function `defined` of the scopes that the database has."""
        return defined({scope.name: scope.description for scope in await self.all()}, configured)

    async def delete(self, name: str) -> bool:
        """No longer offered, which ends nothing that was issued with it; see `end`."""
        return await self._database.value("scope_delete", name=name, now=self._now()) is not None

    async def end(self, name: str) -> bool:
        """Take a scope that is not offered any more out of every grant, and end all that was issued with it.

        It goes in batches, so that nobody waits long for the change log; what an outage leaves is done by another
        call. False when nothing carried it.
        """
        found, now = False, self._now()
        while True:
            async with self._database.transaction(ACT_DEADLINE) as statements:
                grants = [
                    row["grant_id"] for row in await statements.rows("scope_leave_grants", scope=name, batch=_BATCH)
                ]
                await statements.row("grants_end_beyond", grant_ids=grants, now=now)
                tokens = await statements.value("scope_end_tokens", scope=name, now=now, batch=_BATCH)
            found = found or bool(grants or tokens)
            if max(len(grants), tokens) < _BATCH:
                return found
