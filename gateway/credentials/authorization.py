"""The Authorization field: its scheme, and the places beside it where a token may not be.

credentials = auth-scheme 1*SP ( token68 / auth-params )      RFC 9110, section 11.4
"""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from gateway.errors import GatewayError

_CREDENTIALS: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32})(?: +([^ ].*))?", re.DOTALL)

_NOTHING: Final = (b"", b" ")
_QUERY_TOKEN: Final = b"access_token"  # RFC 6750, section 2.3


class MalformedCredential(GatewayError):
    """A credential does not follow its grammar. The text may be shown to anyone: it holds nothing of the value."""


def split(value: bytes) -> tuple[str, bytes]:
    """The scheme in lower case and what follows it, from an Authorization field's value without outer whitespace.

    Raises MalformedCredential when there is no scheme or nothing behind it.
    """
    if value.startswith(b"Bearer ") and value[7:8] not in _NOTHING:
        return "bearer", value[7:]  # what the grammar gives too, at a third of the cost
    found = _CREDENTIALS.fullmatch(value)
    if found is None:
        raise MalformedCredential("The Authorization field names no scheme.")
    if found[2] is None:
        raise MalformedCredential("The Authorization field has a scheme but no credential.")
    return found[1].decode("ascii").lower(), found[2]


def scheme_of(value: bytes) -> str:
    """The scheme that a value begins with, in lower case, whatever stands behind it; "" where there is none."""
    return value.partition(b" ")[0].decode("latin-1").lower()


def in_query(target: bytes) -> bool:
    """Whether a request target carries a token in its query, which is refused (RFC 6750, section 2.3; RFC 9700).

    Names are compared as a form decoder reads them, so that `%61ccess_token` counts too.
    """
    if target.find(b"_") < 0 and target.find(b"%") < 0:  # of neither can the name be made, whatever it reads like
        return False
    names = (pair.partition(b"=")[0] for pair in target.partition(b"?")[2].split(b"&"))
    # What is shorter is too short, and what is longer is longer also where each of its bytes is an escape.
    return any(
        len(_QUERY_TOKEN) <= len(name) <= 3 * len(_QUERY_TOKEN) and unquote_to_bytes(name) == _QUERY_TOKEN
        for name in names
    )
