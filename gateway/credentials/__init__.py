"""What a request says about who makes it, and what it is asked for: pure functions over header values.

`bearer` reads RFC 6750 tokens, `mac` reads, makes and checks MAC signatures, `signatures` those of RFC 9421; `signed`
is what the last two have in common. `explaining` tells why a MAC does not fit.
"""

from gateway.credentials.authorization import MalformedCredential, in_query, scheme_of, split

__all__ = ["MalformedCredential", "in_query", "scheme_of", "split"]
