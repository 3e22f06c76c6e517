"""After 101 Switching Protocols: bytes both ways until either side, idleness or the token's end closes it.

`digest` is that of the token that opened it (b"" on a public route). The proxy asks every second whether it lives.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

from gateway.guard import Allowed
from gateway.proxy.limits import Limits
from gateway.proxy.upstream import UpstreamConnection


class ClientSide(Protocol):
    """What a tunnel needs of the client's connection."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> bool: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Tunnel:
    """Joins the two connections of an upgraded exchange. A side that ends is ended towards the other one, and so is one
    that breaks: what passed cannot look whole on one side only."""

    def __init__(
        self,
        client: ClientSide,
        upstream: UpstreamConnection,
        now: Callable[[], float],
        limits: Limits,
        allowed: Allowed,
        idle: float | None = None,
    ) -> None:
        self._client, self._upstream = client, upstream
        self._now, self._limits = now, limits
        self._most_idle: Final = idle or limits.stream_idle
        self.digest: Final = allowed.digest
        self._ends_at = now() + allowed.ends_at - time.time()
        self._confirmed_at = now()
        self._idle_since = now()
        self._client_ended = self._upstream_ended = False
        upstream.tunnel_to(self)

    def start(self, from_client: bytes, from_upstream: bytes) -> None:
        """Pass on what each side sent behind its head."""
        if from_upstream:
            self._client.write(from_upstream)
        if from_client:
            self._upstream.write(from_client)
        if not self._upstream.writable:  # since before, so that it will not say so again
            self._client.pause()

    def client_received(self, data: bytes) -> None:
        self._idle_since = self._now()
        self._upstream.write(data)

    def client_ended(self) -> None:
        self._client_ended = True
        if not self._upstream.write_eof() or self._upstream_ended:
            self.close()

    def client_writable(self, writable: bool) -> None:
        (self._upstream.resume if writable else self._upstream.pause)()

    def upstream_received(self, data: bytes) -> None:
        self._idle_since = self._now()
        self._client.write(data)

    def upstream_closed(self) -> None:
        if self._upstream.cut:
            self.reset()
            return
        if self._upstream.closed or self._client_ended:
            self.close()
            return
        self._upstream_ended = True
        if not self._client.write_eof():
            self.close()

    def upstream_writable(self, writable: bool) -> None:
        (self._client.resume if writable else self._client.pause)()

    def confirm(self) -> None:
        """Its token lives at this moment."""
        self._confirmed_at = self._now()

    def expired(self, now: float) -> bool:
        """Whether it was idle for too long, or the token that opened it ended or could not be confirmed."""
        unconfirmed = self.digest and now - self._confirmed_at > self._limits.unconfirmed
        return bool(unconfirmed) or now - self._idle_since > self._most_idle or now >= self._ends_at

    def close(self) -> None:
        """End both sides; what was written goes out first."""
        self._upstream.close()
        self._client.close()

    def reset(self) -> None:
        """Break off both sides."""
        self._upstream.reset()
        self._client.abort()
