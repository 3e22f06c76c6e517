"""What all parts of the store share: the connections, the keys, the time, and how faults of the data are told."""

import string
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from gateway.config import Tokens
from gateway.crypto import Keyring
from gateway.errors import GatewayError, OperatorError
from gateway.store.clock import Clock
from gateway.store.database import Database, Server
from gateway.store.tally import Tally

WAIT: Final = 900.0  # seconds after the last of too many wrong passwords


class Conflict(GatewayError):
    """A name that must be unique is taken; `field` says which (username, email, scope, …)."""

    def __init__(self, field: str) -> None:
        super().__init__(f"{field} is taken")
        self.field = field


_UNIQUE: Final = {"users_username_key": "username", "users_email_key": "email", "scopes_pkey": "scope"}

_CHECKS: Final = {
    "users_username_check": "username: must be 1 to 64 letters, digits, dots, hyphens or underscores, the first a "
    "letter or digit",
    "users_email_check": "email: must be an address such as ada@example.com",
    "users_password_hash_check": "password: must be an argon2id hash",
    "clients_name_check": "name: must not be empty",
    "clients_first_party_check": "first_party: only a confidential client may skip consent",
    "clients_pkce_check": "pkce: a public client always uses it",
    "clients_description_check": "description: must not be empty",
    "clients_owner_fkey": "owner: there is no such user",
    "scopes_name_check": "scope: must be printable ASCII without spaces, quotes or backslashes",
    "scopes_description_check": "description: must not be empty",
}


_SMALL: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


@contextmanager
def judged() -> Iterator[None]:
    """Tell a fault that Postgres found in the data in our words, by the constraint's name, never its message.

    Raises Conflict for what is taken, OperatorError for what is malformed.
    """
    try:
        yield
    except asyncpg.UniqueViolationError as exc:
        if exc.constraint_name in _UNIQUE:
            raise Conflict(_UNIQUE[exc.constraint_name]) from exc
        raise
    except (asyncpg.CheckViolationError, asyncpg.ForeignKeyViolationError) as exc:
        if exc.constraint_name in _CHECKS:
            raise OperatorError(_CHECKS[exc.constraint_name]) from exc
        raise


def storable(text: str) -> bool:
    """Whether a stranger's text can be looked for at all: Postgres knows no NUL and no lone surrogates."""
    return "\0" not in text and len(text) <= 4096 and not any("\ud800" <= mark <= "\udfff" for mark in text)


def folded(login: str) -> str:
    """A username or email address as it is compared: with small letters for A to Z, and no others.

    Postgres folds as we do, by `lower(… collate "C")`: of letters beyond ASCII no two libraries agree.
    """
    return login.translate(_SMALL)


class Base:
    """One part of the store. `lookups` and `spends` are connections that nothing but the lookup of many tokens, and
    nothing but nonces, uses."""

    def __init__(
        self,
        server: Server,
        database: Database,
        lookups: Database,
        spends: Database,
        keyring: Keyring,
        tokens: Tokens,
        clock: Clock,
    ) -> None:
        self._server = server
        self._database = database
        self._lookups = lookups
        self._spends = spends
        self._keyring = keyring
        self._tokens = tokens
        self._clock = clock
        self.seconds = clock.seconds  # since 1970: what `now` says
        self._tally = Tally(database, self.now, timedelta(seconds=WAIT))

    def now(self) -> datetime:
        """The time by which this store judges; it does not go back, nor leap ahead by itself (`store.clock`)."""
        return self._clock()
