"""Telling applications that a session is over (OpenID Connect Back-Channel Logout 1.0, section 2.5).

What is to be told lies in the database (`store.logouts`): whoever comes to it first tells. An application that does not
answer is tried again later, for a day; `gateway events --kind logout` shows what came of it.
"""

import asyncio
from typing import Final
from urllib.parse import urlencode

from gateway import observe
from gateway.errors import StoreUnavailable
from gateway.fetching import Fetcher, FetchFailed
from gateway.oauth import openid
from gateway.store.logouts import Logout
from gateway.web.plane import Plane

_EVERY: Final = 1.0  # seconds between two looks
_AT_ONCE: Final = 16
_TYPE: Final = "logout+jwt"  # section 2.4, and RFC 8725, section 3.11

log = observe.get_logger("gateway.web")


async def run(plane: Plane, fetcher: Fetcher | None = None) -> None:
    """Tell whom there is to tell, for as long as the process lives."""
    fetcher = fetcher or Fetcher()
    while True:
        try:
            busy = await tell_some(plane, fetcher) == _AT_ONCE
        except StoreUnavailable:
            busy = False
        except Exception as exc:  # another one must not stay untold for this
            log.error("applications could not be told of a logout; this is tried again", exc_info=exc)
            busy = False
        await asyncio.sleep(0 if busy else _EVERY)


async def tell_some(plane: Plane, fetcher: Fetcher) -> int:
    """Tell those that are due, side by side: how many were tried. Raises StoreUnavailable."""
    due = await plane.store.logouts.claim(_AT_ONCE)
    await asyncio.gather(*(_tell(plane, fetcher, logout) for logout in due))
    return len(due)


async def _tell(plane: Plane, fetcher: Fetcher, logout: Logout) -> None:
    store = plane.store
    client = await store.clients.find(logout.client_id)
    uri = None if client is None else client.openid.backchannel_logout_uri
    if client is None or uri is None:
        await store.logouts.given_up(logout, "the client has no address for that any more")
        return
    subject = await store.users.known_as(logout.subject, client)
    key = await store.signing_keys.key(client.openid.id_token_alg, openid.LOGOUT_LIFETIME)
    claims = openid.logout_token(
        plane.issuer,
        client.client_id,
        subject,
        logout.session_id,
        now=int(store.seconds()),
        logout_id=logout.logout_id,
    )
    form = urlencode({"logout_token": key.signed(claims, _TYPE)}).encode()
    try:
        # An operator's own applications may live in an inner network; what registered itself reaches none through us.
        await fetcher.tell(uri, form, inner=client.verified)
    except FetchFailed as exc:
        log.warning("an application was not told of a logout", client_id=client.client_id, cause=str(exc))
        await store.logouts.failed(logout, str(exc))
    else:
        await store.logouts.delivered(logout)
