"""Applications that have yet to be told that a session is over (OpenID Connect Back-Channel Logout 1.0).

The database writes them down with the end of the session, so that neither a crash nor an outage loses one. Each is
claimed for a while, over all processes, and tried until it was told or it is too late.
"""

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from gateway.store.clock import Now
from gateway.store.database import Database

LEASE: Final = timedelta(seconds=30)
"""How long nobody else tries one that was claimed."""
PAUSES: Final = tuple(timedelta(seconds=seconds) for seconds in (5, 30, 120, 600, 3600, 6 * 3600, 12 * 3600))
"""Between an attempt that failed and the next one; after the last it is given up."""


class Logout(Struct, frozen=True, kw_only=True):
    """One application that is to be told of one session; `attempts` counts the one that it was claimed for."""

    logout_id: str
    client_id: str
    subject: str
    session_id: str
    ended_at: datetime
    attempts: int


class Logouts:
    """Applications that have yet to hear that a session ended, each in a row until it did."""

    def __init__(self, database: Database, now: Now) -> None:
        self._database, self._now = database, now

    async def claim(self, most: int) -> list[Logout]:
        """The logouts whose delivery is due, at most `most`, for this worker alone until its lease on them is over."""
        return [Logout(**row) for row in await self._database.rows("logouts_claim", lease=LEASE, batch=most)]

    async def delivered(self, logout: Logout) -> None:
        """The application was told."""
        await self._database.value("logout_delivered", logout_id=logout.logout_id, now=self._now())

    async def failed(self, logout: Logout, cause: str) -> None:
        """The application could not be told: it is tried again after a pause, or given up after the last."""
        if logout.attempts <= len(PAUSES):
            pause = PAUSES[logout.attempts - 1]
            await self._database.value("logout_again", logout_id=logout.logout_id, after=pause)
        else:
            await self.given_up(logout, cause)

    async def given_up(self, logout: Logout, cause: str) -> None:
        """The application cannot be told."""
        await self._database.value("logout_given_up", logout_id=logout.logout_id, cause=cause, now=self._now())

    async def frames(self, session_id: str, most: int) -> list[tuple[str, str]]:
        """The applications of a session that a browser tells, and the address of each that it opens."""
        rows = await self._database.rows("logout_frames", session_id=session_id, most=most)
        return [(row["client_id"], row["uri"]) for row in rows]
