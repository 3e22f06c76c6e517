"""One tree of protocol errors: data only. `web` and `proxy` each render it in their place.

The public text (`error`, `description`) is what a stranger may read; the private `cause` goes to the log.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Step = Literal["address", "credential", "token", "signature", "scope", "body", "nonce", "limit"]


class GatewayError(Exception):
    """The root of everything that Gateway raises on purpose."""


@dataclass(eq=False)
class OAuthError(GatewayError):
    """A protocol error with its registered code (RFC 6749, section 5.2 and RFC 6750, section 3.1).

    `status` is the HTTP status where the error is answered as JSON; redirected errors ignore it.
    """

    error: str
    description: str
    status: int = 400
    cause: str = ""
    retry_after: int | None = None  # seconds

    def __str__(self) -> str:
        return f"{self.error}: {self.cause or self.description}"

    def body(self) -> dict[str, str]:
        """The JSON members of RFC 6749, section 5.2."""
        return {"error": self.error, "error_description": self.description}


def invalid_request(description: str, cause: str = "") -> OAuthError:
    """RFC 6749, section 5.2: a parameter is absent, repeated or malformed."""
    return OAuthError("invalid_request", description, 400, cause)


def invalid_client(cause: str = "") -> OAuthError:
    """One text for every reason, so that nobody learns which half was wrong (RFC 6749, section 5.2)."""
    return OAuthError("invalid_client", "Client authentication failed.", 401, cause)


def too_many_secrets(cause: str, wait: int) -> OAuthError:
    """RFC 6749, section 2.3.1, with RFC 6585, section 4: wrong secrets for a client are too many for `wait` seconds."""
    text = "Client authentication failed too often from this address. Check the client's secret, and wait."
    return OAuthError("invalid_client", text, 429, f"too many wrong secrets: {cause}", wait)


def invalid_grant(description: str, cause: str = "") -> OAuthError:
    """RFC 6749, section 5.2: the code or refresh token is no good, or is another client's."""
    return OAuthError("invalid_grant", description, 400, cause)


def unauthorized_client(description: str, cause: str = "") -> OAuthError:
    """RFC 6749, section 5.2: the client may not use this grant type."""
    return OAuthError("unauthorized_client", description, 400, cause)


def unsupported_grant_type(description: str, cause: str = "") -> OAuthError:
    """RFC 6749, section 5.2: no client can use this grant type here."""
    return OAuthError("unsupported_grant_type", description, 400, cause)


def invalid_scope(description: str, cause: str = "") -> OAuthError:
    """RFC 6749, section 5.2: the scope is unknown, malformed, or more than may be had."""
    return OAuthError("invalid_scope", description, 400, cause)


def invalid_target(description: str, cause: str = "") -> OAuthError:
    """RFC 8707, section 2: the resource is unknown or malformed."""
    return OAuthError("invalid_target", description, 400, cause)


class StoreUnavailable(GatewayError):
    """The database gave no answer within its deadline: the caller refuses (503), never guesses."""


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
