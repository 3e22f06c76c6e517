"""The routes as the access plane uses them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream listens: a TCP address, with TLS or without, or a unix socket at `path`."""

    host: str
    port: int
    tls: bool = False
    path: str | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Route:
    """One route, compiled: what it matches, what it demands, where it leads.

    `schemes` is empty for a public route. `resource` is its identifier (RFC 8707 and 9728), for instance
    `https://api.example.com/api/notes`.
    """

    name: str
    path: bytes
    hosts: frozenset[bytes]
    methods: frozenset[bytes]
    upstreams: tuple[Origin, ...]
    upstream_host: bytes | None
    strip_prefix: bytes
    schemes: tuple[str, ...]
    scopes: Mapping[str, frozenset[str]]  # by method, "*" for the others
    timeout: float
    max_body: int
    forward_authorization: bool
    resource: str

    def scopes_for(self, method: str) -> frozenset[str]:
        """All the scopes that a call with `method` must carry; HEAD asks for what GET does."""
        table = self.scopes
        if method not in table and method == "HEAD":
            method = "GET"
        return table.get(method) or (frozenset() if method in table else table.get("*", frozenset()))
