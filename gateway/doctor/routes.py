"""What routes say of limits, slow clients and streams that cannot come out as it is meant: each key is valid, and works
otherwise than it reads, beside the others or on this machine."""

import os
from collections.abc import Iterator
from math import ceil
from typing import Final

from gateway.config import Settings
from gateway.config.tables import Route
from gateway.doctor.finding import FAULT, WARNING, Finding, Level
from gateway.proxy.limits import DEFAULT
from gateway.routing.limits import SECONDS

_STEP: Final = 0.1  # seconds, within which clients send calls together
_SLOW: Final = 1000  # slow clients that a machine should bear
_LONG: Final = 86400.0  # seconds that streams hold up a further reload
_GIB: Final = 1024**3


def findings(settings: Settings) -> Iterator[Finding]:
    """What is wrong with routes, as far as the file and this machine say it."""
    for number, route in enumerate(settings.config.routes):
        for look in (_by_address, _bursts, _against_each_other, _concurrency, _without_upstreams, _drain):
            yield from look(settings, route, number)
    yield from _held(settings)


def _found(number: int, route: Route, key: str, what: str, why: str, mend: str, level: Level = WARNING) -> Finding:
    return Finding(f"routes[{number}].{key} (route {route.name})", what, why, mend, level)


def _by_address(settings: Settings, route: Route, number: int) -> Iterator[Finding]:
    """Clients are told apart by their addresses where all of them seem to come from one."""
    server = settings.config.server
    if not server.secure or server.tls or server.trusted_proxies:
        return  # no proxy is in front, as far as can be told, or one that is believed
    limited = [key for key in ("rate", "quota") if any(limit.by == "address" for limit in getattr(route, key))]
    listed = [key for key in ("allow", "deny") if getattr(route, key)]
    for key in (*limited, *listed):
        yield _found(
            number,
            route,
            key,
            f"goes by addresses, and what ends TLS in front of {server.listen} is not among server.trusted_proxies",
            "every client seems to come from there: "
            + ("all of them share one limit" if key in limited else "all of them may call, or none"),
            'write where that comes from, such as trusted_proxies = ["127.0.0.1"], and have it set X-Forwarded-For',
            FAULT,
        )


def _bursts(_settings: Settings, route: Route, number: int) -> Iterator[Finding]:
    for rate in (one.terms for one in route.rate):
        least = ceil(rate.pace * _STEP)
        if rate.burst < least:
            yield _found(
                number,
                route,
                "rate",
                f"of {rate}, {rate.burst} may come at once",
                f"that is less than {_STEP:g} s of it: clients that send a few together are refused below the limit",
                f"write burst = {least} or more, or leave it out for as many as the limit",
            )


def _against_each_other(_settings: Settings, route: Route, number: int) -> Iterator[Finding]:
    """A quota and a rate of the same callers, of which one makes the other mean nothing."""
    for quota in (one.terms for one in route.quota):
        for rate in (one.terms for one in route.rate if one.by == quota.by):
            if rate.burst >= quota.count:
                yield _found(
                    number,
                    route,
                    "quota",
                    f"there are {quota.count} calls a day by {quota.by}, and {rate.burst} may come at once",
                    "one burst uses up the day",
                    "write a smaller burst beside rate, or a larger quota",
                )
            elif rate.burst + rate.pace * SECONDS["day"] <= quota.count:
                yield _found(
                    number,
                    route,
                    "quota",
                    f"{quota} is more than the rate {rate} lets pass",
                    "it is never reached, and costs the database something all the same",
                    "leave it out, or write a smaller one",
                )


def _concurrency(settings: Settings, route: Route, number: int) -> Iterator[Finding]:
    """More calls may be under way than have a connection: the others wait, which the bound is to spare them."""
    each = route.connections or DEFAULT.upstream_connections
    most = settings.config.server.workers * each * len(route.targets)
    if route.targets and route.concurrency > most:
        yield _found(
            number,
            route,
            "concurrency",
            f"{route.concurrency} calls may be under way, and its upstreams have {most} connections",
            "those beyond wait up to ten seconds and get 504 then, instead of 503 at once",
            f"write concurrency = {most} or less, or connections = "
            f"{ceil(route.concurrency / settings.config.server.workers / len(route.targets))}",
        )


def _without_upstreams(_settings: Settings, route: Route, number: int) -> Iterator[Finding]:
    for key in ("hold", "drain", "connections"):
        if not route.targets and key in route.model_fields_set:
            yield _found(
                number,
                route,
                key,
                "has no effect, as the route answers by itself",
                "whoever reads it takes it for what counts",
                "leave it out",
            )


def _drain(_settings: Settings, route: Route, number: int) -> Iterator[Finding]:
    if route.drain > _LONG:
        yield _found(
            number,
            route,
            "drain",
            f"streams may go on for {route.drain / _LONG:.0f} days when their worker is replaced",
            "the next reload waits for the oldest of them, and old workers keep their memory as long",
            'write what its clients need to come again, such as "10m"',
        )


def _held(settings: Settings) -> Iterator[Finding]:
    """What slow clients may have held, either way, on a machine that has less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    number, route = max(enumerate(settings.config.routes), key=lambda one: one[1].hold, default=(0, None))
    if route is not None and 2 * route.hold * _SLOW > memory // 2:
        yield _found(
            number,
            route,
            "hold",
            f"for a thousand slow clients {2 * route.hold * _SLOW / _GIB:.1f} GiB may be held, and this machine has "
            f"{memory / _GIB:.1f}",
            "when memory runs out the kernel ends processes, the database's first",
            "hold less, bound the route's concurrency, or use a larger machine",
        )
