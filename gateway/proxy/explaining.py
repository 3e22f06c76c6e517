"""What became of a call, step by step: worked out from how it ended, by the same tables that decided it.

    head        its bytes were read as a request
    route       one canonical target, held against the routes
    address     in a network from which the route may be called
    cors        a browser's preflight: of an origin whose pages may call
    credential  one credential, of a scheme that the route takes
    token       known and live, and of the scheme's kind
    signature   signed calls: proof, algorithm, draft, time, stated hash
    scope       meant for this route, and enough for the method; of a person who signed in as the route demands
    body        within the route's bound, and the one that was signed
    nonce       signed calls: spent for the first time
    limit       within the limits of the route; rates by address count before the credential, at the address
    upstream    one took the call, and answered
    answer      it went out whole

A call is refused or fails at one of them; those before it passed, and those behind were not reached. Nothing is told
that a secret could stand in: see `proxy.decisions` for what is kept.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, assert_never

from gateway.errors import CODES, Refused
from gateway.guard import Allowed
from gateway.model import Identity, format_scope
from gateway.observe import scrub
from gateway.proxy.calls import place_of
from gateway.proxy.decisions import Asked, Decision
from gateway.proxy.dispatch import Dispatcher
from gateway.proxy.finished import Finished
from gateway.routing import Look, Route, SignIn
from gateway.routing.forwarded import neighbourhood
from gateway.routing.limits import By
from gateway.schemes import IN_BROWSERS, SIGNING

Outcome = Literal["passed", "refused", "failed", "not needed", "not reached"]

# fmt: off
STEPS: Final = (
    "head", "route", "address", "cors", "credential", "token", "signature", "scope", "body", "nonce", "limit",
    "upstream", "answer",
)
# fmt: on
_LEFT: Final = (
    "the client left before its answer was complete",
    "see by the times which side was slow; the client's own time limit may be shorter than the route's",
)
_OWN_LOG: Final = "see the upstream's own log, which knows the call by its X-Request-Id, the request_id"
_REFUSED_BY_PAGES: Final = "see what the authorization server's log says of this request_id"


class LimitThatApplies(NamedTuple):
    """A limit that counts a call: the limit, whose calls it is counted with, as far as that is known, and how many of
    these may come at once."""

    limit: str
    whose: str | None
    at_once: int | None

    @property
    def more(self) -> str:
        """What there is to say of it besides."""
        parts = [] if self.at_once is None else [f"{self.at_once} at once"]
        parts += [] if self.whose is None else [self.whose]
        return f" ({', '.join(parts)})" if parts else ""


class Step(NamedTuple):
    """One step of a call, how it went, and what there is to say of it."""

    step: str
    outcome: Outcome
    text: str


class Case(NamedTuple):
    """A call to be explained: `finished` is how it ended, and None where it was never made. `target` is what the
    upstream would get, and `client` the address that the call would be from."""

    asked: Asked | None
    route: Route | None
    allowed: Allowed | None
    refused: Refused | None
    finished: Finished | None
    target: bytes = b""
    client: str = ""


def explanation(at: float, decision: Decision, dispatcher: Dispatcher) -> dict[str, object]:
    """What there is to tell of a call that had ended at `at` (seconds since 1970), as something that JSON has."""
    finished, asked = decision
    refused = finished.refused
    allowed = finished.allowed
    identity = (None if refused is None else refused.identity) or (None if allowed is None else allowed.identity)
    cause, mend = _cause(finished, dispatcher)
    case = Case(asked, finished.route, allowed, refused, finished)
    return {
        "at": datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "outcome": _outcome(finished, dispatcher),
        "status": finished.status or None,
        "cause": cause,
        "mend": _for_whom(mend, identity),
        "told": None if refused is None else refused.description,
        "route": None if finished.route is None else finished.route.name,
        "address": finished.client,
        "client_id": None if identity is None else identity.client_id or None,
        "subject": None if identity is None else identity.subject,
        "username": None if identity is None else identity.username,
        "upstream": place_of(finished.upstream) or None,
        "asked_in_vain": list(_in_vain(finished)),
        "received": finished.received,
        "sent": finished.sent,
        "seconds": {name: round(taken, 6) for name, taken in _times(finished).items()},
        "routes": routes_looked_at(asked, dispatcher),
        "steps": [step._asdict() for step in steps(case, dispatcher)],
    }


def routes_looked_at(asked: Asked | None, dispatcher: Dispatcher) -> list[dict[str, object]]:
    """The routes that a call was held against, the match last if there is one."""
    return [
        {
            "route": look.route.name,
            "path": look.route.path.decode(),
            "host": None if look.route.host is None else look.route.host.decode(),
            "matches": not look.why_not,
            "why_not": look.why_not or None,
        }
        for look in _looks(asked, dispatcher)
    ]


def steps(case: Case, dispatcher: Dispatcher) -> list[Step]:
    """The steps of a call, in their order."""
    failing = _failing(case, dispatcher)
    reached = len(STEPS) if failing is None else STEPS.index(failing)
    made: list[Step] = []
    for place, name in enumerate(STEPS if case.finished is not None else STEPS[:-1]):
        if place < reached:
            made.append(_passed(name, case, dispatcher))
        elif place == reached:
            made.append(_stopped(name, case, dispatcher))
        else:
            made.append(_passed(name, case, dispatcher) if _passed_all_the_same(name, case) else _unreached(name))
    return made


def _passed_all_the_same(name: str, case: Case) -> bool:
    """Whether a step behind the one at which a call failed was passed: a nonce may be spent before the body is looked
    at, and an upstream's own refusal is an answer that goes out."""
    finished = case.finished
    if name == "answer":
        return finished is not None and finished.complete and case.refused is None
    return name == "nonce" and case.allowed is not None


