"""Schemes as a guard has them, and a route, for tests that ask no database."""

from gateway.crypto import Keyring
from gateway.routing import Route
from gateway.schemes import ALL, Rules, Scheme

RULES = Rules(
    origin="https://api.example.com",
    secure=True,
    host="api.example.com",
    port=443,
    skew=60.0,
    algorithms=("hmac-sha-256",),
    drafts=("01",),
    keyring=Keyring(bytes(32)),
    dpop_nonce=False,
)
_MADE = {one.facts.name: one(RULES) for one in ALL}


def schemes(*names: str) -> tuple[Scheme, ...]:
    """Those of these names."""
    return tuple(_MADE[name] for name in names)


def served(resource: str) -> Route:
    """A route for a resource."""
    return Route(
        name="notes",
        path=b"/",
        host=None,
        methods=frozenset(),
        upstreams=(),
        upstream_host=None,
        strip_prefix=b"",
        schemes=(),
        scopes={},
        resource=resource,
    )
