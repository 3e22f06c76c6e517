"""public_url as a client sees it: the gateway asks itself, through whatever stands in front, and looks at how that
arrived.

The request claims things that only a proxy may say (X-Forwarded-For, X-Forwarded-Proto). What of that arrives shows
whether the proxy says the truth instead, says nothing, or passes on what any client claims.
"""

import json
import time
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final

from msgspec import Struct

from gateway.config import Settings
from gateway.doctor.asking import Answer, NoAnswer, Obstacle, ask
from gateway.doctor.finding import FAULT, WARNING, Finding
from gateway.doctor.upstreams import aging
from gateway.routing.forwarded import is_trusted, parse_address
from gateway.web import arrival

_KEY: Final = "server.public_url"
_FORGED: Final = "192.0.2.1"  # RFC 5737: nobody has this address
_WHY: Final = "clients and browsers come by it: none of them reaches the gateway"
_RATHER: Final = "; where only this machine cannot reach it, name the proxy itself: --through HOST:PORT"
_MENDS: Final = {
    Obstacle.NAME: "have the name published, or correct it",
    Obstacle.REFUSED: "start the proxy in front, or correct the address",
    Obstacle.UNREACHABLE: "see whether a firewall or a route stops it",
    Obstacle.SLOW: "see whether a firewall drops packets, or the proxy in front hangs",
    Obstacle.EXPIRED: "renew the certificate, and have that done by itself",
    Obstacle.WRONG_NAME: "have a certificate made for this name, or correct the name",
    Obstacle.UNTRUSTED: "have the proxy send the whole chain (fullchain.pem), or name an authority of your own to this "
    "command: SSL_CERT_FILE=ca.pem gateway doctor",
    Obstacle.PLAIN: "turn TLS on there, or write http://",
    Obstacle.TLS: "write https://",
    Obstacle.HANDSHAKE: "see which TLS versions the proxy in front takes",
    Obstacle.CLOSED: "see the log of the proxy in front",
    Obstacle.NOT_HTTP: "see what listens there",
}


class _Front(Struct, frozen=True):
    """How the gateway was asked, and what it is."""

    settings: Settings
    origin: str
    place: tuple[str, int]


def findings(settings: Settings, through: tuple[str, int] | None, apart: dict[str, float]) -> Iterator[Finding]:
    """What is wrong on the way from public_url to the gateway; what the proxy's clock says goes into `apart`."""
    server = settings.config.server
    front = _Front(settings, server.origin, through or (server.host.strip("[]"), server.port))
    try:
        answer = _asked(front)
    except NoAnswer as exc:
        step = exc.obstacle in (Obstacle.NAME, Obstacle.REFUSED, Obstacle.UNREACHABLE, Obstacle.SLOW)
        mend = _MENDS[exc.obstacle] + (_RATHER if step and through is None else "")
        asked = "" if through is None else f" at {through[0]}:{through[1]} (--through)"
        yield Finding(_KEY, f"{server.origin}{asked}: {exc}", _WHY, mend)
        return
    if answer.apart is not None:
        apart[f"what answers at {server.origin}"] = answer.apart
    if answer.certificate is not None:
        yield from aging(_KEY, server.origin, answer)
        if "Strict-Transport-Security" not in answer.fields:
            yield Finding(
                _KEY,
                "no Strict-Transport-Security comes with its answers",
                "a browser that is sent to http:// first gives its cookies and passwords to whoever is on the way",
                'have the proxy in front add: Strict-Transport-Security: "max-age=31536000"',
                WARNING,
            )
    yield from _of_answer(front, answer)


def _asked(front: _Front) -> Answer:
    server = front.settings.config.server
    assert front.settings.keyring is not None  # noqa: S101  # a gateway that serves has one
    host = server.origin.partition("://")[2]
    claimed = "http" if server.secure else "https"
    return ask(
        front.place,
        f"{server.oauth_prefix}/{arrival.PATH}",
        {
            "Host": host,
            "User-Agent": "gateway-doctor",
            "Accept": "application/json",
            "Authorization": "Probe 0",
            "X-Forwarded-For": _FORGED,
            "X-Forwarded-Proto": claimed,
            arrival.FIELD: arrival.proof(front.settings.keyring, time.time()),
        },
        tls=server.host.strip("[]") if server.secure else "",
    )


