"""The sessions of browsers."""

from datetime import timedelta
from typing import Final

from gateway.crypto import digest, new_identifier
from gateway.model import Session
from gateway.store.clock import Now
from gateway.store.database import Database, Row
from gateway.store.text import displayed
from gateway.store.users import user_of


def _session_of(row: Row) -> Session:
    return Session(
        session_id=row["session_id"],
        user=user_of(row),
        signed_in_at=row["signed_in_at"],
        expires_at=row["expires_at"],
    )


_USER_AGENT: Final = 200  # characters that are kept


class Sessions:
    """Sessions of people in browsers."""

    def __init__(self, database: Database, now: Now) -> None:
        self._database, self._now = database, now

    async def start(
        self,
        subject: str,
        session_token: str,
        lifetime: float,
        *,
        password_hash: str | None = None,
        user_agent: str | None = None,
    ) -> Session | None:
        """A new session under the digest of `session_token`; what the browser calls itself is for the operator.

        None when the user is gone or disabled, or, where `password_hash` says which hash was checked, when the
        password changed meanwhile.
        """
        now = self._now()
        row = await self._database.row(
            "session_start",
            session_id=new_identifier("s"),
            digest=digest(session_token),
            subject=subject,
            now=now,
            expires_at=now + timedelta(seconds=lifetime),
            password_hash=password_hash,
            user_agent=None if user_agent is None else displayed(user_agent, _USER_AGENT),
        )
        return None if row is None else _session_of(row)

    async def find(self, session_token: str) -> Session | None:
        """The live session of a live user."""
        row = await self._database.row("session_find", digest=digest(session_token), now=self._now())
        return None if row is None else _session_of(row)

    async def end(self, session_token: str) -> bool:
        """Signed out; False when there was no such session."""
        return await self._database.value("session_end", digest=digest(session_token), now=self._now()) is not None
