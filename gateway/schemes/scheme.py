"""What a scheme is: what is known of it beforehand, and how calls are judged by it.

present   what the call claims, from its fields alone; raises MalformedCredential where they break its grammar
prove     given the token that it names: the first fault, or what its body is to be held against, or None
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple, final

from mypy_extensions import mypyc_attr

from gateway.credentials import scheme_of
from gateway.credentials.signed import BodyCheck, Once
from gateway.crypto import Keyring, TokenPrefix
from gateway.errors import Cause, FieldPair, Refused
from gateway.model import MacAlgorithm, MacDraft
from gateway.routing import Route
from gateway.routing.call import Call

INVALID_TOKEN: Final = "invalid_token"  # noqa: S105  # an error's code
INSUFFICIENT: Final = "insufficient_user_authentication"
TOKEN_WANTED: Final = "This resource needs an access token in the Authorization field"  # noqa: S105  # a sentence
UNPROVEN: Final = "The access token is unknown, expired or revoked."


class Lifeless(NamedTuple):
    """Why what was presented counts no more, or never has."""

    invented: Cause
    unknown: Cause
    expired: Cause


TOKENS: Final = Lifeless(
    invented=Cause.of(
        "token",
        "invented token",
        mend="this gateway never issued it, or it rests on a master key that was dropped: check where the client got "
        "it, and that it sends the whole token",
    ),
    unknown=Cause.of(
        "token",
        "unknown token",
        mend="it was never issued here, or ended so long ago that it was removed; the client needs a new one",
    ),
    expired=Cause.of("token", "expired token", mend="the client needs a new one, for instance with its refresh token"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a scheme beforehand, wherever it matters.

    Figures, the log and routes call it `name`, challenges `spelling`; the configuration has the name in a route's
    `auth`, unless it is a `variant` of another scheme, with a key of its own. `kind` is that of the tokens, as the
    guard holds them, that come by it; they begin with `prefix`, and `misused` says why one counts by no scheme for
    another kind.

    `fields` are the credential, and `besides` what a page must be let send with them; of a scheme for people in their
    browser, whose scopes do not bound them, it is the `cookie`. `wanted` is what a call without a credential is told
    where nothing else is accepted, and `also` follows TOKEN_WANTED where something is. One that `signs` proves each
    call anew, with a timestamp that may be off by mac.skew and a nonce that counts once. What comes `by_bearer_token`
    may be a token of another issuer. Whatever of a credential is wrong, a stranger is told `unproven`, by the code
    `error`, and the operator what it is, or how it is `lifeless`.
    """

    name: str
    spelling: str
    kind: str
    wanted: str
    misused: Cause
    also: str = ""
    fields: tuple[str, ...] = ("Authorization",)
    besides: tuple[str, ...] = ()
    cookie: str = ""
    prefix: TokenPrefix = "gwa_"
    variant: bool = False
    signs: bool = False
    by_bearer_token: bool = False
    error: str = INVALID_TOKEN
    unproven: str = UNPROVEN
    lifeless: Lifeless = TOKENS

    @property
    def in_authorization(self) -> bool:
        """Whether it is one of Authorization, by its spelling."""
        return "Authorization" in self.fields

    @property
    def beside(self) -> frozenset[bytes]:
        """The fields in which it comes beside Authorization, in lower case; none of one that is in there."""
        return frozenset() if self.in_authorization else frozenset([name.lower().encode() for name in self.fields])


@mypyc_attr(acyclic=True)
@final
class Fault:
    """Why a call may not pass: what the client is told, the cause for the operator, and the error's code, which is
    empty where the client used no credential yet."""

    __slots__ = ("cause", "description", "error")

    def __init__(self, description: str, cause: Cause, error: str = INVALID_TOKEN) -> None:
        self.description: Final = description
        self.cause: Final = cause
        self.error: Final = error


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True)
class Signer:
    """What a MAC token proves requests by: its key, and how its client may sign."""

    key: bytes = field(repr=False)
    algorithm: MacAlgorithm
    drafts: tuple[MacDraft, ...]


@mypyc_attr(acyclic=True)
@dataclass(frozen=True, slots=True)
class Bound:
    """What a DPoP-bound token proves requests by: the thumbprint of its client's key (RFC 9449, section 6)."""

    jkt: str


@mypyc_attr(acyclic=True)
@final
class Presented:
    """What a call claims, by its scheme: the access token as it was sent, by what a signed call counts once, and what
    else the scheme has read and will prove it by."""

    __slots__ = ("claim", "once", "scheme", "token")

    def __init__(self, scheme: "Scheme", token: bytes, once: Once | None = None, claim: object = None) -> None:
        self.scheme: Final = scheme
        self.token: Final = token
        self.once: Final = once
        self.claim: Final = claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the configuration says of schemes. Clients reach resources under `origin`, of which `host` is in lower case;
    `skew` is in seconds."""

    origin: str
    secure: bool
    host: str
    port: int
    skew: float
    algorithms: tuple[MacAlgorithm, ...]
    drafts: tuple[MacDraft, ...]
    keyring: Keyring
    dpop_nonce: bool  # a proof must have one of ours

    @property
    def scheme(self) -> str:
        """That of the URL under which clients reach resources."""
        return "https" if self.secure else "http"


class Scheme(ABC):
    """One scheme; its class has the `facts`."""

    facts: ClassVar[Facts]

    def __init__(self, rules: Rules) -> None:
        facts = self.facts
        self.rules: Final = rules
        self.name: Final = facts.name
        self.kind: Final = facts.kind

    @abstractmethod
    def present(self, call: Call, credential: bytes) -> Presented | Fault:
        """What the call claims; `credential` is what follows the scheme's name in Authorization.

        Raises MalformedCredential.
        """

    def prove(
        self,
        call: Call,  # noqa: ARG002  # who holds the token may use it
        presented: Presented,  # noqa: ARG002
        signer: Signer | Bound | None,  # noqa: ARG002
        now: float,  # noqa: ARG002
    ) -> Fault | BodyCheck | None:
        """The first fault of the claim, given what the token proves requests by, or what the body must fit; `now` is in
        seconds since 1970."""
        return None

    def is_used(self, call: Call) -> bool:
        """Whether the call uses it, rightly or not."""
        beside = self.facts.beside
        return any(scheme_of(value) == self.name for value in call.authorization) or not beside.isdisjoint(call.names)

    def dead(self, cause: Cause) -> Fault:
        """The fault of what counts no more, or never has; the client is not told why."""
        return Fault(self.facts.unproven, cause, self.facts.error)

    def spent(self, description: str, cause: Cause) -> Fault:
        """The fault of a call by what counts once, and not for the first time."""
        return Fault(description, cause)

    def of_challenge(self, route: Route) -> Mapping[str, str | None]:  # noqa: ARG002
        """What its challenge says of its own, or, by None, does not say."""
        return {}

    def fields(self, *, has_body: bool) -> tuple[FieldPair, ...]:  # noqa: ARG002
        """Header fields that stand beside its challenge, for a call with a body or without."""
        return ()

    def refuse(self, call: Call, refused: Refused, now: float) -> Refused:  # noqa: ARG002
        """The refusal with what it says to this one call, at this moment; those without are made once for many."""
        return refused
