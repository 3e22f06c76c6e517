"""Bearer tokens (RFC 6750): who holds the token may use it."""

from typing import ClassVar, final

from gateway.credentials import bearer, in_query
from gateway.errors import Cause
from gateway.model import BEARER
from gateway.routing.call import Call
from gateway.schemes.scheme import TOKEN_WANTED, Facts, Presented, Scheme


@final
class Bearer(Scheme):
    """A bearer token in the Authorization field."""

    facts: ClassVar[Facts] = Facts(
        name=BEARER,
        spelling="Bearer",
        kind=BEARER,
        wanted=f"{TOKEN_WANTED}.",
        misused=Cause.of(
            "token",
            "a bearer token presented",
            " as ",
            mend="have the client send the token with the scheme Bearer, or give it MAC tokens: "
            "`gateway client update ID --token-type mac`",
        ),
        by_bearer_token=True,
    )

    def present(self, call: Call, credential: bytes) -> Presented:  # noqa: ARG002  # all that it claims
        bearer.check(credential)
        return Presented(self, credential)

    def is_used(self, call: Call) -> bool:
        return super().is_used(call) or in_query(call.target)
