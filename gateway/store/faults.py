"""Faults that Postgres finds in the data, told in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg

from gateway.errors import GatewayError
from gateway.faults import OperatorError


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
    "users_email_verified_check": "email-verified: there is no email address that could be verified",
    "users_password_hash_check": "password: must be an argon2id hash",
    "clients_name_check": "name: must not be empty",
    "clients_first_party_check": "first_party: only a confidential client may skip consent",
    "clients_pkce_check": "pkce: a public client always uses it",
    "clients_description_check": "description: must not be empty",
    "clients_owner_fkey": "owner: there is no such user",
    "scopes_name_check": "scope: must be printable ASCII without spaces, quotes or backslashes",
    "scopes_description_check": "description: must not be empty",
}


@contextmanager
def translate_violations() -> Iterator[None]:
    """Say in our words what Postgres found wrong with the data, by the constraint's name, never its message.

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
