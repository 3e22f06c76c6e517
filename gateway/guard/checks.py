"""The checks that need nothing but the call, what it presents, the token, and the time; each gives the first fault."""

from typing import Final

from gateway.credentials import in_query
from gateway.credentials.signed import BodyCheck
from gateway.guard.held import Held
from gateway.guard.schemes import UNPROVEN, Presented
from gateway.guard.verdict import INSUFFICIENT, WITHDRAWN, Allowed, Call, Fault, SignedIn
from gateway.model import format_scope
from gateway.routing import Route, SignIn

_NO_CREDENTIAL: Final = "This resource needs an access token in the Authorization field."
_NO_MAC: Final = "This resource needs a request that is signed with a MAC token (the scheme MAC in Authorization)."
_NO_SIGNATURE: Final = "This resource needs a signed request (RFC 9421), with an access token as the keyid."
_NO_CREDENTIAL_OR_SIGNATURE: Final = (
    "This resource needs an access token in the Authorization field, or as the keyid of a signature (RFC 9421)."
)
_ONE_CREDENTIAL: Final = "Send one credential, in one Authorization field, and never put a token in the query."


def one_credential(call: Call) -> Fault | None:
    """Check 2, and whether there is a credential at all."""
    count = len(call.authorization) + call.signature_fields
    if in_query(call.target):
        return Fault(_ONE_CREDENTIAL, "token in the query", "invalid_request")
    if count == 1:
        return None
    if count:
        return Fault(_ONE_CREDENTIAL, "more than one credential", "invalid_request")
    return Fault(wanted(call.route), "no credential", "")


def scheme_accepted(call: Call, scheme: str) -> Fault | None:
    """Check 3. A signature comes in fields of its own, never in Authorization."""
    if scheme in call.route.schemes and (scheme == "signature") == call.signature_fields:
        return None
    return Fault(wanted(call.route), "a scheme that the route does not accept", "")


def judge(call: Call, presented: Presented, held: Held | None, now: float) -> Fault | tuple[Allowed, BodyCheck | None]:
    """Checks 6 to 13, in their order: the first fault; else whom the token stands for, and what the body must fit."""
    if held is None:
        return Fault(presented.scheme.unproven, "unknown token")
    if held.allowed.ends_at <= now:
        return Fault(presented.scheme.unproven, "expired token")
    proven = kind_fits(presented, held) or presented.scheme.prove(call, presented, held.signer, now)
    if isinstance(proven, Fault):
        return proven
    return within_bounds(call, held.allowed, now) or (held.allowed, proven)


def kind_fits(presented: Presented, held: Held) -> Fault | None:
    """Check 7."""
    kind, scheme = held.allowed.token_type, presented.scheme
    return None if kind == scheme.kind else Fault(scheme.unproven, f"a {kind} token presented as {scheme.name}")


def within_bounds(call: Call, allowed: Allowed, now: float) -> Fault | None:
    """Checks 12 and 13: why a good token does not open this route."""
    route = call.route
    if allowed.audience and (elsewhere := _meant_elsewhere(route, allowed)) is not None:
        return elsewhere
    needed = route.scopes_for(call.method)
    if not needed <= allowed.scopes:
        lacking = format_scope(needed - allowed.scopes)
        return Fault(f"The access token lacks the scope {lacking}.", f"lacks {lacking}", "insufficient_scope")
    if route.groups and route.groups.isdisjoint(allowed.groups):
        return Fault("The person may not do this.", "in none of the route's groups", "access_denied")
    return None if route.sign_in is None else signed_in_so(route.sign_in, allowed.sign_in, now)


def signed_in_so(demanded: SignIn, sign_in: SignedIn | None, now: float) -> Fault | None:
    """Why whoever is behind a call has to sign in once more (RFC 9470, section 3)."""
    if sign_in is None:
        return Fault("A person must have signed in for this.", "nobody signed in for the token", INSUFFICIENT)
    if demanded.acr and sign_in.acr != demanded.acr:
        return Fault("The person must sign in in another way for this.", "signed in in another way", INSUFFICIENT)
    if demanded.max_age and now - sign_in.at > demanded.max_age:
        return Fault("The person signed in too long ago for this.", "signed in too long ago", INSUFFICIENT)
    return None


def _meant_elsewhere(route: Route, allowed: Allowed) -> Fault | None:
    """Check 12, of a token with an audience; that of another issuer's was looked at when it was proven."""
    voucher = allowed.voucher
    if voucher is None:
        resource = "The access token is meant for another resource."
        return None if route.resource in allowed.audience else Fault(resource, "audience")
    if voucher.issuer not in route.issuers:
        return Fault(UNPROVEN, f"foreign token, route: {voucher.issuer} is none of its issuers")
    if voucher.withdrawn:
        return Fault(UNPROVEN, f"{WITHDRAWN}: {voucher.issuer}")
    return None


def wanted(route: Route) -> str:
    """What a call without a credential is told."""
    if "signature" not in route.schemes:
        return _NO_MAC if route.schemes == ("mac",) else _NO_CREDENTIAL
    return _NO_SIGNATURE if route.schemes == ("signature",) else _NO_CREDENTIAL_OR_SIGNATURE
