"""The change log as its readers see it; its writers are triggers (`sql/migrations/0011_changes.sql`).

A reader remembers how far it has read and asks for what came after. That the ids are in the order of the commits
makes one number enough. It cannot be sure to have missed nothing where

    it reads for the first time, on this connection
    another server answers, or this one after a restart, or on another timeline: its history is another
    what it has not read has been swept, because it slept for too long
    there is more than it wants to hold

and then says so: the reading is not `gapless`, and begins anew at the end of the log.

NOTIFY is a hint to read at once. Where it does not arrive (a pooler between us and the server, a lost channel), only
the reader's own beat is left, which makes it slower and nothing else.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Final

import asyncpg
from msgspec import Struct

from gateway.store.clock import Clock
from gateway.store.database import Row, Server, Statements
from gateway.store.pool import DEADLINE, Connection, answering

CHANGES_KEPT: Final = timedelta(hours=1)
_CHANNEL: Final = "gateway_changes"
_MOST: Final = 10_000  # changes in one reading


class Mark(Struct, frozen=True):
    """A change by its number and time. No two histories have the same one: of two that parted, each draws the number
    for another moment."""

    number: int
    at: datetime


class Reading(Struct, frozen=True):
    """Changes, as kinds and keys, since the reading before; anything may have unless it is `gapless`.

    `server` tells the server that answered from any other, also from itself before a restart; `newest` is the newest
    change, up to which was read.
    """

    server: float
    newest: Mark | None
    gapless: bool
    changes: tuple[tuple[str, str], ...]


class ChangeFeed:
    """A place in the log, and the connection that reads on from there."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._statements = Statements(connection)
        self._clock = clock
        self._history: tuple[float, str] | None = None
        self._last = 0

    async def read(self) -> Reading:
        """Read the changes since the last time. Raises StoreUnavailable, after which the feed is worth nothing more."""
        async with answering(DEADLINE):
            row = await self._statements.row("changes_read", after=self._last, most=_MOST)
        assert row is not None  # noqa: S101 -- the statement has no condition
        self._clock.compare(row["now"])
        history = (row["server"], row["timeline"])
        gapless = history == self._history and self._joins(row)
        self._history, self._last = history, row["newest"]
        changes = [kind_key.partition(" ") for kind_key in row["changes"]] if gapless else []
        newest = None if row["newest_at"] is None else Mark(row["newest"], row["newest_at"])
        return Reading(row["server"], newest, gapless, tuple((kind, key) for kind, _, key in changes))

    def _joins(self, row: Row) -> bool:
        """Whether the log still holds all that came after the last reading, and nothing of it was taken back."""
        return row["oldest"] <= self._last + 1 and self._last <= row["newest"] and len(row["changes"]) < _MOST


class ChangeLog:
    """What was revoked, disabled, withdrawn, deleted or altered of all that a token's life hangs on."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server, self._clock = server, clock

    @asynccontextmanager
    async def feed(self, hint: Callable[[], object]) -> AsyncIterator[ChangeFeed]:
        """A feed on a connection of its own; `hint` is called when reading is worth while, or the connection ends.

        Raises StoreUnavailable.
        """

        def hinted(*_: object) -> None:
            hint()

        async with answering(DEADLINE):
            connection = await self._server.connect("gateway-listen")
        try:
            connection.add_termination_listener(hinted)
            async with answering(DEADLINE):
                with suppress(asyncpg.PostgresError):  # what cannot listen is asked at every beat
                    await connection.add_listener(_CHANNEL, hinted)
            yield ChangeFeed(connection, self._clock)
        finally:
            connection.remove_termination_listener(hinted)
            connection.terminate()
