"""Clients for the pure decisions."""

from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from gateway.model import GRANT_TYPES, About, Client

REDIRECT = "https://app.example/cb"
SCOPES = frozenset({"notes:read", "notes:write"})
RESOURCE = "https://api.example.com/api/notes"

CONFIDENTIAL = Client(
    client_id="c_web",
    name="Web",
    confidential=True,
    redirect_uris=(REDIRECT,),
    grant_types=frozenset(GRANT_TYPES),
    scopes=SCOPES,
    token_type="bearer",
    mac_drafts=("01",),
    mac_algorithm="hmac-sha-256",
    pkce_required=True,
    first_party=False,
    verified=True,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    disabled_at=None,
    about=About(),
)
PUBLIC = replace(CONFIDENTIAL, client_id="c_app", confidential=False)


def client(**changes: Any) -> Client:
    """A confidential client with some things changed."""
    return replace(CONFIDENTIAL, **changes)
