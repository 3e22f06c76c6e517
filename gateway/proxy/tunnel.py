"""After 101 Switching Protocols: bytes both ways until either side, idleness, the token's end or a new worker ends it.

Of a WebSocket the frames are read on their way (`http1.websocket`). What ends it is told to both sides by a close code:

    1002, 1009   a frame that is wrong, or a message beyond the route's bound
    1008         the token that opened it has ended
    1001         it rested for too long; another worker takes this one's place, and its route's `drain` is over

Within a frame nothing can be told: what is left of the one on its way to the client still passes, for a moment, and
then the connection is cut.
"""

import os
from math import inf
from typing import Final, Protocol

from gateway.errors import Cause, Refused
from gateway.guard import Allowed
from gateway.guard.causes import expired
from gateway.http1 import websocket
from gateway.http1.websocket import Conversation, Wrong, close_frame
from gateway.model import Identity
from gateway.proxy.answers import DRAINED
from gateway.proxy.engine import Engine
from gateway.proxy.upstream import UpstreamConnection

_REST_OF_FRAME: Final = 0.5  # seconds for a frame that is on its way to the client when its tunnel ends


class ClientSide(Protocol):
    """What a tunnel needs of the client's connection."""

    def write(self, data: bytes) -> None: ...
    def write_eof(self) -> bool: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def linger(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Opened(Protocol):
    """The exchange that ended in the tunnel."""

    @property
    def stays(self) -> float:
        """How long it may go on where another worker takes this one's place, in seconds."""

    @property
    def most_idle(self) -> float:
        """How long it may rest, in seconds."""

    def may_go_on(self, allowed: Allowed) -> bool:
        """Whether the person behind it may still call the route, by what is known of them now."""

    def right_ended(self, cause: Cause | None, identity: Identity | None) -> Refused:
        """The refusal that says why its token is not good any more."""

    def tunnel_over(
        self, upstream: UpstreamConnection, received: int, sent: int, refused: Refused | None, *, complete: bool
    ) -> None:
        """So many bytes have gone up and down; `refused` says why the gateway has ended it, if it has."""


class Tunnel:
    """Joins the two connections of an upgraded exchange. A side that ends is ended towards the other one, and so is one
    that breaks: what passed cannot look whole on one side only."""

    def __init__(
        self,
        client: ClientSide,
        upstream: UpstreamConnection,
        engine: Engine,
        opened: Opened,
        allowed: Allowed,
        conversation: Conversation | None,
    ) -> None:
        self._client, self._upstream = client, upstream
        self._engine: Final = engine
        self.opened: Final = opened
        self._conversation: Final = conversation
        self._most_idle: Final = opened.most_idle
        self._stays: Final = opened.stays
        self._kind: Final = allowed.scheme
        self._right_ends_at: Final = engine.right_ends_at(allowed)
        add = engine.guard.watch.add
        self._watched = add(allowed, self._right_ended, opened.may_go_on) if allowed.digest else None
        self._idle_since = engine.now()
        self._client_ended = self._upstream_ended = False
        self._sent = self._received = 0
        self._ending: tuple[int, Refused | None] | None = None  # with this code, as soon as a frame has gone by
        self._ends_by = inf
        self._is_over = False
        upstream.tunnel_to(self)

    def start(self, from_client: bytes, from_upstream: bytes) -> bool:
        """Pass on what each side sent behind its head; whether that was not the end already."""
        if from_upstream:
            self.upstream_received(from_upstream)
        if from_client and not self._is_over:
            self.client_received(from_client)
        if self._is_over:
            return False
        if not self._upstream.writable:  # since before, so that it will not say so again
            self._client.pause()
        return True

    def client_received(self, data: bytes) -> None:
        self._idle_since = self._engine.now()
        conversation = self._conversation
        if conversation is not None:
            if self._ending is not None:
                return
            data = conversation.up.take(data)
        if data:
            self._received += len(data)
            self._upstream.write(data)
        if conversation is not None and conversation.up.fault is not None:
            self._wrong(conversation.up.fault, conversation.up.fault.code, "the client sent")

    def client_ended(self) -> None:
        self._client_ended = True
        if not self._upstream.write_eof() or self._upstream_ended:
            self.close()

    def client_lost(self) -> None:
        """The client's connection is gone."""
        self._upstream.reset()
        self._over(None, complete=self._client_ended or self._has_closed)

    def client_writable(self, writable: bool) -> None:
        (self._upstream.resume if writable else self._upstream.pause)()

    def upstream_received(self, data: bytes) -> None:
        self._idle_since = self._engine.now()
        conversation = self._conversation
        if conversation is not None:
            data = conversation.down.take(data if self._ending is None else data[: conversation.down.left])
        if data:
            self._sent += len(data)
            self._client.write(data)
        if conversation is None:
            return
        if self._ending is not None:
            self._end_between_frames()
        elif conversation.down.fault is not None:
            fault = conversation.down.fault
            code = fault.code if fault.code == websocket.TOO_BIG else websocket.INTERNAL_ERROR
            self._wrong(fault, code, "the upstream sent")

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

    def goes_on(self, now: float) -> bool:
        """Whether it may go on, as of a tick; else it is ended."""
        if now >= self._ends_by:
            _, refused = self._ending or (0, None)
            self.reset(refused)
        elif self._ending is not None:
            return True
        elif now >= self._right_ends_at:
            self._right_ended(expired(self._kind), None)
        elif now - self._idle_since > self._most_idle:
            self._end(websocket.GOING_AWAY, None)
        elif now >= self._engine.streams_end(self._stays):
            self._end(websocket.GOING_AWAY, DRAINED)
        return not self._is_over

    def _right_ended(self, cause: Cause | None, identity: Identity | None) -> None:
        self._end(websocket.POLICY_VIOLATION, self.opened.right_ended(cause, identity))

    def _wrong(self, wrong: Wrong, code: int, who: str) -> None:
        error = "websocket_too_big" if code == websocket.TOO_BIG else "websocket_fault"
        upstream = "" if who == "the client sent" else self._upstream.place
        self._end(code, Refused(error, "The WebSocket is broken.", f"{who} {wrong.why}", upstream=upstream))

    def _end(self, code: int, refused: Refused | None) -> None:
        """End both sides, and say why where there is a way to."""
        if self._ending is not None or self._is_over:
            return
        self._ending = code, refused
        if self._conversation is None:
            self.close(refused)
            return
        up = self._conversation.up
        if up.left == 0 and not up.closed:
            self._upstream.write(close_frame(code, os.urandom(4)))
        self._ends_by = self._engine.now() + _REST_OF_FRAME
        self._end_between_frames()

    def _end_between_frames(self) -> None:
        conversation, ending = self._conversation, self._ending
        if conversation is None or ending is None or conversation.down.left:
            return
        code, refused = ending
        if not conversation.down.closed:
            self._client.write(close_frame(code))
        self._upstream.close()
        self._client.linger()
        self._over(refused)

    @property
    def _has_closed(self) -> bool:
        """Whether a side has said by its protocol that it is done."""
        conversation = self._conversation
        return conversation is not None and (conversation.up.closed or conversation.down.closed)

    def close(self, refused: Refused | None = None) -> None:
        """End both sides; what was written goes out first."""
        self._upstream.close()
        self._client.close()
        self._over(refused)

    def reset(self, refused: Refused | None = None) -> None:
        """Break off both sides."""
        self._over(refused, complete=False)
        self._upstream.reset()
        self._client.abort()

    def _over(self, refused: Refused | None, *, complete: bool = True) -> None:
        if self._is_over:
            return
        self._is_over = True
        if self._watched is not None:
            self._watched.drop()
        complete = complete and refused is None
        self.opened.tunnel_over(self._upstream, self._received, self._sent, refused, complete=complete)
