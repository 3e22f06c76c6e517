"""The guard's possible answers to a call."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Final, NamedTuple, final

from mypy_extensions import mypyc_attr

from gateway.credentials.signed import BodyCheck
from gateway.errors import Refused
from gateway.guard.lane import Pending
from gateway.model import Identity


@mypyc_attr(acyclic=True)
@final
class SignedIn:
    """When somebody signed in, in seconds since 1970, and how."""

    __slots__ = ("acr", "at")

    def __init__(self, at: float, acr: str) -> None:
        self.at: Final = at
        self.acr: Final = acr


@mypyc_attr(acyclic=True)
@final
class Voucher:
    """A key of another issuer, which has vouched for tokens: none of them counts once it is withdrawn."""

    __slots__ = ("issuer", "withdrawn")

    def __init__(self, issuer: str) -> None:
        self.issuer: Final = issuer  # by its name in the configuration
        self.withdrawn = False

    def withdraw(self) -> None:
        """Its issuer does not publish it any more."""
        self.withdrawn = True

    def publish(self) -> None:
        """Its issuer publishes it, be it again: what it has vouched for counts."""
        self.withdrawn = False


class Bounds(NamedTuple):
    """What many tokens have in common: one object for all of them, but where a sign-in is among it."""

    audience: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    sign_in: SignedIn | None = None
    voucher: Voucher | None = None


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The call may pass, on behalf of `subject` and as far as `scopes` reach. Calls with one token may share it.

    On a public route nobody is named. No text holds a control character, since upstreams get them in header fields.
    `subject` is the client's own identifier where no person stands behind the token, and `client_id` None for a person
    in their own browser. `audience` is what the token is limited to (RFC 8707); empty for any route. `groups` are those
    that the person is in, and `sign_in` is the person's where some route asks for that. `voucher` is there for a token
    of another issuer, which always has an audience. `digest` is that of the token (b"" on a public route), `ends_at`
    its end in seconds since 1970, and `marks` say what its life hangs on besides (`guard.ledger`): what a call has
    opened ends with it (`guard.watch`).
    """

    subject: str | None = None
    client_id: str | None = None
    username: str | None = None
    email: str | None = None
    scopes: frozenset[str] = frozenset()
    scheme: str = ""  # by which it is presented: bearer, dpop, mac, signature or session; empty on a public route
    bounds: Bounds = Bounds()  # noqa: RUF009  # it is never altered
    digest: bytes = b""
    ends_at: float = inf
    marks: int = 0

    @property
    def audience(self) -> tuple[str, ...]:
        """What the token is limited to."""
        return self.bounds.audience

    @property
    def groups(self) -> tuple[str, ...]:
        """Those that the person is in."""
        return self.bounds.groups

    @property
    def sign_in(self) -> SignedIn | None:
        """When and how the person signed in; None where nobody did, or no route asks for it."""
        return self.bounds.sign_in

    @property
    def voucher(self) -> Voucher | None:
        """What vouches for it in the store's place."""
        return self.bounds.voucher

    @property
    def identity(self) -> Identity | None:
        """Whose call it is; None on a public route."""
        if self.subject is None:
            return None
        return Identity(
            subject=self.subject,
            client_id=self.client_id or "",
            username=self.username,
            email=self.email,
            groups=self.groups,
        )

    @property
    def expires_at(self) -> datetime | None:
        """The token's end; None on a public route."""
        return None if self.ends_at == inf else datetime.fromtimestamp(self.ends_at, UTC)


PUBLIC: Final = Allowed()


Verdict = Allowed | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyAwaited:
    """A signed call may pass if its body fits: all is judged but the body and the nonce.

    The proxy takes the body in with `check`. Before it passes any of it on it awaits `spend`, once, which spends the
    nonce and gives the verdict as of then; where the body does not fit, `misfit` is the refusal. What it holds whole
    it compares first, so that a body that was altered on its way costs the client no nonce.
    """

    check: BodyCheck
    misfit: Refused
    spend: Callable[[], Awaitable[Verdict]]


Judged = Verdict | BodyAwaited | Pending["Judged"]
"""What comes of a call: at once, or when the database has said something, however often it is asked."""
