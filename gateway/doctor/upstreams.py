"""The upstreams: whether each resolves, takes a connection, proves who it is, and what it answers; and whether those of
one route can stand in for each other."""

import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from msgspec import Struct

from gateway.config import Settings, compile_routes
from gateway.config.tls import upstream_context
from gateway.doctor.asking import Answer, NoAnswer, Obstacle, ask, days_left
from gateway.doctor.finding import FAULT, WARNING, Finding
from gateway.routing import HealthCheck, Origin, Route
from gateway.routing.health import WELL

_AT_ONCE: Final = 16
_REFUSED_WHY: Final = "calls to its routes are answered 502, or 504 where nothing comes back"
_MENDS: Final = {
    Obstacle.NAME: "correct the name, or make sure that this machine can resolve it",
    Obstacle.REFUSED: "start it, or correct host and port",
    Obstacle.UNREACHABLE: "correct the address, or see whether a firewall or a route on the way stops it",
    Obstacle.SLOW: "see whether it hangs, or a firewall on the way drops packets to it",
    Obstacle.EXPIRED: "renew the certificate, and have that done by itself",
    Obstacle.WRONG_NAME: "name it as its certificate does, or have one made for this name",
    Obstacle.UNTRUSTED: "have it send the whole chain, or add its authority to this machine's (update-ca-certificates)",
    Obstacle.PLAIN: "write http://, or turn TLS on there",
    Obstacle.TLS: "write https://, or name its plain port",
    Obstacle.HANDSHAKE: "see which TLS versions it takes; 1.2 is the least here",
    Obstacle.CLOSED: "see its log; it may speak another protocol, or let in other addresses only",
    Obstacle.NOT_HTTP: "name the port where it speaks HTTP/1.1",
}
_MENDS_AT_PATH: Final = {
    Obstacle.REFUSED: "start it, or correct the path",
    Obstacle.UNREACHABLE: "let the user that the workers run as open the socket and pass through its folders",
}


class _Upstream(Struct, frozen=True):
    """An upstream, and the first route that leads there."""

    origin: Origin
    route: Route
    health: HealthCheck | None
    about: str
    host: str

    @property
    def path(self) -> str:
        """The path that it receives for the route's own."""
        return self.route.forwarded(self.route.path).decode()

    @property
    def checked_host(self) -> bytes:
        """The Host that a health check has."""
        return self.route.upstream_host or self.origin.authority


def findings(settings: Settings, apart: dict[str, float]) -> Iterator[Finding]:
    """What is wrong with the upstreams; what their clocks say goes into `apart`."""
    routes = compile_routes(settings.config)
    found = list(_upstreams(settings, routes))
    down: dict[Origin, str] = {}
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        answers = list(zip(found, threads.map(_asked, found), strict=True))
        down |= {upstream.origin: str(answer) for upstream, answer in answers if isinstance(answer, NoAnswer)}
        for upstream, answer in answers:
            if isinstance(answer, NoAnswer):
                yield _of_silence(upstream, answer, routes, down)
                continue
            if answer.apart is not None:
                apart[str(upstream.origin)] = answer.apart
            yield from _of_answer(upstream, answer)
        checks = [check for check in _checks(settings, routes) if check.origin not in down]
        for check, (said, taken) in zip(checks, threads.map(_checked, checks), strict=True):
            yield from _of_check(check, said, taken)
    yield from _groups(settings, down)


def _upstreams(settings: Settings, routes: tuple[Route, ...]) -> Iterator[_Upstream]:
    """Each upstream once, by the first route that leads there."""
    seen = set[Origin]()
    for upstream in _ways(settings, routes):
        if upstream.origin not in seen:
            seen.add(upstream.origin)
            yield upstream


def _checks(settings: Settings, routes: tuple[Route, ...]) -> Iterator[_Upstream]:
    """Each health check of an upstream once, by the first route that has it checked so."""
    seen = set[tuple[Origin, object, bytes]]()
    for upstream in _ways(settings, routes):
        key = (upstream.origin, upstream.health, upstream.checked_host)
        if upstream.health is not None and key not in seen:
            seen.add(key)
            yield upstream


def _ways(settings: Settings, routes: tuple[Route, ...]) -> Iterator[_Upstream]:
    configured = {route.name: (index, route.health) for index, route in enumerate(settings.config.routes)}
    for route in routes:
        index, health = configured[route.name]
        for number, origin in enumerate(route.upstreams):
            host = route.upstream_host or route.host or settings.config.server.host.encode()
            about = f"routes[{index}].upstreams[{number}] (route {route.name})"
            yield _Upstream(origin, route, None if health is None else health.terms, about, host.decode())


def _asked(upstream: _Upstream) -> Answer | NoAnswer:
    """The answer to HEAD, which changes nothing, at the route's own path."""
    return _answer(upstream.origin, "HEAD", upstream.path, upstream.host)


