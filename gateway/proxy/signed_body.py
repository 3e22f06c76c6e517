"""The body of a signed request that stated its hash: kept back until it is known to be the one that was signed.

    held         up to the limit, however it is framed: compared whole, and only then is the nonce spent
    streaming    beyond: the nonce is spent first, and the last byte that has come stays until the whole is known to fit

So an upstream sees nothing at all of a short body that was altered, and never the end of a long one. The last byte
is enough: by length the message lacks it, and in chunks it lacks the last chunk too.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.errors import Refused
from gateway.guard import Allowed, BodyAwaited, Verdict


class Carrier(Protocol):
    """Whoever brings the body from the client to the upstream."""

    def await_verdict(self, verdict: Awaitable[Verdict], then: Callable[[Verdict], None]) -> None:
        """Wait for the guard, and take nothing more of the body meanwhile."""

    def let_pass(self, allowed: Allowed, held: bytes) -> None:
        """Go to the upstream, with what was held first."""

    def send_body(self, data: bytes) -> None:
        """Send a part of the body."""

    def send_last(self, data: bytes) -> None:
        """Send the last part, and the end."""

    def fail(self, refused: Refused) -> None:
        """Refuse the request, and break off what the upstream has of it."""


class CheckedBody:
    """One body on its way, `limit` bytes of which may be held."""

    __slots__ = ("_awaited", "_carrier", "_kept", "_limit", "_streaming")

    def __init__(self, awaited: BodyAwaited, carrier: Carrier, limit: int) -> None:
        self._awaited = awaited
        self._carrier = carrier
        self._limit = limit
        self._kept = bytearray()
        self._streaming = False

    def holds(self, length: int) -> bool:
        """Whether a body of that length is held whole."""
        return length <= self._limit

    def data(self, data: bytes) -> None:
        """The next part."""
        self._awaited.check.update(data)
        self._kept += data
        if self._streaming:
            if len(self._kept) > 1:  # an empty chunk would be the last one
                self._carrier.send_body(self._all_but_the_last())
        elif not self.holds(len(self._kept)):
            self.stream()

    def end(self) -> None:
        """All has come."""
        if not self._awaited.check.fits():
            self._carrier.fail(self._awaited.misfit)
        elif self._streaming:
            self._carrier.send_last(bytes(self._kept))
        else:
            self._carrier.await_verdict(self._awaited.spend(), self._spent)

    def stream(self) -> None:
        """Hold no longer; what comes from now on passes, but for its last byte."""
        self._streaming = True
        self._carrier.await_verdict(self._awaited.spend(), self._spent)

    def _spent(self, verdict: Verdict) -> None:
        if isinstance(verdict, Refused):
            self._carrier.fail(verdict)
        else:
            self._carrier.let_pass(verdict, self._all_but_the_last() if self._streaming else bytes(self._kept))

    def _all_but_the_last(self) -> bytes:
        ready = bytes(self._kept[:-1])
        del self._kept[:-1]
        return ready
