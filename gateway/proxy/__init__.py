"""The access plane's IO: one front for every connection, one engine for every exchange."""

import asyncio
import itertools
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from math import inf

from gateway.config import Config
from gateway.guard import Guard, Refused
from gateway.http1 import RequestHead
from gateway.model import Identity
from gateway.observe import get_logger
from gateway.proxy.answers import RefusalPage
from gateway.proxy.dispatch import Dispatcher, Peer, Plan
from gateway.proxy.front import Front
from gateway.proxy.limits import DEFAULT, Limits
from gateway.proxy.tunnel import Tunnel
from gateway.proxy.upstream import Upstreams
from gateway.refusals import Refusals
from gateway.routing import Route

__all__ = ["Limits", "Proxy"]

_TAKEN = 0.05  # seconds, until the loop has told the front of a connection that it took just before it took no more
_LAST_DIGITS = tuple(b"%02x" % number for number in range(256))

_log = get_logger("gateway.proxy")


class Proxy:
    """The access plane of one worker: give `front` to `loop.create_server`."""

    def __init__(
        self,
        *,
        routes: Iterable[Route],
        config: Config,
        guard: Guard,
        authorization_socket: str,
        refusal_page: RefusalPage,
        limits: Limits = DEFAULT,
    ) -> None:
        self.limits = limits
        self.dispatcher = Dispatcher(config, routes, authorization_socket)
        self.guard = guard
        self.refusal_page = refusal_page
        self.received = memoryview(bytearray(limits.buffer))  # where what comes in is put, on whichever connection
        self.upstreams = Upstreams(limits, self.received)
        self.fronts: set[Front] = set()
        self.draining = False
        self._drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self.clock = self.now()  # the time of the last tick, for deadlines, which are looked at then
        self.new_request_id = _request_ids(secrets.token_hex(8).encode()).__next__
        self.date = _date()  # the Date field's value, made anew with each tick
        self.refusals = Refusals(_log, self.now)
        self._recheck_at = 0.0
        self._rechecking: asyncio.Task[None] | None = None
        self._ticking = self._loop.call_later(self.limits.tick, self._tick)

    def front(self) -> Front:
        """The protocol of a new client connection."""
        return Front(self)

    async def drain(self, timeout: float) -> None:
        """Let the exchanges under way end, for `timeout` seconds at most; nothing new is begun meanwhile."""
        self.draining = True
        deadline = self.now() + timeout
        for front in list(self.fronts):
            front.drain()
        await asyncio.sleep(_TAKEN)
        self._drained.clear()
        if self.fronts:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), max(0.0, deadline - self.now()))

    def forget(self, front: Front) -> None:
        """A client connection has ended."""
        self.fronts.discard(front)
        if not self.fronts:
            self._drained.set()

    def close(self) -> None:
        """Break off whatever is still open."""
        self._ticking.cancel()
        if self._rechecking is not None:
            self._rechecking.cancel()
        for front in list(self.fronts):
            front.abort()
        self.upstreams.close_idle(inf)
        self.refusals.tell()

    def log_refusal(
        self,
        peer: Peer,
        request_id: bytes,
        head: RequestHead | None,
        refused: Refused,
        identity: Identity | None = None,
    ) -> None:
        """One line for the operator, or one more in the count of a flood; `identity` is whose call it was."""
        cause = refused.cause or refused.description
        if not self.refusals.admits(refused.status, cause):
            return
        identity = refused.identity or identity
        fields: dict[str, str | None] = {
            "request_id": request_id.decode(),
            "error": refused.error,
            "cause": cause,
            "mend": refused.mend,
            "address": peer.address if head is None else self.dispatcher.client(head, peer),
            "client_id": None if identity is None else identity.client_id,
            "subject": None if identity is None else identity.subject,
            "upstream": refused.upstream,
        }
        self.refusals.write("refused", refused.status, {**fields, **_described(head)})

    def _tick(self) -> None:
        self._ticking = self._loop.call_later(self.limits.tick, self._tick)  # whatever happens in this one
        self.clock = now = self.now()
        self.date = _date()
        for front in list(self.fronts):
            front.tick(now)
        if now >= self._recheck_at and self._rechecking is None:
            self._recheck_at = now + self.limits.recheck
            self.upstreams.close_idle(now - self.limits.upstream_idle)
            guarded = [front.tunnel for front in self.fronts if front.tunnel is not None and front.tunnel.digest]
            if guarded:
                self._rechecking = self._loop.create_task(self._recheck(guarded))
                self._rechecking.add_done_callback(self._rechecked)

    async def _recheck(self, tunnels: list[Tunnel]) -> None:
        """End the tunnels whose tokens were revoked meanwhile; one query for all of them."""
        live = await self.guard.still_live({tunnel.digest for tunnel in tunnels})
        for tunnel in tunnels:
            if tunnel.digest in live:
                tunnel.confirmed_at = self.now()
            else:
                tunnel.close()

    def _rechecked(self, done: asyncio.Task[None]) -> None:
        self._rechecking = None
        if not done.cancelled() and (fault := done.exception()) is not None:
            _log.warning("tunnels are not confirmed; those that go unconfirmed for long are closed", cause=str(fault))


def _described(head: RequestHead | None) -> dict[str, str]:
    """A request for the log; there is none where its head never came, or could not be read."""
    if head is None:
        return {}
    found = {
        "method": head.method.decode("latin-1"),
        "host": head.host.decode("latin-1"),
        "path": head.target.partition(b"?")[0].decode("latin-1"),
    }
    return found | ({"route": head.plan.route.name} if isinstance(head.plan, Plan) else {})


def _date() -> bytes:
    """RFC 9110, section 5.6.7."""
    return format_datetime(datetime.now(UTC), usegmt=True).encode()


def _request_ids(prefix: bytes) -> Iterator[bytes]:
    """Identifiers that no other request has, on this worker or, by the prefix, on any other: numbers in hexadecimal."""
    for number in itertools.count():
        front = b"%b%04x" % (prefix, number)
        for last in _LAST_DIGITS:
            yield front + last
