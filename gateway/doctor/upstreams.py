"""The upstreams: whether each resolves, takes a connection, proves who it is, and what it answers."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from gateway.config import Settings, compile_routes
from gateway.config.tls import upstream_context
from gateway.doctor.asking import Answer, NoAnswer, Obstacle, ask, days_left
from gateway.doctor.finding import FAULT, WARNING, Finding
from gateway.routing import Origin, Route
from gateway.routing.standing import WELL

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


@dataclass(frozen=True, slots=True)
class _Upstream:
    """An upstream, and the first route that leads there."""

    origin: Origin
    route: Route
    about: str
    host: str

    @property
    def path(self) -> str:
        """The path that it receives for the route's own."""
        return self.route.forwarded(self.route.path).decode()


def findings(settings: Settings, apart: dict[str, float]) -> Iterator[Finding]:
    """What is wrong with the upstreams; what their clocks say goes into `apart`."""
    found = list(_upstreams(settings))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for upstream, answer in zip(found, threads.map(_asked, found), strict=True):
            if isinstance(answer, NoAnswer):
                mends = _MENDS if upstream.origin.path is None else _MENDS | _MENDS_AT_PATH
                yield Finding(upstream.about, f"{upstream.origin}: {answer}", _REFUSED_WHY, mends[answer.obstacle])
                continue
            if answer.apart is not None:
                apart[str(upstream.origin)] = answer.apart
            yield from _of_answer(upstream, answer)
            yield from _of_check(upstream)


def _upstreams(settings: Settings) -> Iterator[_Upstream]:
    seen = set[Origin]()
    numbers = {route.name: index for index, route in enumerate(settings.config.routes)}
    for route in compile_routes(settings.config):
        for number, origin in enumerate(route.upstreams):
            if origin not in seen:
                seen.add(origin)
                host = route.upstream_host or route.host or settings.config.server.host.encode()
                about = f"routes[{numbers[route.name]}].upstreams[{number}] (route {route.name})"
                yield _Upstream(origin, route, about, host.decode())


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


def _of_check(upstream: _Upstream) -> Iterator[Finding]:
    """What the upstream answers to the route's health check."""
    origin, route = upstream.origin, upstream.route
    if route.health is None:
        return
    path, host = route.health.path.decode(), (route.upstream_host or origin.authority).decode()
    answer = _answer(origin, "GET", path, host)
    if isinstance(answer, NoAnswer) or answer.status not in WELL:
        said = f"gives no answer ({answer})" if isinstance(answer, NoAnswer) else f"answers {answer.status}"
        yield Finding(
            upstream.about,
            f"{origin} {said} to the health check GET {path}",
            "while that is so, it gets no calls unless the others are as ill",
            "correct the route's health.path, or see the upstream's own log",
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