def _unreached(name: str) -> Step:
    return Step(name, "not reached", "")


# -- where it ended --------------------------------------------------------------------------------------------------


def _failing(case: Case, dispatcher: Dispatcher) -> str | None:
    """The step at which a call was refused or failed."""
    finished, refused = case.finished, case.refused
    if finished is not None and not finished.complete and (refused is None or finished.status != refused.status):
        return "answer" if finished.status else _left_at(finished, case.asked)
    if refused is None:
        return None if finished is None or _outcome(finished, dispatcher) == "passed" else "upstream"
    if case.asked is None:
        return "head"
    if case.route is None:
        return "route"
    if refused.upstream:
        return "upstream"
    if refused.because is not None:
        return refused.because.step
    if refused.error == "temporarily_unavailable":  # no database
        return "token" if refused.identity is None else "nonce"
    return CODES[refused.error].step


def _left_at(finished: Finished, asked: Asked | None) -> str:
    """The step under way when the client left: a body is waited for before there is a connection."""
    if finished.connected:
        return "upstream"
    if not finished.judged:
        return "token"
    return "upstream" if asked is not None and asked.length == 0 else "body"


def _outcome(finished: Finished, dispatcher: Dispatcher) -> str:
    if finished.status == 0:
        return "left"
    if _answered_itself(finished):
        return "passed"
    own = finished.route is not None and dispatcher.is_own(finished.route)
    refused = finished.refused
    if refused is not None and finished.complete:
        return "failed" if refused.status >= 500 else "refused"
    if not finished.complete or finished.status >= 500:
        return "failed"
    return "refused" if own and finished.status >= 400 else "passed"


def _answered_itself(finished: Finished) -> bool:
    """Whether the route gave its own answer."""
    return finished.route is not None and not finished.upstream and finished.refused is None and finished.complete


def _for_whom(mend: str | None, identity: Identity | None) -> str | None:
    """A mend with its commands as they can be pasted, where it is known whose the token is."""
    if mend is None or identity is None:
        return mend
    if identity.client_id:
        mend = mend.replace(" ID ", f" {identity.client_id} ").replace(" ID`", f" {identity.client_id}`")
    return mend.replace(" NAME`", f" {identity.username}`") if identity.username else mend


def _cause(finished: Finished, dispatcher: Dispatcher) -> tuple[str | None, str | None]:
    """Why a call did not pass, and what to do about it; nothing where it did."""
    refused = finished.refused
    if refused is not None:
        return scrub(refused.why), refused.mend or None
    if not finished.complete:
        return _LEFT
    if finished.status < 400 or _answered_itself(finished):
        return None, None
    if finished.route is not None and dispatcher.is_own(finished.route):
        return f"the authorization server answered {finished.status}", _REFUSED_BY_PAGES
    return f"the upstream answered {finished.status} by itself", _OWN_LOG


# -- what there is to say --------------------------------------------------------------------------------------------


def _stopped(name: str, case: Case, dispatcher: Dispatcher) -> Step:
    finished, refused = case.finished, case.refused
    if finished is not None:
        outcome: Outcome = "failed" if name == "answer" or finished.status >= 500 or not finished.status else "refused"
        cause = _cause(finished, dispatcher)[0] or ""
        if name == "answer":
            return Step(name, outcome, f"{finished.status}, cut off after {_bytes(finished.sent)}: {cause}")
        place = _place(finished) if name == "upstream" and not cause.startswith(finished.upstream or ":") else ""
        return Step(name, outcome, (f"{place}: {cause}" if place else cause) + _before(finished, name))
    if refused is None:
        return Step(name, "failed", "")
    return Step(name, "failed" if refused.status >= 500 else "refused", scrub(refused.why))


