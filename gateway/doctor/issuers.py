"""The other issuers: whether each can be asked from here, is who it is taken for, and has keys that count."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Final

from gateway.config import Settings
from gateway.doctor.finding import Finding
from gateway.fetching import Fetcher
from gateway.guard.published import Unpublished, published
from gateway.oauth.foreign import Trusted

_WHY: Final = "its tokens are answered 503; where a worker had its keys within a day, those that it has proven pass"
_NAMED: Final = "calls itself"
_MEND: Final = (
    "correct url, or let this machine reach it; a certificate must be of an authority that this machine trusts "
    "(update-ca-certificates)"
)


async def findings(settings: Settings, apart: dict[str, float]) -> list[Finding]:
    """What is wrong with the issuers; what their clocks say goes into `apart`."""
    named = {issuer.name: index for index, issuer in enumerate(settings.config.issuers)}
    fetcher = Fetcher()
    try:
        looks = (_look(fetcher, one.trusted, named, apart) for one in settings.config.issuers)
        return [finding for found in await asyncio.gather(*looks) for finding in found]
    finally:
        fetcher.close()


async def _look(fetcher: Fetcher, issuer: Trusted, named: Mapping[str, int], apart: dict[str, float]) -> list[Finding]:
    at = f"issuers[{named[issuer.name]}]"
    try:
        found = await published(fetcher, issuer)
    except Unpublished as exc:
        mend = "write in url what it calls itself, byte for byte" if _NAMED in str(exc) else _MEND
        return [Finding(f"{at}.url", str(exc), _WHY, mend)]
    with suppress(TypeError, ValueError):
        apart[f"the issuer {issuer.name}"] = parsedate_to_datetime(found.date).timestamp() - time.time()
    theirs = sorted({algorithm for _, key in found.keys for algorithm in key.algorithms})
    if set(theirs).isdisjoint(issuer.algorithms):
        there = ", ".join(theirs) or "nothing"
        what = f"{found.jwks_uri} has no key for {' or '.join(issuer.algorithms)}, but for {there}"
        return [Finding(f"{at}.algorithms", what, "its tokens do not count", "name what it signs with")]
    return []
