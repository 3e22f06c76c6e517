"""The question that the engine puts to the guard, and its possible answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

from gateway.credentials.components import Fields
from gateway.credentials.signed import BodyCheck
from gateway.model import Identity
from gateway.routing import Route

if TYPE_CHECKING:
    from gateway.guard.cache import Held


@dataclass(slots=True, kw_only=True)
class Call:
    """What is to be judged: the parts of a request that credentials and scopes depend on. It is not altered.

    `target` is the raw request target as received, `host` (lower case) and `port` are those a signature covers:
    from `public_url` or the route's own host, never from the client's forwarding fields. `authorization` holds
    every Authorization field's value, `fields` all other header fields.
    """

    route: Route
    method: str
    target: bytes
    host: str
    port: int
    authorization: tuple[bytes, ...]
    signature_fields: bool = False  # Signature or Signature-Input is present
    fields: Fields = ()
    has_body: bool = False  # it comes in chunks, or is longer than nothing


@dataclass(slots=True, kw_only=True, unsafe_hash=True)
class Principal:
    """On whose behalf a call is made and how far that reaches; tokens in use that agree in all of it share one.

    What it is compared and hashed by is never altered.

    `identity` is None on a public route. `audience` is what the tokens are limited to (RFC 8707); empty for any
    route. `rendered` is for the engine, which hangs there what it makes of the rest, to make it once.
    """

    identity: Identity | None
    scopes: frozenset[str]
    token_type: str  # bearer, mac or signature; empty on a public route
    audience: tuple[str, ...] = ()
    rendered: bytes | None = field(default=None, compare=False, repr=False)
    by_signature: "Principal | None" = field(default=None, compare=False, repr=False)  # the same, for RFC 9421 calls


@dataclass(slots=True, kw_only=True)
class Allowed:
    """The call may pass, on behalf of `principal`.

    `digest` is that of the token (b"" on a public route). `ends_at` is the token's end in seconds since 1970: a
    tunnel that outlives it is closed. Calls with one token may get one and the same answer: it must not be altered.
    """

    principal: Principal
    digest: bytes
    ends_at: float = inf

    @property
    def identity(self) -> Identity | None:
        """None on a public route."""
        return self.principal.identity

    @property
    def scopes(self) -> frozenset[str]:
        return self.principal.scopes

    @property
    def token_type(self) -> str:
        return self.principal.token_type

    @property
    def expires_at(self) -> datetime | None:
        """The token's end; None on a public route."""
        return None if self.ends_at == inf else datetime.fromtimestamp(self.ends_at, UTC)


@dataclass(slots=True, kw_only=True)
class Refused:
    """The call may not pass: the answer's status, error and challenges, and the cause for the log alone.

    Calls may get one and the same refusal: it must not be altered. A 503 is worth another try after a moment
    (Retry-After). For the log too are `mend`, what to do about it, and as far as they are known `identity`, on whose
    behalf the call was made, and `upstream`.
    `accept_signature` is the field that says what to sign, where a route takes signatures (RFC 9421, section 5.1).
    """

    status: int
    error: str
    description: str
    challenges: tuple[bytes, ...] = ()  # WWW-Authenticate values, one for each scheme
    accept_signature: bytes = b""
    cause: str = ""
    mend: str = ""
    identity: Identity | None = None
    upstream: str = ""
    rendered: object = field(default=None, compare=False, repr=False)  # for the engine, as a principal's


@dataclass(slots=True, kw_only=True, eq=False)
class Door:
    """What lets credentials in at once at calls like one: the scopes they need, and what else is known beforehand.

    The rest is the guard's: `held` is what it knows of the token in `authorization`, the last field that got in, and
    whether that still counts is looked at each time; `besieged`: the last token was invented, so the next may be too.
    """

    call: Call  # its Authorization says nothing here
    scopes: frozenset[str]
    bearer: bool  # tokens get in
    forged: Refused  # the answer to forged ones
    signed: bytes | None  # what a MAC without ext covers behind its nonce; None: none gets in at once
    authorization: bytes = b""
    held: "Held | None" = None
    besieged: bool = False


Verdict = Allowed | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyAwaited:
    """A signed call may pass if its body fits: all is judged but the body and the nonce.

    The engine takes the body in with `check`. Before it passes any of it on it awaits `spend`, once, which spends the
    nonce and gives the verdict as of then; where the body does not fit, `misfit` is the refusal. What it holds whole
    it compares first, so that a body that was altered on its way costs the client no nonce.
    """

    check: BodyCheck
    misfit: Refused
    spend: Callable[[], Awaitable[Verdict]]