def _passed(name: str, case: Case, dispatcher: Dispatcher) -> Step:
    asked, route, allowed = case.asked, case.route, case.allowed
    if name in ("head", "route"):
        return Step(name, "passed", _head(asked, case.finished) if name == "head" else _route(route, asked))
    at_the_edge = None if route is None else _at_the_edge(name, route, case, dispatcher)
    if at_the_edge is not None:
        return at_the_edge
    public = route is not None and not route.schemes
    signed = asked is not None and not SIGNING.isdisjoint(asked.schemes)
    match name:
        case "credential" | "token" | "scope" if public:
            return Step(name, "not needed", "the route is public")
        case "signature" | "nonce" if public or not signed:
            return Step(name, "not needed", "")
        case "credential":
            return Step(name, "passed", "" if asked is None else ", ".join(asked.schemes))
        case "token":
            return Step(name, "passed", _token(allowed, case.refused, asked))
        case "signature":
            return Step(name, "passed", "it fits the request")
        case "scope":
            return Step(name, "passed", _scope(route, asked, allowed))
        case "body":
            return Step(name, "passed", _body(asked, route, dispatcher))
        case "nonce":
            return Step(name, "passed", "spent, for the first time" if case.finished else "not spent by this")
        case "upstream":
            return Step(name, "passed", _upstream(case, dispatcher))
        case _:
            return _answer(case.finished)


def _head(asked: Asked | None, finished: Finished | None) -> str:
    if asked is None:
        return ""
    host = _shown(asked.host) or "no host"
    fields = _count(asked.fields, "field")
    said = f"{_shown(asked.method)} for {host}, HTTP/1.{asked.minor_version}, {fields}, {_length(asked)}"
    if finished is None:
        return said
    through = "" if finished.client == finished.peer.address else f", through {finished.peer.address}"
    return f"{said}, from {finished.client}{through}"


def _route(route: Route | None, asked: Asked | None) -> str:
    if route is None or asked is None:
        return ""
    path = f"{scrub(_shown(asked.path))}{'…' if asked.cut else ''}{'?…' if asked.queried else ''}"
    return f"{path} belongs to {route.name}"


def _at_the_edge(name: str, route: Route, case: Case, dispatcher: Dispatcher) -> Step | None:
    """A step of which few routes have anything."""
    edge = dispatcher.terms_of(route).edge
    if name == "address":
        if edge is None or not edge.looks_at_addresses:
            return Step(name, "not needed", "")
        return Step(name, "passed", f"{case.client if case.finished is None else case.finished.client} may call")
    preflight = edge is not None and edge.crosses_origins and case.asked is not None and case.asked.preflight
    if name == "cors":
        return Step(name, "passed", "the preflight is answered") if preflight else Step(name, "not needed", "")
    if preflight and name != "answer":
        return Step(name, "not needed", "")
    if name == "limit":
        return _limits(route, case)
    if name == "upstream" and edge is not None and edge.answer is not None:
        asked = route.path if case.asked is None else case.asked.path
        return Step(name, "not needed", f"the route {edge.answer.description(case.target or route.forwarded(asked))}")
    return None


def _limits(route: Route, case: Case) -> Step:
    if route.limits is None:
        return Step("limit", "not needed", "")
    counted = limits_that_apply(route, case)
    if case.finished:
        return Step("limit", "passed", f"within {', '.join(one.limit for one in counted)}")
    listed = "; ".join(f"{one.limit}{one.more}" for one in counted)
    return Step("limit", "passed", f"{listed}; not counted by this")


def limits_that_apply(route: Route, case: Case) -> list[LimitThatApplies]:
    """The limits of a call's route, as they would count it."""
    limits = route.limits
    if limits is None:
        return []
    applying = [LimitThatApplies(str(limit), _whose(limit.by, route, case), limit.burst or None) for limit in limits]
    if limits.concurrency:
        applying.append(LimitThatApplies(f"{limits.concurrency} under way", _whose("route", route, case), None))
    return applying


def _whose(by: By, route: Route, case: Case) -> str | None:
    """Whose calls a call is counted with, as far as that is known (`guard.limiting.whose`)."""
    allowed = case.allowed
    identity = None if allowed is None else allowed.identity
    match by:
        case "client":
            return None if identity is None else f"client {identity.client_id}"
        case "user":
            return None if identity is None else f"user {identity.username or identity.subject}"
        case "token":
            return None if allowed is None or not allowed.digest else f"token sha256 {allowed.digest.hex()[:12]}…"
        case "address":
            return neighbourhood(case.client) if case.client else None
        case "route":
            return f"all calls of {route.name}"
        case _:
            assert_never(by)


