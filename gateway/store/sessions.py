"""The sessions of browsers."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from gateway.crypto import digest, new_identifier
from gateway.model import SESSION, AccessToken, Identity, Session
from gateway.store.access_tokens import FoundTokens
from gateway.store.clock import Now
from gateway.store.database import Database, Row, Statements
from gateway.store.records import SignedInBrowser
from gateway.store.text import displayed, storable
from gateway.store.users import user_of


def _session_of(row: Row) -> Session:
    return Session(
        session_id=row["session_id"],
        user=user_of(row),
        signed_in_at=row["signed_in_at"],
        expires_at=row["expires_at"],
    )


def _held(row: Row) -> AccessToken:
    identity = Identity(
        subject=row["subject"],
        client_id="",
        username=row["username"],
        email=row["email"],
        groups=tuple(row["groups"]),
    )
    return AccessToken(
        digest=row["digest"],
        identity=identity,
        scopes=frozenset(),
        token_type=SESSION,
        audience=(),
        issued_at=row["signed_in_at"],
        expires_at=row["expires_at"],
        mac_key=None,
        mac_algorithm=None,
        mac_drafts=(),
        auth_time=row["signed_in_at"],
        acr=row["acr"],
    )


_USER_AGENT: Final = 200  # characters that are kept


class Sessions:
    """Sessions of people in browsers. `lookups` are connections that nothing but the lookup of many uses."""

    def __init__(self, database: Database, lookups: Database, now: Now) -> None:
        self._database, self._lookups, self._now = database, lookups, now

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
        return await self._start(self._database, subject, session_token, lifetime, password_hash, user_agent)

    async def _start(
        self,
        statements: Database | Statements,
        subject: str,
        session_token: str,
        lifetime: float,
        password_hash: str | None,
        user_agent: str | None,
    ) -> Session | None:
        now = self._now()
        row = await statements.row(
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

    async def renew(
        self,
        session: Session,
        session_token: str,
        lifetime: float,
        *,
        old_hash: str,
        new_hash: str,
        user_agent: str | None = None,
    ) -> Session | None:
        """The person's new password, and a new session under the digest of `session_token` in place of all before.

        None, and nothing changed, when the session is over or the password's hash is not `old_hash` any more.
        """
        async with self._database.transaction() as statements:
            changed = await statements.row(
                "session_new_password",
                session_id=session.session_id,
                old_hash=old_hash,
                password_hash=new_hash,
                now=self._now(),
            )
            if changed is None:
                return None
            return await self._start(statements, session.user.subject, session_token, lifetime, new_hash, user_agent)

    async def find(self, session_token: str) -> Session | None:
        """The live session of a live user."""
        row = await self._database.row("session_find", digest=digest(session_token), now=self._now())
        return None if row is None else _session_of(row)

    async def find_many(self, digests: Sequence[bytes]) -> FoundTokens:
        """Many at once by the digests of their tokens, as the guard holds them: those that live, but for their time."""
        rows = await self._lookups.rows("sessions_find", digests=digests)
        found = {row["digest"]: _held(row) for row in rows}
        return FoundTokens(rows[0]["server"] if rows else None, found, {})

    async def end(self, session_token: str) -> bool:
        """Signed out; False when there was no such session."""
        return await self._database.value("session_end", digest=digest(session_token), now=self._now()) is not None

    async def of(self, subject: str, most: int) -> list[SignedInBrowser]:
        """The browsers that a person is signed in with, the one that was seen last first."""
        rows = await self._database.rows("sessions_of", subject=subject, now=self._now(), most=most)
        return [SignedInBrowser(**row) for row in rows]

    async def end_of(self, subject: str, session_id: str | None = None) -> list[SignedInBrowser]:
        """Sign a person out of one browser, or of all of them; those that they are signed out of."""
        if session_id is not None and not storable(session_id):
            return []
        rows = await self._database.rows("sessions_end", subject=subject, session_id=session_id, now=self._now())
        return [SignedInBrowser(**row) for row in rows]
