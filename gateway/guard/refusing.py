"""The guard's refusals: what the client is told, the challenges beside it, and the cause for the operator.

Refusals recur, and a flood of them must cost less than what it asks for: each is made once.
"""

from functools import lru_cache
from typing import Final

from gateway.errors import CODES, Cause, Refused, StoreUnavailable
from gateway.guard.causes import NO_KEYS
from gateway.model import Identity, format_scope
from gateway.refusals import NO_DATABASE
from gateway.routing import Route, SignIn
from gateway.routing.call import Call
from gateway.schemes.challenges import challenges
from gateway.schemes.presenting import Schemes
from gateway.schemes.scheme import INSUFFICIENT, Fault

_KEPT: Final = 1024
_NOTHING: Final = frozenset[str]()
_NO_ANSWER: Final = "The token cannot be checked at the moment; try again."


class Refusing:
    """Makes refusals, in the name of one realm, whose challenges are of these schemes."""

    def __init__(self, realm: str, schemes: Schemes) -> None:
        self._realm, self._schemes = realm, schemes
        self._kept = lru_cache(maxsize=_KEPT)(self._made)

    def __call__(
        self,
        call: Call,
        fault: Fault,
        *,
        used: tuple[str, ...] = (),
        identity: Identity | None = None,
    ) -> Refused:
        """The refusal of a call that used these schemes, on behalf of `identity` if its token is known.

        Without an error, it says only what is wanted (RFC 6750, section 3.1). Whoever is to get a token, or another
        one, is told all the scopes that this call needs.
        """
        error = fault.error
        needed = _NOTHING if error and CODES[error].status == 400 else call.route.scopes_for(call.method)
        return self._kept(call.route, error, fault.description, fault.cause, used, identity, needed, call.has_body)

    def _made(
        self,
        route: Route,
        error: str,
        description: str,
        cause: Cause,
        used: tuple[str, ...],
        identity: Identity | None,
        needed: frozenset[str],
        has_body: bool,
    ) -> Refused:
        schemes = self._schemes.of(route.schemes)
        offered = challenges(
            schemes,
            route,
            realm=self._realm,
            error=error or None,
            description=description,
            scope=format_scope(needed) or None,
            used=used,
            sign_in=_demanded(route.sign_in) if error == INSUFFICIENT and route.sign_in is not None else {},
        )
        fields = [("WWW-Authenticate", challenge) for challenge in offered]
        fields += [field for scheme in schemes for field in scheme.fields(has_body=has_body)]
        return Refused(error or "unauthorized", description, cause, fields=tuple(fields), identity=identity)


def _demanded(sign_in: SignIn) -> dict[str, str]:
    """What a challenge says of the sign-in that is needed (RFC 9470, section 3)."""
    acr = {"acr_values": sign_in.acr} if sign_in.acr else {}
    return acr | ({"max_age": f"{sign_in.max_age:.0f}"} if sign_in.max_age else {})


def no_keys(why: str) -> Refused:
    """The refusal of a call with a token whose issuer did not say by which keys to judge it."""
    return Refused("temporarily_unavailable", _NO_ANSWER, NO_KEYS.naming(why))


def _said_by(why: Exception) -> str:
    """The words of the database; of what is a surprise, its kind before."""
    return str(why) if isinstance(why, StoreUnavailable) and str(why) else f"{type(why).__name__}: {why}"


def no_answer(why: Exception | str, identity: Identity | None = None) -> Refused:
    """The refusal of a call that nobody could judge."""
    cause = why if isinstance(why, str) else f"store: {_said_by(why)}"
    return Refused("temporarily_unavailable", _NO_ANSWER, cause, mend=NO_DATABASE, identity=identity)
