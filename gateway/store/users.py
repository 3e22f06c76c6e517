"""People: who can sign in."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct, field

from gateway.crypto import Keyring, new_identifier
from gateway.model import Client, Profile, User
from gateway.store.clock import Now
from gateway.store.database import ACT_DEADLINE, Database, Row, Statements
from gateway.store.faults import translate_violations
from gateway.store.guesses import account_digest, name_digest
from gateway.store.records import SignInCandidate
from gateway.store.text import storable


def user_of(row: Row) -> User:
    """The person in a row that carries their columns."""
    return User(
        subject=row["subject"],
        username=row["username"],
        email=row["email"],
        name=row["name"],
        created_at=row["created_at"],
        disabled_at=row["disabled_at"],
    )


def _profile_of(row: Row) -> Profile:
    return Profile(
        user=user_of(row),
        email_verified=row["email_verified"],
        claims=json.loads(row["claims"]),
        groups=tuple(row["groups"]),
        updated_at=row["updated_at"],
    )


class Known(Struct, frozen=True, kw_only=True):
    """What is told of a person besides their names: claims by their names, where None removes one.

    What is None as a whole is kept as it is.
    """

    claims: Mapping[str, object] = field(default_factory=dict)
    email_verified: bool | None = None
    groups: Sequence[str] | None = None


NOTHING: Final = Known()


async def known_as(statements: Database | Statements, subject: str, client: Client) -> str | None:
    """The subject by which a client knows a person, as `Users.known_as` tells it."""
    if client.openid.sector is None:
        return subject
    for _ in range(3):  # a statement that runs beside another one's insert sees neither row
        found: str | None = await statements.value(
            "pairwise_subject", sector=client.openid.sector, subject=subject, known_as=new_identifier("p")
        )
        if found is not None:
            return found
    return None


class Users:
    """Users, by username, whatever its letters' case."""

    def __init__(self, database: Database, now: Now, keyring: Keyring) -> None:
        self._database, self._now, self._keyring = database, now, keyring

    async def create(
        self, username: str, email: str | None, name: str | None, password_hash: str, known: Known = NOTHING
    ) -> User:
        """A new user with a subject that was never anybody's.

        Raises Conflict for a username or email address that is taken, OperatorError for a malformed one.
        """
        with translate_violations():
            row = await self._database.row(
                "user_create",
                subject=new_identifier("u"),
                username=username,
                email=email,
                name=name,
                password_hash=password_hash,
                email_verified=known.email_verified or False,
                claims=json.dumps({name: value for name, value in known.claims.items() if value is not None}),
                groups=list(known.groups or ()),
                now=self._now(),
            )
        assert row is not None  # noqa: S101  # the statement inserts one row or raises
        return user_of(row)

    async def all(self) -> list[User]:
        """Everybody, by username."""
        return [user_of(row) for row in await self._database.rows("users_list")]

    async def find(self, username: str) -> User | None:
        """The user of that name, also a disabled one (the caller looks at `disabled_at`); None where nobody has it."""
        row = await self._database.row("user_find", username=username) if storable(username) else None
        return None if row is None else user_of(row)

    async def profile(self, username: str) -> Profile | None:
        """All that applications may learn of a user, also of a disabled one."""
        if not storable(username):
            return None
        row = await self._database.row("user_profile", username=username)
        return None if row is None else _profile_of(row)

    async def profile_of(self, subject: str) -> Profile | None:
        """What applications may learn of a user, by the subject; None if it is unknown."""
        row = await self._database.row("user_profile_of", subject=subject)
        return None if row is None else _profile_of(row)

    async def known_as(self, subject: str, client: Client) -> str | None:
        """The subject by which a client knows a person (Core, section 8): the same for all clients of a sector.

        The person's own where the client has no sector; None when there is no such person any more.
        """
        return await known_as(self._database, subject, client)

    async def update(
        self,
        username: str,
        new_username: str | None,
        email: str | None,
        name: str | None,
        known: Known = NOTHING,
    ) -> User | None:
        """The user with another username, email address or name; None keeps one, and an empty one is removed.

        None when there is no such user. The subject stays, with all that was issued. Raises as `create` does.
        """
        with translate_violations():
            row = await self._database.row(
                "user_update",
                username=username,
                new_username=new_username,
                email=email,
                name=name,
                email_verified=known.email_verified,
                claims=json.dumps(dict(known.claims)),
                groups=None if known.groups is None else list(known.groups),
                now=self._now(),
            )
        return None if row is None else user_of(row)

    async def set_password(self, username: str, password_hash: str) -> bool:
        """Also ends every session of the user, and forgets the wrong passwords. False when there is no such user."""
        with translate_violations():
            async with self._database.transaction() as statements:
                return await self._forget(
                    await statements.row(
                        "user_set_password", username=username, password_hash=password_hash, now=self._now()
                    ),
                    statements,
                )

    async def unlock(self, username: str) -> bool:
        """Forget the wrong passwords for the user, by whichever name and browser. False when there is no such user."""
        async with self._database.transaction() as statements:
            return await self._forget(
                await statements.row("user_unlock", username=username, now=self._now()), statements
            )

    async def _forget(self, person: Row | None, statements: Statements) -> bool:
        if person is not None:
            names = [name for name in (person["username"], person["email"]) if name is not None]
            accounts = [account_digest(self._keyring, person["subject"])]
            accounts += [name_digest(self._keyring, name) for name in names]
            await statements.row("attempts_forget", accounts=accounts)
        return person is not None

    async def disable(self, username: str) -> bool:
        """Sign-in is refused; sessions and tokens end for good, so that enabling again revives none of them."""
        return await self._database.value("user_disable", username=username, now=self._now()) is not None

    async def enable(self, username: str) -> bool:
        """Sign-in is possible again. False when there is no such user."""
        return await self._database.value("user_enable", username=username, now=self._now()) is not None

    async def delete(self, username: str) -> bool:
        """Gone with all that was theirs; the username may then be another person's, with another subject.

        Sessions go first: which applications are to be told of their end, the grants say that go with the person.
        """
        async with self._database.transaction(ACT_DEADLINE) as statements:
            await statements.row("user_sign_out", username=username)
            return await statements.value("user_delete", username=username, now=self._now()) is not None

    async def revoke_tokens(self, username: str) -> int | None:
        """End all tokens and codes of a user: how many access tokens and refresh families lived, None if unknown."""
        async with self._database.transaction(ACT_DEADLINE) as statements:
            ended: int | None = await statements.value("user_revoke", username=username, now=self._now())
            return ended

    async def sign_in_candidate(self, login: str) -> SignInCandidate | None:
        """The user with that username or email address, also a disabled one, for whom no session can be started."""
        row = await self._database.row("user_candidate", login=login) if storable(login) else None
        return None if row is None else SignInCandidate(user=user_of(row), password_hash=row["password_hash"])
