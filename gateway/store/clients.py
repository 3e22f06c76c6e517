"""Clients and their secrets."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.crypto import digest, new_identifier, random_text
from gateway.model import CLIENT_PROPERTIES, About, Client, GrantType, OpenID, Owner
from gateway.store.clock import Now
from gateway.store.database import ACT_DEADLINE, Database, Row, Statements
from gateway.store.faults import translate_violations
from gateway.store.records import Logo, NewClient, Unauthenticated
from gateway.store.tally import Tally
from gateway.store.text import storable

# What a property is in a row of `clients`, where it is not the same: how it is read, and how it is written. What people
# are told of the client is several columns (`about_of`).
_LIST: Final = (tuple, list)
_SET: Final = (frozenset, sorted)
_CONVERTED: Final[dict[str, tuple[Callable[[Any], object], Callable[[Any], object]]]] = {
    "redirect_uris": _LIST,
    "mac_drafts": _LIST,
    "grant_types": _SET,
    "scopes": _SET,
    "default_scopes": _SET,
    "allow_groups": _SET,
    "decided": _SET,
    "openid": (OpenID.from_json, OpenID.to_json),
}
_STORED: Final = [(name, *_CONVERTED.get(name, (None, None))) for name in CLIENT_PROPERTIES if name != "about"]


def client_of(row: Row) -> Client:
    """The client in a row of `clients`."""
    properties: dict[str, Any] = {"about": about_of(row)}
    for name, read, _ in _STORED:
        value = row[name]
        properties[name] = value if read is None or value is None else read(value)
    return Client(
        client_id=row["client_id"], created_at=row["created_at"], disabled_at=row["disabled_at"], **properties
    )


def about_of(row: Row) -> About:
    """What people are shown of the client in a row that carries its owner's columns too."""
    owner = None
    if row["owner_username"] is not None:
        owner = Owner(subject=row["owner"], username=row["owner_username"], name=row["owner_name"])
    return About(
        description=row["description"],
        owner=owner,
        homepage=row["homepage"],
        privacy=row["privacy"],
        terms=row["terms"],
        logo=row["logo"],
    )


def _columns(client: NewClient) -> dict[str, object]:
    about = client.about
    columns: dict[str, object] = {
        "description": about.description,
        "owner": None if about.owner is None else about.owner.subject,
        "homepage": about.homepage,
        "privacy": about.privacy,
        "terms": about.terms,
    }
    for name, _, write in _STORED:
        value = getattr(client, name)
        columns[name] = value if write is None or value is None else write(value)
    return columns


def _new_secret() -> str:
    return "gws_" + random_text()


async def _with_logo(statements: Statements, client_id: str, logo: Logo | None) -> Client:
    if logo is not None:
        await statements.row("client_logo_set", client_id=client_id, name=logo.name, content=logo.content)
    row = await statements.row("client_find", client_id=client_id)
    assert row is not None  # noqa: S101  # it was written in this transaction
    return client_of(row)


async def create_client(
    statements: Statements, now: datetime, client: NewClient, client_id: str | None = None
) -> tuple[Client, str | None]:
    """A new client, under an identifier of ours unless it has one, and its secret if it is to have one (the only time
    it is seen)."""
    client_id = client_id or new_identifier("c")
    secret = _new_secret() if client.has_secret else None
    hashed = None if secret is None else digest(secret)
    await statements.row("client_create", client_id=client_id, now=now, secret_digest=hashed, **_columns(client))
    return await _with_logo(statements, client_id, client.logo), secret


async def update_client(statements: Statements, now: datetime, client_id: str, changes: NewClient) -> Client | None:
    """What the client is from now on, None if unknown."""
    found = await statements.value(
        "client_update", client_id=client_id, logo=changes.about.logo, now=now, **_columns(changes)
    )
    return None if found is None else await _with_logo(statements, client_id, changes.logo)


async def held_client(statements: Statements, client_id: str) -> Client | None:
    """A client, also a disabled one, that nobody else changes before the transaction ends; None if unknown."""
    held = await statements.value("client_hold", client_id=client_id)
    row = None if held is None else await statements.row("client_find", client_id=client_id)
    return None if row is None else client_of(row)


async def replace_secret(statements: Statements, now: datetime, client_id: str, overlap: float = 0.0) -> str | None:
    """A new secret; the ones before end after `overlap` seconds. None if there is no such confidential client."""
    secret = _new_secret()
    if await statements.value("client_lock", client_id=client_id) is None:
        return None
    await statements.row("secrets_retire", client_id=client_id, now=now, overlap=timedelta(seconds=overlap))
    await statements.row("secret_add", secret_digest=digest(secret), client_id=client_id, now=now)
    return secret


