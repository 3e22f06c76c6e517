"""What an issuer publishes: its metadata (RFC 8414, OpenID Connect Discovery 1.0) and its keys (RFC 7517).

    metadata   at either of two addresses below the issuer's own; says of itself that it is the issuer, byte for byte
    keys       where that says, by https, or by http on this machine

Both are fetched with limits of size and time, and without redirects (`gateway.fetching`). The issuer is the operator's
choice, so it may be on an inner network. Where its keys are it says itself: there, they may be at its own host alone.

This brings cryptography and aiohttp along, 20 MB which the worker takes that first has a token of another issuer.
"""

import asyncio
import json
from collections.abc import Sequence

from msgspec import Struct

from gateway.errors import GatewayError
from gateway.fetching import Fetched, Fetcher, FetchFailed
from gateway.oauth import client_documents, foreign, jwk
from gateway.oauth.foreign import Trusted
from gateway.oauth.jws import json_object


class Unpublished(GatewayError):
    """The keys of an issuer cannot be had; the text says why."""


class Published(Struct, frozen=True):
    """The keys of an issuer with their thumbprints, where they stand, for how many seconds they may be kept, and when
    they were sent, as the field Date says it."""

    keys: Sequence[tuple[str, jwk.Key]]
    jwks_uri: str
    lifetime: float
    date: str


async def published(fetcher: Fetcher, issuer: Trusted) -> Published:
    """The keys of an issuer as of now. Raises Unpublished."""
    uri = issuer.jwks_uri or await _jwks_uri(fetcher, issuer)
    inner = bool(issuer.jwks_uri) or foreign.host_of(uri).lower() == foreign.host_of(issuer.url).lower()
    fetched = await _fetched(fetcher, uri, jwk.LARGEST_SET, inner=inner)
    try:
        keys = await asyncio.to_thread(_keys_in, fetched.content)  # up to fifty, of a millisecond at worst
    except ValueError as exc:
        raise Unpublished(f"{uri}: {exc}") from exc
    lifetime = client_documents.lifetime(fetched.cache_control, fetched.age)
    return Published(keys, uri, lifetime, fetched.date)


def _keys_in(content: bytes) -> Sequence[tuple[str, jwk.Key]]:
    """The keys of a set that serve signatures, with their thumbprints; none is what a set may say too."""
    try:
        members = json.dumps(jwk.parse_set(content, only_good=True))
    except jwk.NoGoodKey:
        return ()
    return tuple(zip(map(jwk.thumbprint, json.loads(members)["keys"]), jwk.keys_of(members), strict=True))


async def _jwks_uri(fetcher: Fetcher, issuer: Trusted) -> str:
    """Where its metadata says that an issuer's keys are."""
    first, second = foreign.metadata_urls(issuer.url)
    try:
        place, fetched = first, await _fetched(fetcher, first, foreign.LARGEST_METADATA, inner=True)
    except Unpublished as exc:
        try:
            place, fetched = second, await _fetched(fetcher, second, foreign.LARGEST_METADATA, inner=True)
        except Unpublished:
            raise exc from None
    try:
        said = json_object(fetched.content)
    except ValueError as exc:
        raise Unpublished(f"{place}: {exc}") from exc
    if said.get("issuer") != issuer.url:
        raise Unpublished(
            f"{place}: calls itself {foreign.shown(said.get('issuer'))}, and not {foreign.shown(issuer.url)}"
        )
    uri = said.get("jwks_uri")
    if not isinstance(uri, str) or not foreign.is_url(uri):
        raise Unpublished(f"{place}: jwks_uri is no plain https URL")
    return uri


async def _fetched(fetcher: Fetcher, url: str, most: int, *, inner: bool) -> Fetched:
    try:
        return await fetcher.json(url, most, inner=inner)
    except FetchFailed as exc:
        raise Unpublished(f"{url}: {exc}") from exc
