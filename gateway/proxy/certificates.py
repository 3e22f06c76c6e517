"""What the public listener shows to clients that come by TLS: a certificate by the name that each asks for (SNI).

Others can be put in their place while it listens; connections that are there keep what they were shown.
"""

import ssl
from collections.abc import Sequence
from typing import Final

from gateway.config.tls import Certified, server_context


class Certificates:
    """The certificates of one listener. `tls` is what it listens with."""

    def __init__(self, shown: Sequence[Certified]) -> None:
        self.tls: Final = server_context(shown[0])
        self.tls.sni_callback = self._choose
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._first = self.tls
        self.renew(shown)

    def renew(self, shown: Sequence[Certified]) -> None:
        """Show these from now on. Raises OSError and ValueError, and then goes on with those before."""
        contexts = [server_context(one) for one in shown]
        by_name: dict[str, ssl.SSLContext] = {}
        for one, context in zip(shown, contexts, strict=True):
            for name in one.names:
                by_name.setdefault(name, context)  # of two for one name, the first
        self._first, self._by_name = contexts[0], by_name

    def context_for(self, name: str | None) -> ssl.SSLContext:
        """What is shown to who asks for a name: the certificate for it, one for all names beside it
        (RFC 9525, section 6.3), or the first."""
        if name is None:
            return self._first
        lower = name.lower().rstrip(".")
        found = self._by_name.get(lower) or self._by_name.get(f"*.{lower.partition('.')[2]}")
        return found or self._first

    def _choose(self, connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self.context_for(name)
