"""Contradictions between what a route does besides passing calls on, and its other keys."""

from collections.abc import Callable, Iterator
from typing import Final

from gateway.config.addresses import within
from gateway.config.faults import Draft, Fault, Readable, shown
from gateway.config.tables import Config, url_of
from gateway.config.toml import dotted
from gateway.config.values import split_limit, split_redirect
from gateway.routing import cors
from gateway.routing.limits import CALLERS
from gateway.routing.shaping import OF_CALLER, barred_from_answers, barred_from_requests, names_in
from gateway.schemes import CREDENTIAL_FIELDS
from gateway.underway import COLUMNS

_BODILESS: Final = (204, 205, 304)  # RFC 9110, sections 6.4.1 and 15.3.6


def conflicts(index: int, route: Readable, draft: Draft) -> Iterator[Fault]:
    """Every such fault of one route, as far as it can be read."""
    yield from _leads(index, route)
    yield from _upstreams(index, route)
    yield from _redirect(index, route, draft)
    yield from _respond(index, route)
    yield from _identity_jwt(index, route)
    yield from _cors(index, route)
    yield from _websocket(index, route)
    yield from _tls(index, route)
    yield from _headers(index, route, "request_headers", _barred_from_requests)
    yield from _headers(index, route, "response_headers", barred_from_answers)
    yield from _limits(index, route)


def overflow(draft: Draft) -> Iterator[Fault]:
    """Calls under way are counted in memory that has room for so many routes."""
    bounded = [index for index, route in enumerate(draft.routes) if route.get("concurrency")]
    if len(bounded) > COLUMNS:
        yield Fault(f"routes[{bounded[COLUMNS]}].concurrency", f"may be set on {COLUMNS} routes; leave it out here")


def warnings(config: Config) -> Iterator[str]:
    """A line for each key that works as it stands and that an operator should still know of, by its path."""
    for index, route in enumerate(config.routes):
        if route.upstream_tls is not None and not route.upstream_tls.verify:
            yield (
                f"routes[{index}].upstream_tls.verify: is false, so anybody between the gateway and the upstream can "
                "read calls with what they carry, and answer them; name the upstream's authority in ca instead"
            )


def _leads(index: int, route: Readable) -> Iterator[Fault]:
    """A route leads to upstreams, or answers by itself in one way."""
    if not {"upstreams", "redirect", "respond"} <= route.keys():
        return
    own = [key for key in ("redirect", "respond") if route[key]]
    if not route["upstreams"] and not own:
        yield Fault(f"routes[{index}].upstreams", 'must be set, such as ["http://127.0.0.1:9000"]')
    elif len(own) > 1:
        yield Fault(f"routes[{index}].redirect", "excludes respond; leave out one of them")
    elif own and route["upstreams"]:
        yield Fault(f"routes[{index}].{own[0]}", "excludes upstreams, which would get no call; leave out one of them")


def _upstreams(index: int, route: Readable) -> Iterator[Fault]:
    """Each upstream stands once, and what is said of them has some that it counts for."""
    urls = [url_of(one).removesuffix("/") for one in route.get("upstreams", ())]
    for number, url in enumerate(urls):
        if url in urls[:number]:
            yield Fault(
                f"routes[{index}].upstreams[{number}]",
                f"{shown(url)} stands there already; give it a weight, {{ url = {shown(url)}, weight = 2 }}",
            )
    if route.get("health") is not None and "upstreams" in route and not urls:
        yield Fault(f"routes[{index}].health", "has nobody to ask, as the route has no upstreams; leave it out")


def _redirect(index: int, route: Readable, draft: Draft) -> Iterator[Fault]:
    """A redirect must lead away, and nowhere that the caller chooses."""
    redirect, path = route.get("redirect"), route.get("path")
    if not redirect or path is None:
        return
    at = f"routes[{index}].redirect"
    for key in ("strip_prefix", "rewrite_prefix"):
        if route.get(key) is not None:
            yield Fault(f"routes[{index}].{key}", "has no use beside redirect, which replaces the route's path")
    origin, target = split_redirect(redirect if isinstance(redirect, str) else redirect.to)
    if origin:
        return
    if not target and route.get("encoded_slashes") == "keep":  # "//evil.example" would be another host
        yield Fault(at, 'name the whole URL, for with encoded_slashes = "keep" what follows may begin with two slashes')
    paths = {other["path"] for other in draft.routes if "path" in other}
    if max((one for one in paths if within(target or "/", one)), key=len, default=None) == path:
        yield Fault(at, f"{shown(target or '/')} belongs to this route too, so calls would go round in circles")


def _respond(index: int, route: Readable) -> Iterator[Fault]:
    respond, at = route.get("respond"), f"routes[{index}].respond"
    if respond is None:
        return
    if respond.body and respond.status in _BODILESS:
        yield Fault(f"{at}.body", f"an answer {respond.status} has none; leave it out, or choose another status")
    for name, value in respond.headers.items():
        why = barred_from_answers(name, value)
        if route.get("cors") is not None and name.lower().encode() in cors.NAMES:
            why = "is said by cors"
        if why:
            yield Fault(dotted(("routes", index, "respond", "headers", name)), f"{why}; leave it out")


