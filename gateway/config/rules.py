"""Contradictions between settings that are each well-formed."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from itertools import product
from typing import Final

from gateway.config import edge_rules, issuer_rules
from gateway.config.addresses import (
    UNIX_LISTENER,
    UNIX_UPSTREAM,
    canonical_host,
    socket_path,
    split_listen,
    split_origin,
    within,
)
from gateway.config.faults import Draft, Fault, Readable, shown
from gateway.config.tables import Config, has_password, scopes_of, url_of
from gateway.config.toml import dotted
from gateway.model import (
    ACR,
    CHANGE_PASSWORD,
    ISSUER_METADATA,
    OFFLINE_ACCESS,
    RESOURCE_METADATA,
    SESSION,
)
from gateway.schemes import BY_BEARER_TOKEN, BY_MAC_TOKEN

_SIGNATURE_ALGORITHM: Final = "hmac-sha-256"
_WILDCARDS: Final = {"0.0.0.0": ".", "::": ""}  # by what the addresses hold that it takes too: "::" takes all
_UNSPECIFIED: Final = ("0.0.0.0", "[::]")
_LOOPBACK: Final = ("127.0.0.1", "::1")


def conflicts(draft: Draft) -> Iterator[Fault]:
    """Every fault that lies between keys, as far as they can be read."""
    yield from _listeners(draft)
    yield from _public_url(draft)
    yield from _tls(draft)
    yield from _proxy_protocol(draft)
    yield from _prefix(draft)
    yield from _format(draft)
    yield from _twice(draft)
    yield from _hidden(draft)
    yield from edge_rules.overflow(draft)
    yield from issuer_rules.conflicts(draft)
    for index, route in enumerate(draft.routes):
        yield from _path(index, route, draft)
        yield from edge_rules.conflicts(index, route, draft)
        yield from _scopes(index, route, draft)
        yield from _groups(index, route)
        yield from _body_hash(index, route)
        yield from _dpop(index, route)
        yield from _signature(index, route, draft)
        yield from _sign_in(index, route)
        yield from _session(index, route, draft)


def warnings(config: Config) -> Iterator[str]:
    """Warnings: settings that work but should be known."""
    server = config.server
    yield from _sharing(config)
    for index, route in enumerate(config.routes):
        if route.trust_request_id and not server.trusted_proxies:
            yield (
                f"routes[{index}].trust_request_id: has no effect, as it is for the X-Request-Id of trusted proxies; "
                "name them in server.trusted_proxies, or leave this out"
            )
    yield from edge_rules.warnings(config)
    yield from issuer_rules.warnings(config)
    if not server.secure and not _is_loopback(server.host):
        yield "server.public_url: is http, so passwords and tokens travel in the clear; use https"
    if server.host in _UNSPECIFIED:
        yield f"server.public_url: {server.host} is an address to listen on, not one to call; name the host to call"
    if server.trusts_socket and not isinstance(server.address, str):
        yield 'server.trusted_proxies: "unix:" has no effect, as server.listen is no unix socket; leave it out'
    for network in server.trusted_networks:
        if network.prefixlen == 0:
            yield f"server.trusted_proxies: {network} lets everybody claim any address; name the proxies"
    yield from _circles(config)
    yield from _unused(config)
    for key, url in config.database.addresses.items():
        if has_password(url):
            yield (
                f"database.{key}: contains a password in plain text; name a place for it, "
                '{ file = "…" } or { env = "…" }'
            )


def _sharing(config: Config) -> Iterator[str]:
    """Upstreams at the host of the sign-in pages."""
    server = config.server
    for index, route in enumerate(config.routes):
        if route.upstreams and SESSION in route.schemes:
            yield (
                f"routes[{index}]: takes sessions, so it shares the host {server.host} with the sign-in pages, and a "
                "script of that upstream can press their buttons; lead it to applications of your own alone"
            )
        elif route.upstreams and (not route.hosts or server.host in route.hosts):
            yield (
                f"routes[{index}]: shares the host {server.host} with the sign-in pages, so a script "
                "of that upstream runs in their origin and can press their buttons; give the routes a host of their "
                "own where upstreams serve other people's content"
            )


def _circles(config: Config) -> Iterator[str]:
    """An upstream that is this gateway."""
    ours = config.server.address
    for index, route in enumerate(config.routes):
        for number, upstream in enumerate(map(url_of, route.upstreams)):
            if _leads_to(upstream, ours):
                yield (
                    f"routes[{index}].upstreams[{number}]: {upstream} leads back to server.listen = "
                    f"{config.server.listen}, so calls may go round in circles; name the API's own address"
                )


def _leads_to(upstream: str, ours: tuple[str, int] | str) -> bool:
    path = socket_path(upstream, UNIX_UPSTREAM)
    if path is not None or isinstance(ours, str):
        return path == ours
    _, host, port = split_origin(upstream)
    return port == ours[1] and _overlap(ours[0], host.strip("[]"))


def _unused(config: Config) -> Iterator[str]:
    """Credentials that are given out and accepted nowhere, or hardly."""
    tokens, schemes = config.tokens, {scheme for route in config.routes for scheme in route.schemes}
    if tokens.type == "mac" and schemes & BY_BEARER_TOKEN and not schemes & BY_MAC_TOKEN:
        yield 'tokens.type: is "mac", but every route of tokens takes "bearer" only; add "mac" to auth, or leave it out'
    first = config.mac.algorithms[0]
    if "signature" in schemes and first != _SIGNATURE_ALGORITHM:
        yield (
            f'mac.algorithms: clients get "{first}", the first, unless created with another, and then cannot use '
            f'"signature"; put "{_SIGNATURE_ALGORITHM}" first'
        )
    if tokens.refresh_ttl <= tokens.access_ttl:
        yield "tokens.refresh_ttl: is no longer than tokens.access_ttl, so refresh tokens expire unused; lengthen it"


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "[::1]") or host.startswith("127.") or host.endswith(".localhost")


def _listeners(draft: Draft) -> Iterator[Fault]:
    public, admin = draft.get("server", "listen"), draft.get("admin", "listen")
    if public is None or admin is None or socket_path(public, UNIX_LISTENER) is not None:
        return
    (host, port), (other, other_port) = split_listen(public), split_listen(admin)
    if port == other_port != 0 and _overlap(host, other):
        yield Fault("admin.listen", f"{shown(admin)} is taken by server.listen = {shown(public)}; choose another port")


def _overlap(host: str, other: str) -> bool:
    """Whether one port cannot be had on both; "localhost" may be either loopback address."""
    pairs = list(product(_addresses(host), _addresses(other)))
    return any(one == two or _covers(one, two) or _covers(two, one) for one, two in pairs)


def _addresses(host: str) -> tuple[str, ...]:
    if host.lower() == "localhost":
        return _LOOPBACK
    try:
        return (str(ip_address(host)),)
    except ValueError:
        return (host.lower(),)


def _covers(wildcard: str, host: str) -> bool:
    mark = _WILDCARDS.get(wildcard)
    return mark is not None and mark in host


def _public_url(draft: Draft) -> Iterator[Fault]:
    url = draft.get("server", "public_url")
    if url is not None and (host := split_origin(url)[1]) != canonical_host(host):
        yield Fault(
            "server.public_url", f'clients write its host as "{canonical_host(host)}"; write that, not {shown(url)}'
        )


def _proxy_protocol(draft: Draft) -> Iterator[Fault]:
    trusted = draft.get("server", "trusted_proxies")
    if draft.get("server", "proxy_protocol") and trusted == ():
        yield Fault("server.proxy_protocol", "is for trusted proxies only; name them in trusted_proxies")


def _tls(draft: Draft) -> Iterator[Fault]:
    tls, url = draft.get("server", "tls"), draft.get("server", "public_url")
    if tls and url is not None and split_origin(url)[0] == "http":
        yield Fault("server.public_url", f"must be https, since server.tls has clients call so, not {shown(url)}")


def _prefix(draft: Draft) -> Iterator[Fault]:
    prefix = draft.get("server", "oauth_prefix")
    if prefix is not None and (prefix == "/" or within(prefix, "/.well-known")):
        yield Fault("server.oauth_prefix", f'must be a folder of its own such as "/oauth2", not {shown(prefix)}')


def _format(draft: Draft) -> Iterator[Fault]:
    if draft.get("tokens", "format") == "jwt" and draft.get("tokens", "type") == "mac":
        yield Fault("tokens.format", 'is for bearer tokens, and tokens.type is "mac"; leave one of them out')


def _twice(draft: Draft) -> Iterator[Fault]:
    names: dict[str, int] = {}
    places: dict[tuple[frozenset[str], str, frozenset[str]], int] = {}
    for index, route in enumerate(draft.routes):
        name = route.get("name")
        if name is not None and names.setdefault(name, index) != index:
            yield Fault(
                f"routes[{index}].name", f"{shown(name)} is the name of routes[{names[name]}] too; choose another"
            )
        if not {"hosts", "path", "methods"} <= route.keys():
            continue
        place = (frozenset(route["hosts"]), route["path"], frozenset(route["methods"]))
        first = places.setdefault(place, index)
        if first != index:
            yield Fault(
                f"routes[{index}]",
                f"duplicates routes[{first}]: hosts, path {shown(route['path'])} and methods agree; remove one",
            )


def _hidden(draft: Draft) -> Iterator[Fault]:
    """Routes that no request reaches: of two that name alike, the first in the file gets what both take."""
    taken: dict[tuple[str, bool, bool], dict[tuple[str, str], int]] = {}
    for index, route in enumerate(draft.routes):
        if not {"hosts", "path", "methods"} <= route.keys():
            continue
        hosts, methods = route["hosts"], route["methods"]
        before = taken.setdefault((route["path"], bool(hosts), bool(methods)), {})
        own = list(product(hosts or ("",), methods or ("",)))
        first = [before.setdefault(one, index) for one in own]
        same = any(_takes(draft.routes[other]) == _takes(route) for other in first if other != index)
        if index not in first and not same:  # those that agree are told as duplicates
            others = ", ".join(f"routes[{other}]" for other in sorted(set(first)))
            yield Fault(
                f"routes[{index}]",
                f"is never reached: {others} before it, with path {shown(route['path'])} too, takes all its hosts and "
                "methods; put it first, or remove it",
            )


def _takes(route: Readable) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(route["hosts"]), frozenset(route["methods"])


def _path(index: int, route: Readable, draft: Draft) -> Iterator[Fault]:
    path, strip = route.get("path"), route.get("strip_prefix")
    if path is None:
        return
    prefix = draft.get("server", "oauth_prefix")
    if prefix not in (None, "/") and within(path, prefix):
        yield Fault(
            f"routes[{index}].path",
            f"{shown(path)} is under server.oauth_prefix = {shown(prefix)}, which is the gateway's own; move one",
        )
    if path in ISSUER_METADATA or within(path, RESOURCE_METADATA):
        yield Fault(f"routes[{index}].path", f"{shown(path)} is where the gateway's own metadata is; choose another")
    if path == CHANGE_PASSWORD and not _elsewhere(route, draft):
        yield Fault(
            f"routes[{index}].path",
            f"{shown(path)} leads to the gateway's own page at the host of server.public_url; choose another, or name "
            "other hosts",
        )
    if strip is not None and not within(path, strip):
        yield Fault(f"routes[{index}].strip_prefix", f"{shown(strip)} is not the beginning of path = {shown(path)}")


def _elsewhere(route: Readable, draft: Draft) -> bool:
    """Whether a route is for hosts other than that of the pages."""
    url, hosts = draft.get("server", "public_url"), route.get("hosts")
    return url is not None and bool(hosts) and split_origin(url)[1] not in (hosts or ())


def _body_hash(index: int, route: Readable) -> Iterator[Fault]:
    auth = route.get("auth")
    if route.get("mac_body_hash") and auth is not None and BY_MAC_TOKEN.isdisjoint(auth):
        yield Fault(f"routes[{index}].mac_body_hash", 'is for signed calls only; add "mac" to auth, or leave it out')


def _dpop(index: int, route: Readable) -> Iterator[Fault]:
    auth = route.get("auth")
    if route.get("dpop", "off") != "off" and auth is not None and "bearer" not in auth:
        yield Fault(f"routes[{index}].dpop", 'is for bearer tokens; add "bearer" to auth, or leave it out')


def _signature(index: int, route: Readable, draft: Draft) -> Iterator[Fault]:
    """HTTP Message Signatures are hmac-sha256 only, by tokens whose algorithm is hmac-sha-256."""
    algorithms, auth = draft.get("mac", "algorithms"), route.get("auth")
    if algorithms is not None and _SIGNATURE_ALGORITHM not in algorithms and auth is not None and "signature" in auth:
        yield Fault(
            f"routes[{index}].auth",
            f'"signature" needs "{_SIGNATURE_ALGORITHM}", which is not among mac.algorithms, so no call could '
            "use it; add it there, or leave out the scheme",
        )


def _sign_in(index: int, route: Readable) -> Iterator[Fault]:
    """What is demanded of a sign-in must be asked of somebody, and possible."""
    for key in ("max_age", "acr"):
        if route.get(key) and route.get("auth") == "none":
            yield Fault(f"routes[{index}].{key}", 'is of people, and auth = "none" asks nobody; leave it out')
    acr = route.get("acr")
    if acr and acr != ACR:
        yield Fault(f"routes[{index}].acr", f'people sign in by "{ACR}" here and never by {shown(acr)}; write that')


def _session(index: int, route: Readable, draft: Draft) -> Iterator[Fault]:
    """People sign in at the host of the pages, and their browser shows it nowhere else."""
    url, auth, hosts = draft.get("server", "public_url"), route.get("auth"), route.get("hosts")
    if url is None or not hosts or auth is None or SESSION not in auth:
        return
    home, at = split_origin(url)[1], f"routes[{index}].hosts"
    if home not in hosts:
        yield Fault(at, f'"session" needs the host where people sign in: add {shown(home)}, or leave hosts out')
    elif tuple(auth) == (SESSION,) and len(hosts) > 1:
        yield Fault(at, f'browsers show a "session" where people sign in alone: name {shown(home)}, or leave hosts out')


def _methods_beyond(index: int, key: str, route: Readable) -> Iterator[Fault]:
    """The methods that a table of the route names and the route does not answer."""
    by_method, methods = route.get(key), route.get("methods")
    if isinstance(by_method, Mapping) and methods:
        for method in by_method.keys() - {"*"} - set(methods):
            where = dotted(("routes", index, key, method))
            yield Fault(where, f"{method} is not among the route's methods; add it there, or leave it out here")


def _groups(index: int, route: Readable) -> Iterator[Fault]:
    groups, methods, at = route.get("groups"), route.get("methods"), f"routes[{index}].groups"
    yield from _methods_beyond(index, "groups", route)
    if isinstance(groups, Mapping) and groups and "*" not in groups:
        answered = {"GET" if method == "HEAD" else method for method in methods or ()}
        if not answered or not answered <= groups.keys():
            yield Fault(
                at, 'says nothing of other methods; add "*" with the groups for those, or with [] for everybody'
            )
    if route.get("auth") == "none" and groups:
        yield Fault(at, 'names people, and auth = "none" asks nobody who they are; leave it out')


def _scopes(index: int, route: Readable, draft: Draft) -> Iterator[Fault]:
    scopes, at = route.get("scopes"), f"routes[{index}].scopes"
    if scopes is None:
        return
    if route.get("auth") == "none" and scopes_of(scopes):
        yield Fault(at, 'a route with auth = "none" cannot require scopes; list its schemes, or leave the scopes out')
    yield from _methods_beyond(index, "scopes", route)
    if OFFLINE_ACCESS in scopes_of(scopes):
        yield Fault(at, f"{OFFLINE_ACCESS} asks for a refresh token and opens no route; leave it out")
    # Without any under [scopes], all are made by `gateway scope create`: only the database knows them.
    if draft.scopes:
        for name in sorted(scopes_of(scopes) - draft.scopes - {OFFLINE_ACCESS}):
            yield Fault(at, f"{shown(name)} is not a known scope; describe it under [scopes]")
