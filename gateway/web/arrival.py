"""How a request arrived: told to whoever holds the master key, so that `gateway doctor` can ask the gateway through the
proxy in front of it. For everybody else there is nothing here.
"""

import time
from typing import Final

from aiohttp import web

from gateway import __version__
from gateway.crypto import Keyring
from gateway.web.answers import json
from gateway.web.plane import plane_of

PATH: Final = "arrival"
FIELD: Final = "X-Gateway-Probe"
_PURPOSE: Final = "arrival"
_LIFE: Final = 300  # seconds by which the clocks of two machines may differ; it gives away nothing but how calls arrive


def proof(keyring: Keyring, now: float) -> str:
    """The value of FIELD by which whoever holds the master key shows that; `now` is in seconds since 1970."""
    moment = str(int(now))
    return f"{moment}.{keyring.sign(_PURPOSE, moment)}"


def is_proof(keyring: Keyring, given: str, now: float) -> bool:
    """Whether `given` is a proof that was made with one of our keys within five minutes of `now`, in seconds since
    1970."""
    moment, _, signature = given.partition(".")
    fresh = moment.isascii() and moment.isdecimal() and len(moment) < 12 and abs(int(moment) - now) <= _LIFE
    return fresh and keyring.verify(_PURPOSE, moment, signature)


async def arrival(request: web.Request) -> web.Response:
    """The addresses that the request came by, the client's first; its scheme, host, and whether a credential came."""
    if not is_proof(plane_of(request).keyring, request.headers.get(FIELD, ""), time.time()):
        raise web.HTTPNotFound
    headers = request.headers
    return json(
        {
            "came_by": [address.strip() for address in headers.get("X-Forwarded-For", "").split(",")],
            "scheme": headers.get("X-Forwarded-Proto"),
            "host": headers.get("X-Forwarded-Host"),
            "authorization": "Authorization" in headers,
            "version": __version__,
        }
    )
