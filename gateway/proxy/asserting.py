"""Who calls, as the upstreams of some routes may verify it: X-Auth-Jwt, a JWT of a minute that our keys have signed.

An upstream that verifies it need not trust the network between: `aud` is the route's resource identifier, so that what
one upstream got opens no other one. An assertion serves the calls of one caller on one route for half of its life, so
that at least the other half is left where it arrives; its signature is made once in that time, by a key that is asked
for beforehand. A worker without such routes has none of this, and imports no cryptography.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Never

from gateway.errors import StoreUnavailable
from gateway.guard import Allowed
from gateway.model import SigningAlgorithm, format_scope
from gateway.observe import get_logger
from gateway.routing import Route
from gateway.store.signing_keys import SigningKeys

if TYPE_CHECKING:
    from gateway.oauth.signing import SigningKey

LIFETIME: Final = 60  # seconds
_REUSED: Final = 30  # seconds
_MOST: Final = 10_000  # assertions that are kept
_EVERY: Final = 20.0  # seconds between two looks at the keys
_ALGORITHM: Final[SigningAlgorithm] = "ES256"
# RFC 9068, section 2.2, and OpenID Connect Core, section 5.1: what of it is known.
_KNOWN: Final = (("client_id", "client_id"), ("username", "preferred_username"), ("email", "email"))

_log = get_logger("gateway.proxy")


class _Kept:
    """An assertion of whom the guard let pass, and until when it is used."""

    __slots__ = ("allowed", "line", "until")

    def __init__(self, allowed: Allowed, line: bytes, until: float) -> None:
        self.allowed: Final = allowed
        self.line: Final = line
        self.until: Final = until


class Assertions:
    """Makes the assertions of one worker. `now` gives seconds since 1970."""

    def __init__(self, issuer: str, now: Callable[[], float]) -> None:
        self.key: SigningKey | None = None  # none while the database has not told of any yet
        self._issuer: Final = issuer
        self._now: Final = now
        self._kept: dict[tuple[bytes, str], _Kept] = {}

    def line(self, allowed: Allowed, route: Route) -> bytes:
        """The field line for a call. Raises RuntimeError without a key."""
        now, place = self._now(), (allowed.digest, route.resource)
        kept = self._kept.get(place)
        if kept is not None and now < kept.until and (kept.allowed is allowed or kept.allowed == allowed):
            return kept.line
        if self.key is None:
            raise RuntimeError("there is no key to sign with")
        assertion = self.key.signed(_claims(self._issuer, allowed, route.resource, int(now)), "JWT")
        line = b"X-Auth-Jwt: %b\r\n" % assertion.encode("ascii")
        if len(self._kept) >= _MOST:
            self._kept.clear()
        self._kept[place] = _Kept(allowed, line, now + _REUSED)
        return line

    def sign_with(self, key: "SigningKey") -> None:
        """Sign with this key from now on. What another one has signed is used no more: that may be worth nothing."""
        if self.key is not None and self.key.kid != key.kid:
            self._kept.clear()
        self.key = key

    async def keep(self, keys: SigningKeys) -> Never:
        """Follow the keys for as long as it is awaited."""
        while True:
            try:
                self.sign_with(await keys.key(_ALGORITHM))
            except StoreUnavailable:
                pass
            except Exception as exc:  # noqa: BLE001  # the key that is there goes on to sign
                _log.error("the keys cannot be read; assertions are signed by the last one", exc_info=exc)
            await asyncio.sleep(_EVERY if self.key is not None else 1.0)


def _claims(issuer: str, allowed: Allowed, audience: str, now: int) -> dict[str, object]:
    claims: dict[str, object] = {
        "iss": issuer,
        "sub": allowed.subject,
        "aud": audience,
        "iat": now,
        "exp": now + LIFETIME,
        "scope": format_scope(allowed.scopes),
    }
    for name, claim in _KNOWN:
        if (value := getattr(allowed, name)) is not None:
            claims[claim] = value
    return claims
