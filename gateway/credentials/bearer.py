"""Bearer tokens in the Authorization field (RFC 6750, section 2.1).

b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
"""

import re
from typing import Final

from gateway.credentials.authorization import MalformedCredential
from gateway.http1.grammar import ALPHANUMERIC, table
from gateway.http1.scan import consists_of

MAXIMUM: Final = 4096  # characters; a signed token of another issuer is long, but not without end

_B64TOKEN = re.compile(rb"[A-Za-z0-9\-._~+/]+=*")
_UNPADDED: Final = table(ALPHANUMERIC + b"-._~+/")


def check(rest: bytes) -> None:
    """Hold what follows the scheme to the grammar of a token. Raises MalformedCredential."""
    if len(rest) > MAXIMUM:
        raise MalformedCredential("The bearer token is too long.")
    if not (rest and consists_of(rest, _UNPADDED)) and _B64TOKEN.fullmatch(rest) is None:
        raise MalformedCredential("The bearer token contains characters that tokens never contain.")
