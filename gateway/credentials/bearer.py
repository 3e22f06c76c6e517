"""Bearer tokens in the Authorization field (RFC 6750, section 2.1).

b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
"""

import re
from typing import Final

from gateway.credentials.authorization import MalformedCredential

MAXIMUM: Final = 4096  # characters; a signed token of another issuer is long, but not without end

_B64TOKEN = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")


def parse(rest: bytes) -> str:
    """The token from what follows the scheme. Raises MalformedCredential."""
    if len(rest) > MAXIMUM:
        raise MalformedCredential("The bearer token is too long.")
    if _B64TOKEN.fullmatch(rest) is None:
        raise MalformedCredential("The bearer token contains characters that tokens never contain.")
    return rest.decode("ascii")