def _of_answer(front: _Front, answer: Answer) -> Iterator[Finding]:
    server = front.settings.config.server
    if answer.status == 421:
        yield Finding(
            _KEY,
            f"the gateway gets another Host than {server.host} (421)",
            "sign-in and tokens are refused, and routes with hosts are not found",
            "have the proxy in front pass Host on: `proxy_set_header Host $http_host` (nginx), `ProxyPreserveHost On` "
            "(Apache)",
        )
        return
    try:
        arrival: Any = json.loads(answer.body) if answer.status == 200 else None
        came_by = [str(parse_address(address)) for address in arrival["came_by"]]
    except (ValueError, TypeError, KeyError):
        yield _somebody_else(front, answer)
        return
    yield from _address(front, answer, came_by)
    scheme = "https" if server.secure else "http"
    if arrival["scheme"] != scheme:
        yield Finding(
            "server.trusted_proxies",
            f"a client’s own X-Forwarded-Proto arrives at the gateway, as {arrival['scheme']}",
            "upstreams take a secure call for an open one or the other way round: links and redirects go wrong",
            "have the proxy in front set it by itself: `proxy_set_header X-Forwarded-Proto $scheme` (nginx)",
        )
    if not arrival["authorization"]:
        yield Finding(
            _KEY,
            "the proxy in front takes the Authorization field away",
            "no token arrives, so that every call is answered 401",
            "have it pass the field on: `CGIPassAuth On` (Apache), or remove what takes it away",
        )


def _somebody_else(front: _Front, answer: Answer) -> Finding:
    origin, own = front.origin, answer.fields.get("Server", "") == "gateway" or "X-Request-Id" in answer.fields
    if answer.status in (502, 503, 504):
        return Finding(
            _KEY,
            f"{origin} answers {answer.status}: the proxy in front gets no answer from the gateway",
            _WHY,
            f"have it lead to server.listen = {front.settings.config.server.listen}, by http://",
        )
    if answer.status in (301, 302, 307, 308):
        return Finding(
            _KEY,
            f"{origin} sends its callers to {answer.fields.get('Location')}",
            "programs do not follow, and what they sent is lost",
            "write in public_url where they end, or take the redirect away",
        )
    return Finding(
        _KEY,
        f"what answers there ({answer.status}) is "
        + ("another gateway, or one with other keys" if own else "not this gateway"),
        _WHY,
        f"have {origin} lead to server.listen = {front.settings.config.server.listen}, all paths of it",
    )


def _address(front: _Front, answer: Answer, came_by: list[str]) -> Iterator[Finding]:
    """The client’s address as it arrived: ours, whoever stands between."""
    server, peer = front.settings.config.server, came_by[-1]
    ip = ip_address(peer)
    if came_by[0] == _FORGED and not any(_is_same(address, answer.ours) for address in came_by[1:-1]):
        who = "the proxy in front passes on" if len(came_by) == 2 else "something in server.trusted_proxies passes on"
        yield Finding(
            "server.trusted_proxies",
            f"{who} the X-Forwarded-For of clients, and they may claim any address",
            "limits, address lists and the log believe them",
            "have it add the client's own: `proxy_set_header X-Forwarded-For $remote_addr` (nginx); where no proxy "
            f"stands there, take {peer} out",
        )
    elif not is_trusted(ip, server.trusted_networks) and (server.secure or not _is_same(peer, answer.ours)):
        yield Finding(
            "server.trusted_proxies",
            f"the proxy in front, {peer}, is not among them",
            "every client seems to come from there: one who guesses passwords uses up the turns of all, and the log "
            "names nobody",
            f'write trusted_proxies = ["{peer}"]',
            FAULT if server.secure else WARNING,
        )
    elif len(came_by) == 1 and server.secure:
        yield Finding(
            "server.trusted_proxies",
            f"the proxy in front, {peer}, does not say whom it speaks for",
            "every client seems to come from there: one who guesses passwords uses up the turns of all, and the log "
            "names nobody",
            "have it set X-Forwarded-For: `proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for` (nginx)",
        )


def _is_same(one: str, other: str) -> bool:
    return parse_address(one) == parse_address(other.partition("%")[0])
