"""Guesses at passwords and client secrets: what is counted, and when no more are heard.

A wrong password counts for the account and for the name that was typed. Ten in a row for a name, and the name is told
"too many", whoever has it, if anybody: the answers say nothing of who has an account. Ten in a row for an account, by
whichever of its names, and every attempt is refused as a wrong one, also a right one: else its other name would bring
ten guesses more, or tell that it is the same person's.

A browser that signed in to the account before has an allowance of its own: strangers' guesses never lock a person out
of the browser they use. Signing in clears the allowance that it was done by, and no other.

A client's secret is guessed in vain (RFC 6749, sections 2.3.1 and 10.10): it has 192 random bits, so that a million
guesses a second find one in 10^44 years. Twenty wrong ones for a client from one network, and who goes on from there is
told "too many" and when to come again, with the right one alone still heard: were that refused too, anybody who knows
the client's public identifier, and sits behind the same address, could shut it out. A client that nobody has is counted
alike.

A device's user code (RFC 8628, section 5.1) is short: ten wrong ones by one person, in whatever sessions, or fifty from
one network, and no more are heard for a quarter of an hour. A right one takes nothing back, since who guesses may have
right ones too.

What people type may be a password in the wrong field, so the database holds keyed digests. After a rotation of the
master key the counts begin anew.
"""

from typing import Final

from msgspec import Struct

from gateway.crypto import Keyring
from gateway.model import User
from gateway.store.tally import Tally
from gateway.store.text import folded

WAIT: Final = 900.0  # seconds after the last of too many wrong passwords
WRONG_PASSWORDS: Final = 10  # in a row, for one name or one account, from one allowance
WRONG_SECRETS: Final = 20  # for one client, from one network
WRONG_USER_CODES: Final = 10  # by one person
WRONG_USER_CODES_OF_PLACE: Final = 50
_NAME_WRITTEN_FROM: Final = 2  # names and clients that come once, which anybody can invent, write no row each


class Standing(Struct, frozen=True):
    """What earlier guesses leave of an attempt: for `wait` seconds more the name is refused as tried too often, 0 if it
    is not; at a `barred` account every attempt is a wrong one."""

    wait: float
    barred: bool


class Guess:
    """One attempt to sign in, by a name, to an account if somebody has that name."""

    def __init__(self, tally: Tally, keyring: Keyring, login: str, user: User | None, browser: str | None) -> None:
        self._tally = tally
        self._subject = None if user is None else user.subject
        self._browser = b"" if browser is None else keyring.keyed_digest("guessing-browser", browser)
        self._name = name_digest(keyring, login)
        nobodys = f"{login}\0"  # so that as many are looked for, whoever has the name
        self._account = account_digest(keyring, "" if user is None else user.subject)
        names = (login, nobodys) if user is None else (user.username, user.email or nobodys)
        self._names = {name_digest(keyring, name) for name in names}

    async def standing(self) -> Standing:
        """The attempt's standing, by the counts that are written and what this process has counted since."""
        await self._tally.read(self._browser, [self._account, *self._names | {self._name}])
        name = (self._name, self._browser)
        locked = self._tally.failures(name) >= WRONG_PASSWORDS
        wait = WAIT - self._tally.rested(name).total_seconds() if locked else 0.0
        return Standing(min(WAIT, wait), self._barred())

    def wrong(self, cause: str) -> None:
        """Count a refused attempt, by a cause of which there are few. An attempt at a barred account counts for the
        name alone, so that the bar ends."""
        self._tally.count((self._name, self._browser), written_from=_NAME_WRITTEN_FROM)
        if self._subject is not None and not self._barred():
            self._tally.count((self._account, self._browser))
        self._tally.note("sign_in.failed", subject=self._subject, cause=cause)

    def right(self) -> None:
        """Forget all wrong attempts at the account and its names, since this one signed somebody in."""
        for key in (self._account, self._name, *self._names):
            self._tally.clear((key, self._browser))

    def _barred(self) -> bool:
        return self._subject is not None and (self._tally.failures((self._account, self._browser)) >= WRONG_PASSWORDS)


def name_digest(keyring: Keyring, login: str) -> bytes:
    """The account under which what was typed as a name is counted."""
    return keyring.keyed_digest("guessed-name", folded(login))


def account_digest(keyring: Keyring, subject: str) -> bytes:
    """The account under which a person is counted, by whichever name."""
    return keyring.keyed_digest("guessed-account", subject)


class SecretGuess:
    """Wrong secrets for one client, from some place of the network."""

    def __init__(self, tally: Tally, keyring: Keyring, client_id: str, place: str) -> None:
        self._tally = tally
        self._key = (keyring.keyed_digest("guessed-secret", f"{client_id}\0{place}"), b"")

    async def wrong(self) -> float:
        """Count one more wrong secret; the seconds for which the client is heard no more, 0.0 while there are not too
        many."""
        await self._tally.read(b"", [self._key[0]])
        if self._tally.failures(self._key) >= WRONG_SECRETS:
            return max(1.0, WAIT - self._tally.rested(self._key).total_seconds())
        self._tally.count(self._key, written_from=_NAME_WRITTEN_FROM)
        return 0.0


class UserCodeGuess:
    """One user code that somebody typed who is signed in, at some place of the network."""

    def __init__(self, tally: Tally, keyring: Keyring, subject: str, place: str) -> None:
        self._tally = tally
        limits = (("person", subject, WRONG_USER_CODES), ("place", place, WRONG_USER_CODES_OF_PLACE))
        self._most = {
            (keyring.keyed_digest("guessed-user-code", f"{kind}\0{name}"), b""): most for kind, name, most in limits
        }

    async def wait(self) -> float:
        """For how many seconds no user code is heard; 0 if it is."""
        await self._tally.read(b"", [account for account, _ in self._most])
        waits = (
            WAIT - self._tally.rested(key).total_seconds()
            for key, most in self._most.items()
            if self._tally.failures(key) >= most
        )
        return min(WAIT, max(waits, default=0.0))

    def wrong(self) -> None:
        """Count a user code that no device shows."""
        for key in self._most:
            self._tally.count(key)


class Guesses:
    """Attempts to sign in, at secrets of clients, and at user codes."""

    def __init__(self, tally: Tally, keyring: Keyring) -> None:
        self._tally, self._keyring = tally, keyring

    def begin(self, login: str, user: User | None, browser: str | None) -> Guess:
        """An attempt by `login`, which is `user`'s name if it is anybody's; `browser` is the identifier of a browser
        that signed in to this account before."""
        return Guess(self._tally, self._keyring, login, user, browser)

    def secret(self, client_id: str, place: str) -> SecretGuess:
        """Wrong secrets that are presented for a client, whether there is one; `place` is where in the network."""
        return SecretGuess(self._tally, self._keyring, client_id, place)

    def user_code(self, subject: str, place: str) -> UserCodeGuess:
        """A user code that a person types; `place` is where in the network."""
        return UserCodeGuess(self._tally, self._keyring, subject, place)
