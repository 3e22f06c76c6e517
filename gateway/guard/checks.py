"""The checks that need nothing but the call, what it presents, the token, and the time; each gives the first fault."""

from dataclasses import replace
from functools import lru_cache
from typing import Final

from gateway.credentials import in_query
from gateway.credentials.signed import BodyCheck
from gateway.errors import Cause
from gateway.guard import causes
from gateway.guard.held import Held
from gateway.guard.schemes import UNPROVEN, Presented, Scheme
from gateway.guard.verdict import INSUFFICIENT, Allowed, Fault, SignedIn
from gateway.model import BEARER, IN_AUTHORIZATION, SCHEMES, SESSION, SIGNATURE, format_scope
from gateway.routing import Route, SignIn
from gateway.routing.call import Call

_EITHER: Final = (
    "This resource needs an access token in the Authorization field, or as the keyid of a signature (RFC 9421)."
)
_ONE_CREDENTIAL: Final = "Send one credential, in one Authorization field, and never put a token in the query."
NOT_FOR_THEM: Final = Fault("The person may not do this.", causes.OUT_OF_GROUPS, "access_denied")


def one_credential(call: Call) -> Fault | None:
    """Check 2, and whether there is a credential at all."""
    count = len(call.authorization) + call.signature_fields
    if in_query(call.target):
        return Fault(_ONE_CREDENTIAL, causes.TOKEN_IN_QUERY, "invalid_request")
    if count == 1 or (count == 0 and SESSION in call.route.schemes):
        return None
    if count:
        return Fault(_ONE_CREDENTIAL, causes.SEVERAL_CREDENTIALS, "invalid_request")
    return Fault(wanted(call.route.schemes), causes.NO_CREDENTIAL, "")


def scheme_accepted(call: Call, scheme: str) -> Fault | None:
    """Check 3. A signature comes in fields of its own, never in Authorization, and a session in a cookie, alone."""
    if scheme in call.route.schemes and (scheme in IN_AUTHORIZATION or not call.authorization):
        return None
    return Fault(wanted(call.route.schemes), causes.OTHER_SCHEME, "")


def judge(call: Call, presented: Presented, held: Held | None, now: float) -> Fault | tuple[Allowed, BodyCheck | None]:
    """Checks 6 to 13, in their order: the first fault; else whom the token stands for, and what the body must fit."""
    if held is None:
        return dead(presented.scheme, presented.scheme.lifeless.unknown)
    if held.allowed.ends_at <= now:
        return dead(presented.scheme, presented.scheme.lifeless.expired)
    proven = kind_fits(presented, held) or presented.scheme.prove(call, presented, held.signer, now)
    if isinstance(proven, Fault):
        return proven
    bounded = within_bounds(call, held.allowed, now)
    return bounded if isinstance(bounded, Fault) else (bounded, proven)


def dead(scheme: Scheme, cause: Cause) -> Fault:
    """The fault of a token, or a session, that counts no more, or never has; the client is not told why."""
    return Fault(scheme.unproven, cause, scheme.error)


def kind_fits(presented: Presented, held: Held) -> Fault | None:
    """Check 7."""
    kind, scheme = held.allowed.token_type, presented.scheme
    if kind == scheme.kind:
        return None
    return dead(scheme, causes.PRESENTED[kind].naming(scheme.name))


def within_bounds(call: Call, allowed: Allowed, now: float) -> Fault | Allowed:
    """Checks 12 and 13: why a good token does not open this route, or on whose behalf it does.

    Scopes bound what an application may do in somebody's name. A person in their own browser may do whatever their
    groups may, so that their call has the scopes that it needs.
    """
    route = call.route
    if allowed.audience and (elsewhere := _meant_elsewhere(route, allowed)) is not None:
        return elsewhere
    needed = route.scopes_for(call.method)
    if not needed <= allowed.scopes:
        if allowed.token_type == SESSION:
            return _as_a_person(call, replace(allowed, scopes=needed), now)
        lacking = format_scope(needed - allowed.scopes)
        return Fault(f"The access token lacks the scope {lacking}.", causes.LACKS.naming(lacking), "insufficient_scope")
    return _as_a_person(call, allowed, now)


def _as_a_person(call: Call, allowed: Allowed, now: float) -> Fault | Allowed:
    """Who the person is, and that they signed in as the route demands."""
    route = call.route
    if not in_group(route, call.method, allowed):
        return NOT_FOR_THEM
    fault = None if route.sign_in is None else signed_in_so(route.sign_in, allowed.sign_in, now)
    return allowed if fault is None else fault


def in_group(route: Route, method: str, allowed: Allowed) -> bool:
    """Whether the person is in a group of the route, where that names some for the method."""
    groups = None if route.groups is None else route.groups_for(method)
    return not groups or not groups.isdisjoint(allowed.groups)


def signed_in_so(demanded: SignIn, sign_in: SignedIn | None, now: float) -> Fault | None:
    """Why whoever is behind a call has to sign in once more (RFC 9470, section 3)."""
    if sign_in is None:
        return Fault("A person must have signed in for this.", causes.NOBODY_SIGNED_IN, INSUFFICIENT)
    if demanded.acr and sign_in.acr != demanded.acr:
        return Fault("The person must sign in in another way for this.", causes.ANOTHER_WAY, INSUFFICIENT)
    if demanded.max_age and now - sign_in.at > demanded.max_age:
        return Fault("The person signed in too long ago for this.", causes.TOO_LONG_AGO, INSUFFICIENT)
    return None


def _meant_elsewhere(route: Route, allowed: Allowed) -> Fault | None:
    """Check 12, of a token with an audience; that of another issuer's was looked at when it was proven."""
    voucher = allowed.voucher
    if voucher is None:
        resource = "The access token is meant for another resource."
        return None if route.resource in allowed.audience else Fault(resource, causes.AUDIENCE)
    if voucher.issuer not in route.issuers:
        return Fault(UNPROVEN, causes.FOREIGN_ROUTE.naming(f"{voucher.issuer} is none of its issuers"))
    if voucher.withdrawn:
        return Fault(UNPROVEN, causes.WITHDRAWN_KEY.naming(voucher.issuer))
    return None


@lru_cache(maxsize=64)  # there are as few as the schemes allow
def wanted(schemes: tuple[str, ...]) -> str:
    """What a call without a credential is told. It comes from a program, which has no session to show."""
    of_programs = tuple(scheme for scheme in schemes if scheme != SESSION) or schemes
    if len(of_programs) == 1:
        return SCHEMES[of_programs[0]].wanted
    return _EITHER if SIGNATURE in schemes else SCHEMES[BEARER].wanted
