"""From a route as the operator writes it to a route as the access plane uses it."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from gateway.config.addresses import UNIX_UPSTREAM, socket_path, split_origin
from gateway.config.tables import Config, Route, Server, scopes_of
from gateway.routing import Origin, SignIn, UpstreamTls
from gateway.routing import Route as CompiledRoute
from gateway.routing.limits import Limits
from gateway.schemes import IN_BROWSERS


def compile_routes(config: Config) -> tuple[CompiledRoute, ...]:
    """The routes in the order of the file, with their addresses, byte paths and resource identifiers.

    A resource identifier (RFC 8707, RFC 9728 section 2) is the origin under which clients reach the route and its
    path; a route for "/" has the origin alone. So one that names several hosts is several resources, and as many
    routes here: a client may not use what it is told at one host of another one (RFC 9728, section 3.3).

    Browsers show a session at the host of the sign-in pages alone. So a route that takes sessions at any host is one at
    that host, and another at all others, which takes none and yet is there: what matches less is none of its own.
    """
    return tuple(
        _compiled(route, host, config.server, schemes)
        for route in config.routes
        for host, schemes in _places(route, config.server.host)
    )


def _places(route: Route, home: str) -> Iterator[tuple[str | None, tuple[str, ...]]]:
    """The hosts of a route, None for all others, and what it accepts at each."""
    elsewhere = tuple(scheme for scheme in route.schemes if scheme not in IN_BROWSERS) or route.schemes
    if not IN_BROWSERS.isdisjoint(route.schemes) and not route.hosts:
        yield home, route.schemes
    for host in route.hosts or (None,):
        yield host, route.schemes if host == home else elsewhere


def _compiled(route: Route, host: str | None, server: Server, schemes: tuple[str, ...]) -> CompiledRoute:
    strip, rewrite = route.strip_prefix, route.rewrite_prefix
    if (redirection := route.redirection) is not None:  # what a client is led to is made as what an upstream gets
        strip, rewrite = route.path, redirection.path
    secured = None if route.upstream_tls is None else route.upstream_tls.terms
    return CompiledRoute(
        name=route.name,
        path=route.path.encode("ascii"),
        host=None if host is None else host.encode("ascii"),
        methods=frozenset(method.encode("ascii") for method in route.methods),
        upstreams=tuple(_upstream(upstream.url, secured) for upstream in route.targets),
        upstream_host=None if route.upstream_host is None else route.upstream_host.encode("ascii"),
        strip_prefix=b"" if strip in (None, "/") else strip.encode("ascii"),
        rewrite_prefix=b"" if rewrite in (None, "/") else rewrite.encode("ascii"),
        schemes=schemes,
        scopes=_by_method(route.scopes),
        resource=_resource(route.path, host if route.hosts else None, server),
        mac_body_hash=route.mac_body_hash,
        limits=_limits(route),
        keeps_slashes=route.encoded_slashes == "keep",
        groups=_by_method(route.groups) if scopes_of(route.groups) else None,
        sign_in_page=f"{server.oauth_prefix}/login".encode("ascii")
        if not IN_BROWSERS.isdisjoint(schemes) and host == server.host
        else b"",
        sign_in=SignIn(route.max_age, route.acr) if route.max_age or route.acr else None,
        issuers=frozenset(route.issuers),
    )


def _upstream(text: str, secured: UpstreamTls | None) -> Origin:
    if (path := socket_path(text, UNIX_UPSTREAM)) is not None:
        return Origin("", 0, path=path)
    scheme, host, port = split_origin(text)
    return Origin(host.strip("[]"), port, tls=scheme == "https", secured=secured if scheme == "https" else None)


def _limits(route: Route) -> Limits | None:
    """How often it may be called; None, which costs its calls nothing, where that is as often as anybody likes."""
    rates = tuple(rate.terms for rate in route.rate)
    quotas = tuple(quota.terms for quota in route.quota)
    return Limits(route.name, rates, quotas, route.concurrency) if rates or quotas or route.concurrency else None


def _by_method(names: tuple[str, ...] | Mapping[str, tuple[str, ...]]) -> Mapping[str, frozenset[str]]:
    if isinstance(names, Mapping):
        return MappingProxyType({method: frozenset(some) for method, some in names.items()})
    return MappingProxyType({"*": frozenset(names)})


def _resource(path: str, host: str | None, server: Server) -> str:
    origin = server.origin
    if host is not None:
        scheme, port = ("https", 443) if server.secure else ("http", 80)
        origin = f"{scheme}://{host}" + ("" if server.port == port else f":{server.port}")
    return origin if path == "/" else origin + path
