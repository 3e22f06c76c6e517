"""The routes as the access plane uses them, and the match of a request to one of them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from gateway.routing.limits import Limits
from gateway.routing.target import TargetError, has_slashes_of_its_own, is_plain, readings


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How TLS is spoken with an upstream: whose certificates count (those of the system unless `ca` is a file), what is
    shown to it, the name that its certificate must have where that is not its host's, and whether it is verified."""

    ca: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream listens: a TCP address, with TLS or without, or a unix socket at `path`; that of the
    authorization plane has a host too."""

    host: str
    port: int
    tls: bool = False
    path: str | None = None
    secured: UpstreamTls | None = None  # where a route says more of it

    @property
    def authority(self) -> bytes:
        """What Host names it by; the port only where it is not the scheme's own (RFC 9110, section 7.2)."""
        if self.path is not None:
            return b"localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}").encode()

    @property
    def of_plane(self) -> bool:
        """Whether it is the authorization plane."""
        return self.path is not None and bool(self.host)

    def __str__(self) -> str:
        """What the operator knows it by."""
        if self.path is not None:
            return self.path if self.host else f"unix:{self.path}"
        return f"{self.host}:{self.port}"


_NOTHING: Final = frozenset[str]()


class SignIn(NamedTuple):
    """How lately, in seconds, and by what `acr` somebody must have signed in; 0.0 and "" where that is all the same."""

    max_age: float
    acr: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Route:
    """One route, compiled: what it matches, who may pass, where it leads.

    How its calls are passed on stands in the configuration, where the engine finds it by the route's name. `schemes` is
    empty for a public route. `resource` is its identifier (RFC 8707 and 9728), for instance
    `https://api.example.com/api/notes`.
    """

    name: str
    path: bytes
    host: bytes | None  # the one host that it answers on, in lower case; None for any
    methods: frozenset[bytes]
    upstreams: tuple[Origin, ...]
    upstream_host: bytes | None
    strip_prefix: bytes
    schemes: tuple[str, ...]
    scopes: Mapping[str, frozenset[str]]  # by method, "*" for the others
    resource: str
    rewrite_prefix: bytes = b""
    mac_body_hash: bool = False  # a signed call with a body must state its hash
    keeps_slashes: bool = False  # encoded slashes and empty segments pass as they came
    limits: Limits | None = None  # how often it may be called, and by whom
    exact: bool = False  # the path alone, and nothing below it
    groups: Mapping[str, frozenset[str]] | None = None  # whose people alone may call it, by method as `scopes`
    sign_in: SignIn | None = None  # that must stand behind a call (RFC 9470)
    issuers: frozenset[str] = frozenset()  # whose tokens it takes beside ours, by their names
    sign_in_page: bytes = b""  # where people in a browser sign in; empty where it takes no sessions at its host

    def scopes_for(self, method: str) -> frozenset[str]:
        """All the scopes that a call with `method` must carry; HEAD asks for what GET does, `post` what POST does."""
        return _for_method(self.scopes, method)

    def groups_for(self, method: str) -> frozenset[str]:
        """The groups one of which whoever calls with `method` must be in; none where everybody may."""
        return _NOTHING if self.groups is None else _for_method(self.groups, method)

    def forwarded(self, path: bytes) -> bytes:
        """The path that the upstream receives: `rewrite_prefix` in the place of `strip_prefix`, every other byte as it
        came."""
        prefix, instead = self.strip_prefix, self.rewrite_prefix
        if prefix in (b"", b"/"):
            return instead + path if instead else path
        return instead + path[len(prefix) :] or b"/"


def _for_method(table: Mapping[str, frozenset[str]], method: str) -> frozenset[str]:
    if len(table) == 1 and (for_all := table.get("*")) is not None:
        return for_all
    method = method.upper()
    if method not in table and method == "HEAD":
        method = "GET"
    return table.get(method) or (frozenset() if method in table else table.get("*", frozenset()))


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No route has this path, or none has it for this method: then `allow` names the methods there are."""

    allow: tuple[bytes, ...] = ()


class Look(NamedTuple):
    """A route that a request was held against, and why it is not the request's; nothing where it is."""

    route: Route
    why_not: str


