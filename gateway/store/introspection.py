"""What is told of a token: to those who introspect it (RFC 7662), and to an operator."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from gateway.model import format_scope
from gateway.store.database import Row


class ExplainedToken(Struct, frozen=True):
    """The reason why a token is dead (None if it lives), and what is known of it."""

    why_dead: str | None
    known: Mapping[str, object]


def end_of(row: Row, now: datetime) -> str | None:
    """The cause of a token's end; acts of the operator and the person come before the passing of time."""
    beyond = frozenset(row["scopes"]) - frozenset(row["scopes"] if row["granted"] is None else row["granted"])
    ends: tuple[tuple[object, str], ...] = (
        (row["revoked_at"], "it was revoked at {at}"),
        (row["client_disabled_at"], "its client was disabled at {at}"),
        (row["client_ended"], "all tokens of its client were ended"),
        (row["user_disabled_at"], "its user was disabled at {at}"),
        (row["user_ended"], "all tokens of its user were ended, as when a password changes"),
        (row["grant_ended_at"], "the user took the client's access away at {at}"),
        (row["family_ended_at"], "all tokens of its sign-in ended at {at}, as when a refresh token is used twice"),
        (beyond, f"the user's consent no longer covers {format_scope(beyond)}"),
        (row["spent_at"], "it was used at {at}, and another one has taken its place"),
        (row["expires_at"] if row["expires_at"] <= now else None, "it expired at {at}"),
    )
    return next((said.format(at=_iso(value)) for value, said in ends if value), None)


def _iso(value: object) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else ""


def introspection(row: Row, token_type: str | None) -> dict[str, object]:
    """The members of an answer for a token that lives (RFC 7662, section 2.2); a refresh token has no `token_type`."""
    resource = list(row["resource"])
    jkt, auth_time = row["jkt"], row["auth_time"]
    members: dict[str, object] = {
        "active": True,
        "scope": format_scope(frozenset(row["scopes"])),
        "client_id": row["client_id"],
        "username": row["username"],
        "token_type": token_type if jkt is None or token_type is None else "DPoP",  # RFC 9449, section 6.2
        "cnf": None if jkt is None else {"jkt": jkt},
        "exp": int(row["expires_at"].timestamp()),
        "iat": int(row["issued_at"].timestamp()),
        "sub": row["subject"] or row["client_id"],
        "aud": resource[0] if len(resource) == 1 else resource or None,
        "auth_time": None if auth_time is None else int(auth_time.timestamp()),  # RFC 9470, section 6.2
        "acr": row["acr"],
    }
    return {name: value for name, value in members.items() if value is not None}
