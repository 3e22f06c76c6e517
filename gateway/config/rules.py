"""What tables that are each well-formed may not say together."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.config.addresses import split_listen
from gateway.config.faults import Draft, Fault, Readable, dotted, shown
from gateway.config.settings import Config, scopes_of
from gateway.model import ISSUER_METADATA, RESOURCE_METADATA

_SIGNED: Final = frozenset({"mac", "signature"})
_WILDCARDS: Final = {"0.0.0.0": ".", "::": ":"}  # by what addresses of the family hold


def conflicts(draft: Draft) -> Iterator[Fault]:
    """Every fault that lies between keys, as far as they can be read."""
    yield from _listeners(draft)
    yield from _prefix(draft)
    yield from _twice(draft)
    for index, route in enumerate(draft.routes):
        yield from _path(index, route, draft)
        yield from _scopes(index, route, draft)
        yield from _body_hash(index, route)


def warnings(config: Config) -> Iterator[str]:
    """What works but should be known."""
    server = config.server
    for index, route in enumerate(config.routes):
        if not route.hosts or server.host in route.hosts:
            yield (
                f'routes[{index}]: "{route.name}" shares the host {server.host} with the sign-in pages, so a script '
                "of that upstream runs in their origin; give the routes a host of their own where upstreams serve "
                "what others wrote"
            )
    if not server.secure and not _is_loopback(server.host):
        yield "server.public_url: is http, so passwords and tokens travel in the clear; use https"
    url = config.database.url
    if isinstance(url, str) and ":" in url.partition("://")[2].rpartition("@")[0]:
        yield 'database.url: holds a password in the open; name a place for it, { file = "…" } or { env = "…" }'


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "[::1]") or host.startswith("127.") or host.endswith(".localhost")


def _listeners(draft: Draft) -> Iterator[Fault]:
    public, admin = draft.server.get("listen"), draft.admin.get("listen")
    if public is None or admin is None:
        return
    (host, port), (other, other_port) = split_listen(public), split_listen(admin)
    overlap = host == other or _covers(host, other) or _covers(other, host)
    if port == other_port != 0 and overlap:
        yield Fault("admin.listen", f"{shown(admin)} is taken by server.listen = {shown(public)}; choose another port")


def _covers(wildcard: str, host: str) -> bool:
    mark = _WILDCARDS.get(wildcard)
    return mark is not None and mark in host


def _prefix(draft: Draft) -> Iterator[Fault]:
    prefix = draft.server.get("oauth_prefix", "/oauth2")
    if prefix == "/" or _within(prefix, "/.well-known"):
        yield Fault("server.oauth_prefix", f'a folder of its own such as "/oauth2" is wanted, not {shown(prefix)}')


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


def _path(index: int, route: Readable, draft: Draft) -> Iterator[Fault]:
    path, strip = route.get("path"), route.get("strip_prefix")
    if path is None:
        return
    prefix = draft.server.get("oauth_prefix", "/")
    if prefix != "/" and _within(path, prefix):
        yield Fault(
            f"routes[{index}].path",
            f"{shown(path)} lies under server.oauth_prefix = {shown(prefix)}, which is the gateway's own; move one",
        )
    if path in ISSUER_METADATA or _within(path, RESOURCE_METADATA):
        yield Fault(
            f"routes[{index}].path", f"{shown(path)} is where the gateway's own metadata stands; choose another"
        )
    if strip is not None and not _within(path, strip):
        yield Fault(f"routes[{index}].strip_prefix", f"{shown(strip)} is no front part of path = {shown(path)}")


def _within(path: str, folder: str) -> bool:
    return folder == "/" or path == folder or path.startswith(f"{folder}/")


def _body_hash(index: int, route: Readable) -> Iterator[Fault]:
    auth = route.get("auth")
    if route.get("mac_body_hash") and auth is not None and not _SIGNED.intersection(auth):
        yield Fault(f"routes[{index}].mac_body_hash", 'is for signed calls only; add "mac" to auth, or leave it out')


def _scopes(index: int, route: Readable, draft: Draft) -> Iterator[Fault]:
    scopes, methods, at = route.get("scopes"), route.get("methods"), f"routes[{index}].scopes"
    if scopes is None:
        return
    if route.get("auth") == "none" and scopes_of(scopes):
        yield Fault(at, 'a route with auth = "none" asks for no scopes; state its schemes, or leave the scopes out')
    if isinstance(scopes, Mapping) and methods:
        for method in scopes.keys() - {"*"} - set(methods):
            where = dotted(("routes", index, "scopes", method))
            yield Fault(where, f"{method} is not among the route's methods; add it there, or leave it out here")
    # Without any under [scopes], all are made by `gateway scope create`: only the database knows them.
    if draft.scopes:
        for name in sorted(scopes_of(scopes) - draft.scopes):
            yield Fault(at, f"{shown(name)} is no known scope; describe it under [scopes]")
