"""The question that the engine puts to the guard, and its possible answers."""

from dataclasses import dataclass
from datetime import datetime

from gateway.model import Identity
from gateway.routing import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is to be judged: the parts of a request that credentials and scopes depend on.

    `target` is the raw request target as received, `host` (lower case) and `port` are those a MAC signature covers:
    from `public_url` or the route's own host, never from the client's forwarding fields. `authorization` holds
    every Authorization field's value.
    """

    route: Route
    method: str
    target: bytes
    host: str
    port: int
    authorization: tuple[bytes, ...]
    signature_fields: bool = False  # Signature or Signature-Input is present


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The call may pass, on behalf of `identity`; None on a public route.

    `expires_at` is the token's end: a tunnel that outlives it is closed.
    """

    identity: Identity | None
    scopes: frozenset[str]
    token_type: str  # bearer, mac or signature; empty on a public route
    digest: bytes  # of the token
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The call may not pass: the answer's status, error and challenges, and the cause for the log alone."""

    status: int
    error: str
    description: str
    challenges: tuple[bytes, ...] = ()  # WWW-Authenticate values, one for each scheme
    cause: str = ""


Verdict = Allowed | Refused