def _identity_jwt(index: int, route: Readable) -> Iterator[Fault]:
    if route.get("identity_jwt") and route.get("auth") == "none":
        yield Fault(f"routes[{index}].identity_jwt", 'says who calls, and auth = "none" asks nobody; leave it out')
    elif route.get("identity_jwt") and (route.get("redirect") or route.get("respond")):
        yield Fault(f"routes[{index}].identity_jwt", "is for upstreams, and this route has none; leave it out")


def _cors(index: int, route: Readable) -> Iterator[Fault]:
    """Nothing may let in pages that nobody named, or be what no browser would take."""
    rules, at = route.get("cors"), f"routes[{index}].cors"
    if rules is None:
        return
    anybody = cors.ANY in rules.origins
    if anybody and len(rules.origins) > 1:
        yield Fault(f"{at}.origins", '"*" is all origins; name it alone, or leave it out')
    if anybody and rules.credentials:
        yield Fault(
            f"{at}.credentials", 'with origins = ["*"] any page could act with people\'s cookies; name the origins'
        )
    elif rules.credentials and cors.ANY in rules.expose:
        yield Fault(f"{at}.expose", 'with credentials, browsers take "*" for a field\'s name; name the fields')
    methods = route.get("methods")
    for method in rules.methods:
        if method == cors.ANY:
            yield Fault(f"{at}.methods", "leave it empty for all methods of the route")
        elif methods and method not in methods:
            yield Fault(
                f"{at}.methods", f"{method} is not among the route's methods; add it there, or leave it out here"
            )


def _websocket(index: int, route: Readable) -> Iterator[Fault]:
    rules = route.get("websocket")
    if rules is not None and cors.ANY in rules.origins:
        yield Fault(
            f"routes[{index}].websocket.origins",
            '"*" is all origins; leave origins out for that, or name those that may open one',
        )


def _headers(index: int, route: Readable, key: str, barred: Callable[[str, str], str]) -> Iterator[Fault]:
    """No field may frame a message, or say something of a caller that is not true."""
    headers = route.get(key)
    if headers is None:
        return
    seen: dict[str, str] = {}
    for verb in ("set", "add", "remove"):
        given = getattr(headers, verb)
        for name in given:
            value = given[name] if verb != "remove" else ""
            at = dotted(("routes", index, key, verb, name))
            first = seen.setdefault(name.lower(), verb)
            unknown = [one for one in names_in(value) if one in OF_CALLER]
            if why := _why_not(key, verb, name, value, barred):
                yield Fault(at, f"{why}; leave it out")
            elif key == "response_headers" and route.get("cors") is not None and name.lower().encode() in cors.NAMES:
                yield Fault(at, "is said by cors; leave it out")
            elif first != verb or sum(name.lower() == other.lower() for other in given) > 1:
                yield Fault(at, f"stands in {first} too; name it once")
            elif unknown and route.get("auth") == "none":
                yield Fault(at, f'with auth = "none", nobody knows {{{unknown[0]}}}; leave it out')


def _why_not(key: str, verb: str, name: str, value: str, barred: Callable[[str, str], str]) -> str:
    if verb == "remove" and key == "request_headers":
        return _barred_from_requests(name, None)
    return barred(name, value)


def _barred_from_requests(name: str, value: str | None) -> str:
    return barred_from_requests(name, value, CREDENTIAL_FIELDS)


def _limits(index: int, route: Readable) -> Iterator[Fault]:
    """A limit counts by what is known of a call, and the same calls for the same time once."""
    seen: dict[tuple[str, str], str] = {}
    places = [(key, number, limit) for key in ("rate", "quota") for number, limit in enumerate(route.get(key) or ())]
    for key, number, limit in places:
        at, per = f"routes[{index}].{key}[{number}]", split_limit(limit.limit)[1]
        if route.get("auth") == "none" and limit.by in CALLERS:
            yield Fault(
                f"{at}.by", f'with auth = "none", nobody knows which {limit.by} calls; count by "address" or "route"'
            )
        first = seen.setdefault((limit.by, per), at)
        if first != at:
            yield Fault(at, f"counts by {limit.by} for a {per}, as {first} does; leave out one of them")


def _tls(index: int, route: Readable) -> Iterator[Fault]:
    """Nothing may be said of TLS that does not count."""
    tls, at = route.get("upstream_tls"), f"routes[{index}].upstream_tls"
    if tls is None:
        return
    upstreams = route.get("upstreams")
    if upstreams is not None and not any(url_of(one).startswith("https:") for one in upstreams):
        yield Fault(at, "has no effect, as no upstream is https; write https:// there, or leave this out")
    if bool(tls.certificate) != bool(tls.key):
        missing, other = ("key", "certificate") if tls.certificate else ("certificate", "key")
        yield Fault(f"{at}.{missing}", f"must be set where {other} is")
    if not tls.verify and (tls.ca or tls.server_name):
        yield Fault(f"{at}.verify", "with false, nobody looks at ca and server_name; leave out either")