# A host that everybody reads alike: names without empty labels, or an address.
_PLAIN_HOST: Final = re.compile(rb"[a-z0-9_~-]+(?:\.[a-z0-9_~-]+)*|\[[0-9a-f:.]+\]")
_SEPARATORS: Final = re.compile(rb"[,;]")


@lru_cache(maxsize=256)  # most hosts that are called are few
def _host_readings(host: bytes) -> frozenset[bytes]:
    """The other hosts that an upstream could take a legal but odd one for: X-Forwarded-Host, which gets it too, is read
    as a list by many, and dots behind a name are taken off."""
    if _PLAIN_HOST.fullmatch(host):
        return frozenset()
    return frozenset(part.rstrip(b".") for part in (*_SEPARATORS.split(host), host)) - {host}


class RouteTable:
    """Finds the route of a request: by whole path segments, the longest path first.

    Of two routes with one path, the one that names the host goes before one for any host, and the one that names
    the method before one for any method. Methods are forwarded as they came and compared in upper case, since many
    upstreams read them so: `post` must not enter by another door than POST.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._by_path: dict[bytes, list[Route]] = {}
        for route in sorted(routes, key=lambda route: (route.host is None, not route.methods)):
            self._by_path.setdefault(route.path, []).append(route)
        self._longest = max(map(len, self._by_path), default=0)

    def match(self, host: bytes, method: bytes, path: bytes, *, plain: bool = False) -> Route | NoRoute:
        """The route for a lower-case host, a method and a canonical path, which may be known to be `plain`.

        A dot behind the host's name changes nothing: upstreams that know their hosts by name take it off.
        Raises TargetError for encoded slashes and empty segments where the route does not keep them, and where escapes,
        path parameters or slashes hide another route's path: an upstream that resolves them would be entered by the
        wrong door.
        """
        host, method = host.removesuffix(b"."), method.upper()
        found = self._match(host, method, path)
        for reading in _host_readings(host):
            if self._match(reading, method, path) != found:
                raise TargetError("The Host field reads as another route's to servers that take a list there.")
        if plain or is_plain(path):
            return found
        route = found if isinstance(found, Route) else None
        if has_slashes_of_its_own(path) and not (route is not None and route.keeps_slashes):
            raise TargetError("The path contains an empty segment or an encoded slash.")
        for reading in readings(path, b"" if route is None else route.strip_prefix):
            if self._match(host, method, reading) != found:
                raise TargetError("The path belongs to another route once its escapes are resolved.")
        return found

    def _match(self, host: bytes, method: bytes, path: bytes) -> Route | NoRoute:
        allow: dict[bytes, None] = {}
        prefix = path
        if len(path) > self._longest:  # nothing longer can match, and a path of a thousand segments must cost no more
            prefix = path[: path.rfind(b"/", 0, self._longest + 1)] or b"/"
        while True:
            for route in self._by_path.get(prefix, ()):
                if route.host not in (None, host) or (route.exact and prefix != path):
                    continue
                if not route.methods or method in route.methods:
                    return route
                allow.update(dict.fromkeys(sorted(route.methods)))
            if prefix in (b"/", b""):
                return NoRoute(tuple(allow))
            prefix = prefix[: prefix.rfind(b"/")] or b"/"

    def looked_at(self, host: bytes, method: bytes, path: bytes) -> list[Look]:
        """The routes that `match` holds a request against, in its order; the last one is the match if there is one."""
        host, method, looks = host.removesuffix(b"."), method.upper(), list[Look]()
        prefix = path
        while True:
            for route in self._by_path.get(prefix, ()):
                why_not = ""
                if route.host not in (None, host):
                    why_not = f"it is for the host {(route.host or b'').decode()}"
                elif route.exact and prefix != path:
                    why_not = "it is for its path alone, and for nothing below"
                elif route.methods and method not in route.methods:
                    why_not = f"it is for {b', '.join(sorted(route.methods)).decode()}"
                looks.append(Look(route, why_not))
                if not why_not:
                    return looks
            if prefix in (b"/", b""):
                return looks
            prefix = prefix[: prefix.rfind(b"/")] or b"/"