class Clients:
    """Clients by their client_id."""

    def __init__(self, database: Database, now: Now, tally: Tally) -> None:
        self._database, self._now, self._tally = database, now, tally

    async def create(self, client: NewClient) -> tuple[Client, str | None]:
        """The client, and its secret if it is confidential and has no keys (the only time it is seen).

        Raises OperatorError for one that cannot be, such as a first-party client without a secret.
        """
        with translate_violations():
            async with self._database.transaction() as statements:
                return await create_client(statements, self._now(), client)

    async def all(self) -> list[Client]:
        """Every client, the oldest first."""
        return [client_of(row) for row in await self._database.rows("clients_list")]

    async def find(self, client_id: str) -> Client | None:
        """Also a disabled one; the caller looks at `disabled_at`."""
        row = await self._database.row("client_find", client_id=client_id) if storable(client_id) else None
        return None if row is None else client_of(row)

    async def legacy_grant_types(self) -> list[GrantType]:
        """The grant types that OAuth 2.1 has given up and some client may still use."""
        return [row["grant_type"] for row in await self._database.rows("clients_legacy")]

    async def owned_by(self, subject: str) -> list[str]:
        """The client_ids of the clients that a user answers for, the oldest first."""
        return [row["client_id"] for row in await self._database.rows("clients_owned", owner=subject)]

    async def update(self, client_id: str, changes: NewClient) -> Client | None:
        """What the client is from now on, None if unknown.

        One that becomes public, or gets keys, loses its secrets; one that is to have a secret gets its first by
        `rotate_secret`. What a client that describes itself cannot undo is what differs from before, and what
        `changes.decided` names.
        """
        with translate_violations():
            async with self._database.transaction() as statements:
                before = await held_client(statements, client_id)
                if before is None:
                    return None
                return await update_client(statements, self._now(), client_id, changes.decided_after(before))

    async def logo(self, name: str) -> bytes | None:
        """The picture that clients have under that name."""
        found: bytes | None = await self._database.value("client_logo_find", name=name)
        return found

    async def rotate_secret(self, client_id: str, overlap: float = 0.0) -> str | None:
        """A new secret; the ones before end after `overlap` seconds. None if there is no such confidential client."""
        async with self._database.transaction() as statements:
            return await replace_secret(statements, self._now(), client_id, overlap)

    async def secrets(self, client_id: str) -> list[tuple[datetime, datetime | None]]:
        """Since when and until when (None: no end) each secret of a client counts; the one without an end first."""
        rows = await self._database.rows("secrets_list", client_id=client_id, now=self._now())
        return [(row["created_at"], row["expires_at"]) for row in rows]

    async def disable(self, client_id: str) -> bool:
        """Requests are refused; tokens end for good, so that enabling again revives none of them."""
        return await self._database.value("client_disable", client_id=client_id, now=self._now()) is not None

    async def enable(self, client_id: str) -> bool:
        """Requests are answered again. False when there is no such client."""
        return await self._database.value("client_enable", client_id=client_id, now=self._now()) is not None

    async def delete(self, client_id: str) -> bool:
        """Gone with all that was issued to it."""
        async with self._database.transaction(ACT_DEADLINE) as statements:
            return await statements.value("client_delete", client_id=client_id, now=self._now()) is not None

    async def authenticate(self, client_id: str, secret: str) -> Client | Unauthenticated:
        """The live client whose secret this is, or the reason why there is none.

        Wrong secrets are recorded and never lock it out. Every reason takes one and the same query.
        """
        if not storable(client_id):
            return Unauthenticated("unknown client")
        row = await self._database.row(
            "client_authenticate", client_id=client_id, secret_digest=digest(secret), now=self._now()
        )
        if row is None:
            return Unauthenticated("unknown client")
        if row["disabled_at"] is not None:
            return Unauthenticated("disabled client")
        if not row["proven"]:
            self._tally.note("client.secrets_guessed", client_id=client_id)
            return Unauthenticated("wrong secret")
        return client_of(row)

    async def revoke_tokens(self, client_id: str) -> int | None:
        """End all tokens and codes of a client: how many access tokens and refresh families lived, None if unknown."""
        async with self._database.transaction(ACT_DEADLINE) as statements:
            ended: int | None = await statements.value("client_revoke", client_id=client_id, now=self._now())
            return ended
