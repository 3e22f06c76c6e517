"""WWW-Authenticate: one challenge for each scheme of a route (RFC 6750 section 3, RFC 9728 section 5.1).

A request that sent no credential, or one of a scheme that the route does not know, gets no `error` (RFC 6750,
section 3.1). Of several challenges only that of a scheme that was used has one: a client that reads the others learns
what it may use, and not that it used it wrongly. Values are written so that nothing in them can end a quoted string
or a header line.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from gateway.model import RESOURCE_METADATA
from gateway.routing import Route
from gateway.schemes.scheme import Scheme

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")
_SPECIAL: Final = re.compile(r'["\\]')


def metadata_url(resource: str) -> str:
    """Where the metadata of a protected resource stands: the path is inserted, not appended (RFC 9728, section 3.1)."""
    parts = urlsplit(resource)
    return f"{parts.scheme}://{parts.netloc}{RESOURCE_METADATA}{parts.path.rstrip('/')}"


def challenges(
    schemes: Sequence[Scheme],
    route: Route,
    *,
    realm: str,
    error: str | None = None,
    description: str | None = None,
    scope: str | None = None,
    used: Collection[str] = (),
    sign_in: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, ...]:
    """One WWW-Authenticate value for each of these schemes of a route, in their order.

    The error is at those that were `used`, and with it what is said of the sign-in that is needed (RFC 9470, section
    3).
    """
    given = {
        "realm": realm,
        "error": error,
        "error_description": description if error else None,
        **sign_in,
        "scope": scope,
        "resource_metadata": metadata_url(route.resource),
    }
    without_error = {
        name: value for name, value in given.items() if not name.startswith("error") and name not in sign_in
    }
    return tuple(
        _challenge(scheme, {**(given if scheme.name in used else without_error), **scheme.of_challenge(route)})
        for scheme in schemes
    )


def _challenge(scheme: Scheme, given: Mapping[str, str | None]) -> str:
    attributes = ", ".join(f"{name}={_quoted(value)}" for name, value in given.items() if value is not None)
    return f"{scheme.facts.spelling} {attributes}"


def _quoted(text: str) -> str:
    return '"' + _SPECIAL.sub(r"\\\g<0>", _UNPRINTABLE.sub("?", text)) + '"'