def _token(allowed: Allowed | None, refused: Refused | None, asked: Asked | None) -> str:
    identity = (None if allowed is None else allowed.identity) or (None if refused is None else refused.identity)
    digest = (b"" if allowed is None else allowed.digest) or (b"" if asked is None else asked.token)
    parts = [f"sha256 {digest.hex()[:12]}…"] if digest else []
    if identity is not None:
        parts += [f"client {identity.client_id}"] if identity.client_id else []
        parts += [] if identity.subject == identity.client_id else [f"user {identity.username or identity.subject}"]
    if allowed is not None and allowed.expires_at is not None:
        parts.append(f"until {allowed.expires_at:%Y-%m-%dT%H:%M:%SZ}")
    return ", ".join(parts)


def _scope(route: Route | None, asked: Asked | None, allowed: Allowed | None) -> str:
    if route is None or asked is None:
        return ""
    needed = format_scope(route.scopes_for(asked.method.decode("latin-1")))
    bound = route.groups_for(asked.method.decode("latin-1"))
    groups = f"; for people in {' or '.join(sorted(bound))}" if bound else ""
    groups += "" if route.sign_in is None else _sign_in(route.sign_in)
    if allowed is None:
        return f"needed: {needed or 'none'}{groups}"
    theirs = f", who is in {', '.join(allowed.groups) or 'no group'}" if bound else ""
    kind = "session" if allowed.scheme in IN_BROWSERS else "token"
    has = f"the {kind} has {format_scope(allowed.scopes) or 'none'}"
    return f"needed: {needed or 'none'}{groups}; {has}{theirs}"


def _sign_in(demanded: SignIn) -> str:
    how = f" by {demanded.acr}" if demanded.acr else ""
    return f"; signed in{how}{f' at most {demanded.max_age:g} s ago' if demanded.max_age else ''}"


def _body(asked: Asked | None, route: Route | None, dispatcher: Dispatcher) -> str:
    if asked is None or route is None:
        return ""
    return f"{_length(asked)}; the route takes {_bytes(dispatcher.terms_of(route).max_body)}"


def _upstream(case: Case, dispatcher: Dispatcher) -> str:
    finished, route = case.finished, case.route
    if finished is not None:
        return f"{_place(finished)} answered {finished.status}{_before(finished, 'upstream')}"
    if route is None or case.asked is None:
        return ""
    return f"{_choice(route, dispatcher)} would get {_shown(case.asked.method)} {_shown(case.target)}"


def _choice(route: Route, dispatcher: Dispatcher) -> str:
    """Whom a call goes to; of several, to which of them hangs on how busy and how well they are."""
    if len(route.upstreams) == 1:
        return place_of(route.upstreams[0])
    weighed = zip(route.upstreams, dispatcher.terms_of(route).weights, strict=True)
    return f"one of {', '.join(f'{place_of(origin)} (weight {weight})' for origin, weight in weighed)}"


def _in_vain(finished: Finished) -> tuple[str, ...]:
    """What became of a call at upstreams that were asked before the last one."""
    failed = finished.refused is not None and bool(finished.refused.upstream)
    return finished.failures[:-1] if failed else finished.failures


def _before(finished: Finished, step: str) -> str:
    tried = "; ".join(map(scrub, _in_vain(finished))) if step == "upstream" else ""
    return f" (before that, {tried})" if tried else ""


def _place(finished: Finished) -> str:
    after = f" (connected after {_ms(finished.connected)})" if finished.connected else ""
    return f"{place_of(finished.upstream)}{after}" if finished.upstream else ""


def _answer(finished: Finished | None) -> Step:
    if finished is None:
        return Step("answer", "not reached", "")
    return Step("answer", "passed", f"{finished.status}, {_bytes(finished.sent)}, after {_ms(finished.seconds)}")


def _times(finished: Finished) -> dict[str, float]:
    """When each phase ended that the call came through, in seconds since it began."""
    phases = {"judged": finished.judged, "connected": finished.connected, "answered": finished.answered}
    return {name: taken for name, taken in phases.items() if taken} | {"all": finished.seconds}


def _looks(asked: Asked | None, dispatcher: Dispatcher) -> Iterable[Look]:
    if asked is None or asked.cut or asked.preflight:  # which belongs to the route of another method
        return ()
    return dispatcher.looked_at(asked.method, asked.host, asked.path)


def _length(asked: Asked) -> str:
    if asked.length is None:
        return "a body in chunks"
    return f"a body of {_bytes(asked.length)}" if asked.length else "no body"


def _bytes(count: int) -> str:
    return _count(count, "byte")


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def _shown(raw: bytes) -> str:
    """Bytes of a stranger's, in ASCII."""
    return raw.decode("ascii", "backslashreplace")
