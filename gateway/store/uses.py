"""Who has what, and when it was last used: for an operator who looks for access that nobody needs, and ends it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from msgspec import Struct

from gateway.store.clock import Now
from gateway.store.database import ACT_DEADLINE, Database, Row

_AT_ONCE: Final = 1000  # tokens or grants in one statement
_LARGEST: Final = 32  # bytes of a digest


class HoldingsFilter(Struct, frozen=True, kw_only=True):
    """What is asked for; None means any. `unused_since` counts from the beginning of what was never used."""

    subject: str | None = None
    client_id: str | None = None
    scope: str | None = None
    issued_before: datetime | None = None
    unused_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Uses:
    """What was used since the last time: tokens and sessions by their digests, scopes by the clients that used them."""

    tokens: Collection[bytes] = field(repr=False)
    scopes: Collection[tuple[str, str]]
    sessions: Collection[bytes] = field(default=(), repr=False)


class Holdings:
    """Tokens, grants and sessions that live, whoever they belong to, and their uses."""

    def __init__(self, database: Database, now: Now) -> None:
        self._database, self._now = database, now

    async def note(self, uses: Uses) -> None:
        """Write down what was used, some time in the last minutes."""
        now = self._now()
        for query, used in (("uses_note", uses.tokens), ("sessions_note", uses.sessions)):
            digests = sorted(used)
            for first in range(0, len(digests), _AT_ONCE):
                await self._database.row(query, digests=digests[first : first + _AT_ONCE], now=now)
        if uses.scopes:
            client_ids, names = zip(*sorted(uses.scopes), strict=True)
            await self._database.row("scope_uses_note", client_ids=client_ids, names=names, now=now)

    async def tokens(self, held: HoldingsFilter, most: int) -> list[Row]:
        """Access and refresh tokens that live, the newest first."""
        async with self._database.transaction(ACT_DEADLINE) as statements:
            return await statements.rows(
                "tokens_list",
                subject=held.subject,
                client_id=held.client_id,
                scope=held.scope,
                issued_before=held.issued_before,
                unused_since=held.unused_since,
                now=self._now(),
                most=most,
            )

    async def tokens_beginning(self, prefix: str) -> Sequence[bytes]:
        """The digests that begin with these hexadecimal digits, of dead tokens too; two of them at most."""
        least, greatest = prefix.ljust(2 * _LARGEST, "0"), prefix.ljust(2 * _LARGEST, "f")
        rows = await self._database.rows(
            "tokens_beginning", least=bytes.fromhex(least), greatest=bytes.fromhex(greatest)
        )
        return [row["digest"] for row in rows]

    async def grants(self, held: HoldingsFilter, most: int) -> list[Row]:
        """What people allow clients today, the newest first."""
        async with self._database.transaction(ACT_DEADLINE) as statements:
            return await statements.rows(
                "grants_find",
                subject=held.subject,
                client_id=held.client_id,
                scope=held.scope,
                issued_before=held.issued_before,
                unused_since=held.unused_since,
                most=most,
            )

    async def revoke_grants(self, *, grant_id: str | None, subject: str | None, client_id: str | None) -> int:
        """End one grant, or all of a person or a client or both; how many there were."""
        if grant_id is subject is client_id is None:
            raise ValueError("nothing says whose grants are meant")
        total, ended = 0, _AT_ONCE
        while ended == _AT_ONCE:
            async with self._database.transaction(ACT_DEADLINE) as statements:
                ended = await statements.value(
                    "grants_revoke",
                    grant_id=grant_id,
                    subject=subject,
                    client_id=client_id,
                    now=self._now(),
                    batch=_AT_ONCE,
                )
            total += ended
        return total

    async def sessions(self, held: HoldingsFilter, most: int) -> list[Row]:
        """Browsers that are signed in, the newest first."""
        async with self._database.transaction(ACT_DEADLINE) as statements:
            return await statements.rows(
                "sessions_list",
                subject=held.subject,
                issued_before=held.issued_before,
                unused_since=held.unused_since,
                now=self._now(),
                most=most,
            )

    async def revoke_sessions(self, *, session_id: str | None, subject: str | None) -> int:
        """Sign out one browser, or all of a person; how many there were."""
        if session_id is subject is None:
            raise ValueError("nothing says whose sessions are meant")
        async with self._database.transaction(ACT_DEADLINE) as statements:
            gone: int = await statements.value(
                "sessions_revoke", session_id=session_id, subject=subject, now=self._now()
            )
            return gone

    async def scopes_unused(self, before: datetime) -> tuple[datetime, list[Row]]:
        """Scopes that clients hold and used no more since then; and since when uses are written down."""
        since: datetime = await self._database.value("scope_uses_since")
        async with self._database.transaction(ACT_DEADLINE) as statements:
            return since, await statements.rows("scopes_unused", before=before)
