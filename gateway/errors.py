"""Every refusal that a client is told: one table of its codes, one type, and the exception that carries it.

Whoever refuses names a code of `CODES`, and with it come its status and what the operator may do; only where one code
is answered by several statuses does the refusal say which. A new code is a row here. The public text (`error`,
`description`) is what a stranger may read; the private `cause` goes to the log. `proxy.answers` and `web.answers` each
render it in their place.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, final

from gateway.model import Identity

# fmt: off
Step = Literal[
    "head", "route", "address", "cors", "credential", "token", "signature", "scope", "body", "nonce", "limit",
    "upstream",
]
# fmt: on
FieldPair = tuple[str, str]  # a header field's name and value


class Code(NamedTuple):
    """An error's code: the status that answers it, where both are defined, what the operator may do about it, as far as
    that follows from the code, and the step of a call that ends so, where no `Cause` says it."""

    status: int
    source: str
    mend: str = ""
    step: Step = "upstream"


_OURS: Final = "the gateway's own"
_REQUEST: Final = "ask the client's developer to correct the request: the cause says what is wrong with it"
_PROXY: Final = "see docs/forward-auth.md for what the proxy in front has to send"

# What is wrong with a message or its way, whatever it is about: one for each status of HTTP that is answered here.
_OF_HTTP: Final[Mapping[str, Code]] = {
    "invalid_request": Code(400, "RFC 6749, section 5.2; RFC 6750, section 3.1", _REQUEST, step="body"),
    "unauthorized": Code(401, "RFC 9110, section 15.5.2"),  # nothing was presented (RFC 6750, section 3.1)
    "forbidden": Code(
        403,
        "RFC 9110, section 15.5.4",
        "change the route's allow or deny, or have the client call from elsewhere; a proxy in front must be among "
        "server.trusted_proxies and say in X-Forwarded-For who called",
        step="address",
    ),
    "not_found": Code(
        404,
        "RFC 9110, section 15.5.5",
        "correct the address that the client calls, or add a route whose path, hosts and methods match it",
        step="route",
    ),
    "method_not_allowed": Code(
        405,
        "RFC 9110, section 15.5.6",
        "have the client use another method, or add this one to the route's methods",
        step="route",
    ),
    "request_timeout": Code(
        408, "RFC 9110, section 15.5.9", "see why the client or the network is so slow", step="body"
    ),
    "conflict": Code(409, "RFC 9110, section 15.5.10"),
    "content_too_large": Code(
        413, "RFC 9110, section 15.5.14", "have the client send less, or raise the route's max_body", step="body"
    ),
    "uri_too_long": Code(414, "RFC 9110, section 15.5.15", "have the client send a shorter address"),
    "expectation_failed": Code(
        417, "RFC 9110, section 15.5.18", "have the client send no Expect other than 100-continue"
    ),
    "misdirected_request": Code(
        421,
        "RFC 9110, section 15.5.20",
        "have the client call the host of server.public_url; a proxy in front must pass Host on unchanged",
    ),
    "too_many_requests": Code(429, "RFC 6585, section 4", "have the client call less often, or raise the limit"),
    "header_fields_too_large": Code(
        431,
        "RFC 6585, section 5",
        "have the client send fewer or shorter header fields; cookies are the usual cause",
    ),
    "server_error": Code(
        500,
        "RFC 6749, section 4.1.2.1; RFC 9110, section 15.6.1",
        "this is a bug in the gateway: report it with the log lines of this request_id",
    ),
    "not_implemented": Code(
        501, "RFC 9110, section 15.6.2", "have the client do without this; the gateway does not support it"
    ),
    "bad_gateway": Code(
        502,
        "RFC 9110, section 15.6.3",
        "check that the upstream is running, that the route has its address, and what its own log says",
    ),
    "temporarily_unavailable": Code(503, "RFC 6749, section 4.1.2.1; RFC 9110, section 15.6.4"),
    "gateway_timeout": Code(
        504,
        "RFC 9110, section 15.6.5",
        "see why the upstream is slow; the route's timeout is how long it may take",
    ),
    "http_version_not_supported": Code(505, "RFC 9110, section 15.6.6", "have the client use HTTP/1.1"),
}
_OF_HTTP_BY_STATUS: Final = {code.status: name for name, code in _OF_HTTP.items()}

CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        **_OF_HTTP,
        # -- whether a call may pass --------------------------------------------------------------------------------
        "invalid_token": Code(
            401,
            "RFC 6750, section 3.1",
            "have the client get another token: the cause says what is wrong with this one",
        ),
        "insufficient_scope": Code(403, "RFC 6750, section 3.1"),
        "insufficient_user_authentication": Code(401, "RFC 9470, section 3"),
        "invalid_dpop_proof": Code(  # 400 at the endpoints for tokens (section 5)
            401,
            "RFC 9449, section 7.1",
            "ask the client's developer to correct its DPoP proofs: the cause says what is wrong",
        ),
        "use_dpop_nonce": Code(  # 400 at the endpoints for tokens (section 8)
            401, "RFC 9449, section 9", "nothing, if the client then comes with the nonce that it was given"
        ),
        "access_denied": Code(403, "RFC 6749, section 4.1.2.1"),
        "login_required": Code(401, "OpenID Connect Core, section 3.1.2.6"),
        "cross_site_request": Code(403, _OURS),
        "forbidden_origin": Code(403, _OURS, step="cors"),
        # 426 for another version (section 4.4)
        "bad_handshake": Code(400, "RFC 6455, section 4.2.1", _REQUEST, step="head"),
        "websocket_fault": Code(
            400,
            "RFC 6455, section 7.1.7",
            "have the developer correct the program that sent it, or find what alters its bytes on the way",
        ),
        "websocket_too_big": Code(
            400, "RFC 6455, section 7.4.1", "have the messages be smaller, or raise the route's websocket.max_message"
        ),
        "drained": Code(
            503, _OURS, "nothing: clients of streams connect again; the route's drain is how long they may stay"
        ),
        # -- what another proxy asks (forward auth) -----------------------------------------------------------------
        "untrusted_proxy": Code(
            403,
            _OURS,
            "name the proxy's address in server.trusted_proxies; if this was not your proxy, keep others from reaching "
            "it",
            step="address",
        ),
        "unclear_question": Code(403, _OURS, _PROXY, step="head"),
        "body_not_seen": Code(
            403,
            _OURS,
            "have the calls of this route pass through the gateway itself, or the client sign without the body",
            step="body",
        ),
        # -- what a client asks for ---------------------------------------------------------------------------------
        "invalid_client": Code(  # 429 where secrets are guessed
            401,
            "RFC 6749, section 5.2",
            "correct the client's secret: `gateway client rotate-secret ID` makes a new one; "
            "`gateway client show ID` says whether the client exists",
        ),
        "invalid_grant": Code(
            400,
            "RFC 6749, section 5.2",
            "have the client start over: it sends the person to authorize again",
        ),
        "unauthorized_client": Code(
            400,
            "RFC 6749, section 5.2",
            "`gateway client update ID --grant-type …` says what the client may use",
        ),
        "unsupported_grant_type": Code(400, "RFC 6749, section 5.2"),
        "unsupported_response_type": Code(400, "RFC 6749, section 4.1.2.1"),
        "invalid_scope": Code(
            400,
            "RFC 6749, section 5.2",
            "`gateway client show ID` says what it may ask for, `client update ID --scope …` changes it",
        ),
        "invalid_target": Code(
            400,
            "RFC 8707, section 2",
            "have the client ask for a resource that is a route of this gateway (RFC 8707)",
        ),
        "invalid_redirect_uri": Code(
            400,
            "RFC 7591, section 3.2.2",
            "have the client's developer correct the redirect URIs that it registers",
        ),
        "invalid_client_metadata": Code(
            400,
            "RFC 7591, section 3.2.2",
            "have the client's developer correct what it registers: the cause says what is wrong",
        ),
        "authorization_pending": Code(400, "RFC 8628, section 3.5"),
        "slow_down": Code(400, "RFC 8628, section 3.5"),
        "expired_token": Code(400, "RFC 8628, section 3.5"),
        "interaction_required": Code(400, "OpenID Connect Core, section 3.1.2.6"),
        "account_selection_required": Code(400, "OpenID Connect Core, section 3.1.2.6"),
        "consent_required": Code(400, "OpenID Connect Core, section 3.1.2.6"),
        "invalid_request_uri": Code(400, "OpenID Connect Core, section 3.1.2.6"),
        "request_not_supported": Code(400, "OpenID Connect Core, section 3.1.2.6"),
        "request_uri_not_supported": Code(400, "OpenID Connect Core, section 3.1.2.6"),
        "unmet_authentication_requirements": Code(
            400, "OpenID Connect Core Error Code unmet_authentication_requirements, section 2"
        ),
    }
)


def code_of(status: int) -> str:
    """The code of a fault that has a status of HTTP and no code of its own."""
    return _OF_HTTP_BY_STATUS.get(status) or ("invalid_request" if status < 500 else "server_error")


class Cause(NamedTuple):
    """Why a call is refused, for the operator: `text` is all that there is to say.

    `kind` begins it, and is its label in the figures, of which there are few; `step` is that of a call
    (`proxy.explaining`) at which it ends, and `mend` what may be done about it.
    """

    kind: str
    step: Step
    mend: str
    text: str

    @staticmethod
    def of(step: Step, kind: str, rest: str = "", *, mend: str) -> "Cause":
        """One that says its kind and the rest, of every call."""
        return Cause(kind, step, mend, kind + rest)

    def naming(self, detail: str) -> "Cause":
        """The same, with what is to be said of one call."""
        return Cause(self.kind, self.step, self.mend, self.text + detail)


@final
class Refused:
    """Why something may not be: what the client is told, and for the operator the cause and its mend. It is never
    altered, and one and the same may answer many.

    `status` and `mend` are those of the code, unless others are given; of a declared `Cause` comes the mend too.
    `fields` are header fields of the answer, in their order. Any refusal is worth another try after `retry_after`
    seconds where that says so, a 503 after a moment anyway. `identity`, on whose behalf it was asked, and `upstream`
    are there as far as they are known.
    """

    __slots__ = (
        "because",
        "cause",
        "description",
        "error",
        "fields",
        "identity",
        "mend",
        "retry_after",
        "status",
        "upstream",
    )

    def __init__(
        self,
        error: str,
        description: str,
        cause: Cause | str = "",
        *,
        status: int = 0,
        mend: str = "",
        fields: tuple[FieldPair, ...] = (),
        retry_after: int = 0,
        identity: Identity | None = None,
        upstream: str = "",
    ) -> None:
        code = CODES[error]
        because = cause if isinstance(cause, Cause) else None
        self.error: Final = error
        self.description: Final = description
        self.status: Final = status or code.status
        self.cause: Final[str] = cause.text if isinstance(cause, Cause) else cause
        self.because: Final = because
        self.mend: Final = mend or (code.mend if because is None else because.mend)
        self.fields: Final = fields
        self.retry_after: Final = retry_after
        self.identity: Final = identity
        self.upstream: Final = upstream

    def __repr__(self) -> str:
        return f"Refused({self.status} {self.error}: {self.why})"

    def also(self, *fields: FieldPair, status: int = 0) -> "Refused":
        """The same, with these fields besides, and by another status where one is given."""
        return Refused(
            self.error,
            self.description,
            self.because or self.cause,
            status=status or self.status,
            mend=self.mend,
            fields=self.fields + fields,
            retry_after=self.retry_after,
            identity=self.identity,
            upstream=self.upstream,
        )

    @property
    def why(self) -> str:
        """Why, for the operator: what the client is told where there is nothing to add."""
        return self.cause or self.description

    @property
    def kind(self) -> str:
        """Its label in the figures, of which there are few, whatever its cause names."""
        return self.error if self.because is None else self.because.kind

    @property
    def location(self) -> str:
        """Where it leads a person who could sign in; empty where it leads nowhere."""
        return "".join(self.values("Location"))

    def values(self, name: str) -> tuple[str, ...]:
        """The values of all such fields."""
        return tuple([value for known, value in self.fields if known == name])

    def head(self, soon: int) -> list[FieldPair]:
        """The fields of the answer; one for a moment (503) may be tried again after `soon` seconds."""
        wait = self.retry_after or (soon if self.status == 503 else 0)
        return [*self.fields, ("Retry-After", str(wait))] if wait else [*self.fields]

    def body(self, request_id: str) -> dict[str, str]:
        """The members of the answer's JSON (RFC 6749, section 5.2), with the identifier of the request."""
        return {"error": self.error, "error_description": self.description, "request_id": request_id}


