"""What a request says about who makes it, and what it is asked for: pure functions over header values.

`bearer` reads RFC 6750 tokens, `mac` reads, makes and checks MAC signatures, `challenges` writes WWW-Authenticate.
"""

from gateway.credentials.authorization import Malformed, in_query, split

__all__ = ["Malformed", "in_query", "split"]