def _answer(origin: Origin, method: str, target: str, host: str) -> Answer | NoAnswer:
    name = origin.host if origin.secured is None else origin.secured.server_name or origin.host
    try:
        return ask(
            (origin.host, origin.port) if origin.path is None else origin.path,
            target,
            {"Host": host, "User-Agent": "gateway-doctor", "Accept": "*/*"},
            tls=name if origin.tls else "",
            method=method,
            context=None if origin.secured is None else upstream_context(origin.secured),
        )
    except NoAnswer as exc:
        return exc


def _of_answer(upstream: _Upstream, answer: Answer) -> Iterator[Finding]:
    if answer.status >= 500 and answer.status != 501:
        yield Finding(
            upstream.about,
            f"{upstream.origin} answers {answer.status} to HEAD {upstream.path}",
            "clients get that answer as it is",
            "see its own log; the gateway passes on what it says",
            WARNING,
        )
    if answer.status == 421:
        yield Finding(
            upstream.about,
            f"{upstream.origin} serves no host {upstream.host} (421)",
            "clients get that answer as it is",
            "name the host that it serves in the route's upstream_host",
            WARNING,
        )
    if answer.certificate is not None:
        yield from aging(upstream.about, str(upstream.origin), answer)


def _of_silence(
    upstream: _Upstream, answer: NoAnswer, routes: tuple[Route, ...], down: Mapping[Origin, str]
) -> Finding:
    """An upstream that gives no answer. Where others take its calls everywhere, nobody notices yet."""
    mends = _MENDS if upstream.origin.path is None else _MENDS | _MENDS_AT_PATH
    leading = [route for route in routes if upstream.origin in route.upstreams]
    spared = all(any(origin not in down for origin in route.upstreams) for route in leading)
    why = "the others of its routes get its calls, and have less to spare" if spared else _REFUSED_WHY
    level = WARNING if spared else FAULT
    return Finding(upstream.about, f"{upstream.origin}: {answer}", why, mends[answer.obstacle], level)


def _groups(settings: Settings, down: Mapping[Origin, str]) -> Iterator[Finding]:
    """Routes with several upstreams of which none answers, or which are one and the same."""
    numbers = {route.name: index for index, route in enumerate(settings.config.routes)}
    for route in compile_routes(settings.config):
        if len(route.upstreams) < 2 or route.name not in numbers:
            continue
        about = f"routes[{numbers.pop(route.name)}].upstreams (route {route.name})"
        if all(origin in down for origin in route.upstreams):
            yield Finding(
                about,
                f"none of the {len(route.upstreams)} answers",
                "every call is answered 502 or 504: all are tried all the same, in turn",
                "see what they have in common: the network, a name, a deployment that is under way",
            )
        same = _same(route)
        if same is not None:
            yield Finding(
                about,
                f"{same[0]} and {same[1]} are one and the same",
                "when it fails, so do both; calls are sent again to who has just failed them",
                "take one out, and give the other its weight as well",
                WARNING,
            )


def _same(route: Route) -> tuple[Origin, Origin] | None:
    """Two upstreams by one address and port, where no name tells them apart as with TLS."""
    seen: dict[tuple[str, int], Origin] = {}
    for origin in route.upstreams:
        if origin.path is not None or origin.tls:
            continue
        with suppress(OSError):
            found = {entry[4][0] for entry in socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)}
            for place in sorted((str(ip), origin.port) for ip in found):
                if seen.setdefault(place, origin) is not origin:
                    return seen[place], origin
    return None


def _checked(upstream: _Upstream) -> tuple[Answer | NoAnswer, float]:
    """The answer to the route's health check, and the seconds that it took."""
    path = "/" if upstream.health is None else upstream.health.path.decode()
    begun = time.monotonic()
    answer = _answer(upstream.origin, "GET", path, upstream.checked_host.decode())
    return answer, time.monotonic() - begun


def _of_check(upstream: _Upstream, answer: Answer | NoAnswer, taken: float) -> Iterator[Finding]:
    """What the upstream answers to the route's health check."""
    origin, health = upstream.origin, upstream.health
    if health is None:
        return
    path = health.path.decode()
    well = not isinstance(answer, NoAnswer) and answer.status in WELL
    if not well:
        said = f"gives no answer ({answer})" if isinstance(answer, NoAnswer) else f"answers {answer.status}"
        yield Finding(
            upstream.about,
            f"{origin} {said} to the health check GET {path}",
            "while that is so, it gets no calls unless the others are as ill",
            "correct the route's health.path, or see the upstream's own log",
        )
    elif taken > health.timeout:
        yield Finding(
            upstream.about,
            f"{origin} takes {taken:.1f} s for the health check GET {path}, which waits {health.timeout:g}",
            "while that is so, it gets no calls unless the others are as slow",
            "have it answer that at once, or write a longer health.timeout",
        )


def aging(about: str, whose: str, answer: Answer) -> Iterator[Finding]:
    """A certificate near its end: what renews it does so earlier, and so seems not to."""
    left, whole = days_left(answer.certificate or {}, time.time())
    if left < whole / 6:
        yield Finding(
            about,
            f"the certificate of {whose} expires in {left:.1f} days",
            "from then on nobody trusts it; what renews one does so earlier, so something keeps it from that",
            "renew it, see why that did not happen by itself, and have what serves it read it again",
            WARNING if left > whole / 20 else FAULT,
        )
