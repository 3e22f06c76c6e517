"""The way to the page where people sign in, and back to the address that they asked for.

That address travels in the query of the page's own, as browsers write it, and nothing of it can lead elsewhere: it is a
path of the same origin (a reference such as `//evil.example` is none, nor is one with a backslash, which browsers take
for a slash), and it is bounded, since it has to fit into a request's first line in an address's place.
"""

import re
from typing import Final
from urllib.parse import quote, quote_from_bytes

from gateway.routing.target import origin_form

LONGEST: Final = 4000  # characters of an address, as it stands in the query

# What browsers never write into an address (WHATWG URL, query percent-encode set), and so is escaped before.
_WRITTEN: Final = "".join(chr(one) for one in range(0x21, 0x7F) if chr(one) not in '"<>')
_PARAMETER: Final = "/:@!$'()*,;?~"  # stands for itself in a parameter's value (RFC 3986, section 3.4)
# Printable ASCII without "<># and, in the path, without \ and ?. Leaving out the rest of Unicode takes long to compile.
_WAY_BACK: Final = re.compile(r"/(?!/)[!$-;=@-\[\]-~]*(?:\?[!$-;=?-~]*)?")


def is_way_back(text: str) -> bool:
    """Whether a browser may be led to this address of our own origin: a path, and its query."""
    return len(text) <= LONGEST and _WAY_BACK.fullmatch(text) is not None


def way_back(target: bytes) -> str:
    """The address that a request was for, as browsers write it; empty where nobody may be led back to it."""
    back = quote_from_bytes(origin_form(target), safe=_WRITTEN)
    return back if is_way_back(back) else ""


def as_parameter(back: str) -> str:
    """Such an address as the value of a parameter."""
    return quote(back, safe=_PARAMETER)


def sign_in_address(page: bytes, target: bytes, *, again: bool) -> str:
    """Where the person signs in who asked for `target`, even who is signed in if they have to do so `again`.

    Empty where that could not be come back to.
    """
    given = as_parameter(way_back(target))
    if not given or len(given) > LONGEST:
        return ""
    return f"{page.decode('ascii')}?{'prompt=login&' if again else ''}next={given}"
