"""Contradictions between what a route does besides passing calls on, and its other keys."""

from collections.abc import Iterator
from typing import Final

from gateway.config.addresses import within
from gateway.config.faults import Draft, Fault, Readable, shown
from gateway.config.toml import dotted
from gateway.config.values import split_redirect
from gateway.routing.shaping import barred_from_answers

_BODILESS: Final = (204, 205, 304)  # RFC 9110, sections 6.4.1 and 15.3.6


def conflicts(index: int, route: Readable, draft: Draft) -> Iterator[Fault]:
    """Every such fault of one route, as far as it can be read."""
    yield from _leads(index, route)
    yield from _redirect(index, route, draft)
    yield from _respond(index, route)


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
        if why:
            yield Fault(dotted(("routes", index, "respond", "headers", name)), f"{why}; leave it out")
