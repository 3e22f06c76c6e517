"""Signing in: wrong passwords in a row, and the sessions of browsers."""

from datetime import timedelta
from typing import Final

from gateway.crypto import digest, new_identifier
from gateway.model import Session
from gateway.store.base import Base, storable
from gateway.store.database import Row
from gateway.store.users import user_of

WRONG_PASSWORDS: Final = 10  # in a row, for one account from one allowance
WAIT: Final = 900.0  # seconds after the last of them


def _session_of(row: Row) -> Session:
    return Session(
        session_id=row["session_id"],
        user=user_of(row),
        signed_in_at=row["signed_in_at"],
        expires_at=row["expires_at"],
    )


def _account(account: str) -> bytes:
    return digest(f"user\0{account}")


def _browser(browser: str | None) -> bytes:
    return b"" if browser is None else digest(browser)


class Sessions(Base):
    """Sign-in attempts and sessions."""

    async def sign_in_wait(self, account: str, browser: str | None) -> float:
        """Seconds until another attempt for the account is heard: 0 when it may be tried now.

        `account` is the subject, or the lower-case login where no user has it; `browser` is the identifier of
        a browser that signed in to this account before, which has an allowance of its own: strangers' guesses
        never lock a person out of the browser they use.
        """
        row = await self._database.row("attempts_find", _account(account), _browser(browser))
        if row is None or row["failures"] < WRONG_PASSWORDS:
            return 0.0
        rested: float = (self.now() - row["last_failed_at"]).total_seconds()
        return min(WAIT, max(0.0, WAIT - rested))

    async def sign_in_failed(self, account: str, browser: str | None) -> None:
        """Count one more wrong password; after a rest of `WAIT` the count begins anew."""
        await self._database.row(
            "attempt_failed",
            _account(account),
            _browser(browser),
            self.now(),
            timedelta(seconds=WAIT),
            account if storable(account) else None,
        )

    async def start_session(
        self, subject: str, session_token: str, lifetime: float, *, password_hash: str | None = None
    ) -> Session | None:
        """A new session under the digest of `session_token`; clears the count of wrong passwords.

        None when the user is gone or disabled, or, where `password_hash` says which hash was checked, when the
        password changed meanwhile.
        """
        now = self.now()
        row = await self._database.row(
            "session_start",
            new_identifier("s"),
            digest(session_token),
            subject,
            now,
            now + timedelta(seconds=lifetime),
            password_hash,
            _account(subject),
        )
        return None if row is None else _session_of(row)

    async def session(self, session_token: str) -> Session | None:
        """The live session of a live user."""
        row = await self._database.row("session_find", digest(session_token), self.now())
        return None if row is None else _session_of(row)

    async def end_session(self, session_token: str) -> bool:
        """Signed out; False when there was no such session."""
        return await self._database.value("session_end", digest(session_token), self.now()) is not None
