"""Checks 6 to 13, by the call, what it presents, the token, and the time; each gives the first fault."""

from dataclasses import replace
from typing import Final

from gateway.credentials.signed import BodyCheck
from gateway.guard.causes import (
    ANOTHER_WAY,
    AUDIENCE,
    FOREIGN_ROUTE,
    LACKS,
    NOBODY_SIGNED_IN,
    OUT_OF_GROUPS,
    TOO_LONG_AGO,
    WITHDRAWN_KEY,
)
from gateway.guard.held import Held
from gateway.guard.verdict import Allowed, SignedIn
from gateway.model import format_scope
from gateway.routing import Route, SignIn
from gateway.routing.call import Call
from gateway.schemes.registry import MISUSED
from gateway.schemes.scheme import INSUFFICIENT, UNPROVEN, Fault, Presented, Scheme

NOT_FOR_THEM: Final = Fault("The person may not do this.", OUT_OF_GROUPS, "access_denied")


def judge(call: Call, presented: Presented, held: Held, now: float) -> Fault | tuple[Allowed, BodyCheck | None]:
    """Checks 6 to 13, of a token that is known, in their order: the first fault; else whom the token stands for, and
    what the body must fit."""
    scheme = presented.scheme
    if held.allowed.ends_at <= now:
        return scheme.dead(scheme.facts.lifeless.expired)
    proven = kind_fits(scheme, held) or scheme.prove(call, presented, held.signer, now)
    if isinstance(proven, Fault):
        return proven
    bounded = within_bounds(call, scheme, held.allowed, now)
    return bounded if isinstance(bounded, Fault) else (bounded, proven)


def kind_fits(scheme: Scheme, held: Held) -> Fault | None:
    """Check 7."""
    return None if held.kind == scheme.kind else scheme.dead(MISUSED[held.kind].naming(scheme.name))


def within_bounds(call: Call, scheme: Scheme, allowed: Allowed, now: float) -> Fault | Allowed:
    """Checks 12 and 13: why a good token does not open this route, or on whose behalf it does.

    Scopes bound what an application may do in somebody's name. A person in their own browser may do whatever their
    groups may, so that their call has the scopes that it needs.
    """
    route = call.route
    if allowed.audience and (elsewhere := _meant_elsewhere(route, allowed)) is not None:
        return elsewhere
    needed = route.scopes_for(call.method)
    if not needed <= allowed.scopes:
        if scheme.facts.cookie:
            return _as_a_person(call, replace(allowed, scopes=needed), now)
        lacking = format_scope(needed - allowed.scopes)
        return Fault(f"The access token lacks the scope {lacking}.", LACKS.naming(lacking), "insufficient_scope")
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
        return Fault("A person must have signed in for this.", NOBODY_SIGNED_IN, INSUFFICIENT)
    if demanded.acr and sign_in.acr != demanded.acr:
        return Fault("The person must sign in in another way for this.", ANOTHER_WAY, INSUFFICIENT)
    if demanded.max_age and now - sign_in.at > demanded.max_age:
        return Fault("The person signed in too long ago for this.", TOO_LONG_AGO, INSUFFICIENT)
    return None


def _meant_elsewhere(route: Route, allowed: Allowed) -> Fault | None:
    """Check 12, of a token with an audience; that of another issuer's was looked at when it was proven."""
    voucher = allowed.voucher
    if voucher is None:
        resource = "The access token is meant for another resource."
        return None if route.resource in allowed.audience else Fault(resource, AUDIENCE)
    if voucher.issuer not in route.issuers:
        return Fault(UNPROVEN, FOREIGN_ROUTE.naming(f"{voucher.issuer} is none of its issuers"))
    if voucher.withdrawn:
        return Fault(UNPROVEN, WITHDRAWN_KEY.naming(voucher.issuer))
    return None