class GatewayError(Exception):
    """The root of what is raised on purpose while requests are served; what only the operator can mend is
    `faults.OperatorError`."""


class StoreUnavailable(GatewayError):
    """The database gave no answer within its deadline: the caller refuses (503), never guesses."""


class OAuthError(GatewayError):
    """A refusal on its way to whoever answers the request. Where a redirect tells of it, its status does not count."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"{refused.error}: {refused.why}")
        self.refused: Final = refused


def invalid_request(description: str, cause: str = "") -> OAuthError:
    """A parameter is absent, repeated or malformed."""
    return OAuthError(Refused("invalid_request", description, cause))


def invalid_client(cause: str = "") -> OAuthError:
    """One text for every reason, so that nobody learns which half was wrong."""
    return OAuthError(Refused("invalid_client", "Client authentication failed.", cause))


def too_many_secrets(cause: str, wait: int) -> OAuthError:
    """RFC 6749, section 2.3.1, with RFC 6585, section 4: wrong secrets for a client are too many for `wait` seconds."""
    text = "Client authentication failed too often from this address. Check the client's secret, and wait."
    cause = f"too many wrong secrets: {cause}"
    return OAuthError(Refused("invalid_client", text, cause, status=429, retry_after=wait))


def invalid_grant(description: str, cause: str = "") -> OAuthError:
    """The code or refresh token is no good, or is another client's."""
    return OAuthError(Refused("invalid_grant", description, cause))


def unauthorized_client(description: str, cause: str = "") -> OAuthError:
    """The client may not use this grant type."""
    return OAuthError(Refused("unauthorized_client", description, cause))


def unsupported_grant_type(description: str, cause: str = "") -> OAuthError:
    """No client can use this grant type here."""
    return OAuthError(Refused("unsupported_grant_type", description, cause))


def invalid_scope(description: str, cause: str = "") -> OAuthError:
    """The scope is unknown, malformed, or more than may be had."""
    return OAuthError(Refused("invalid_scope", description, cause))


def invalid_target(description: str, cause: str = "") -> OAuthError:
    """The resource is unknown or malformed."""
    return OAuthError(Refused("invalid_target", description, cause))
