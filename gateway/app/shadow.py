"""The shadow: a process that judges live calls by two configurations, and says which it would decide otherwise.

    worker ── each call that has ended ──▶ shadow: route, credential, token, scope, limits, by either configuration
                                             └──▶ supervisor ──▶ `gateway reload --shadow`

Both judge a call at the same moment and by the same database, so that what differs is the configurations' doing. It is
told of calls when they are over, decides nothing, spends no nonce and writes nothing; whatever becomes of it, calls do
not notice. How a body is judged that must fit a signed hash, and what an upstream would have answered, it cannot know.

Rates are kept here too, for either configuration, by what passes by it here, from full buckets on: all calls of this
gateway come by, one after the other, at one moment for both. What hangs on more than these calls is not worked out but
named where the configurations say otherwise of a route: quotas, how many calls may be under way, and header fields.
"""

import asyncio
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple, cast

from gateway import observe
from gateway.app.process import give_up_root, later_for, run_loop
from gateway.config import Settings, compile_routes
from gateway.config.tables import Route
from gateway.crypto import Keyring
from gateway.guard import Allowed, BodyAwaited, Guard, Refused, settled
from gateway.guard.bucket import Bucket
from gateway.guard.limiting import whose
from gateway.http1 import RequestHead, RequestReader
from gateway.proxy.dispatch import Destination, Dispatcher
from gateway.proxy.mirror import Telling, Told
from gateway.routing.limits import Limit, Limits
from gateway.store import Store, queries
from gateway.supervisor.channel import (
    HEARTBEAT,
    Alive,
    Channel,
    Compare,
    Compared,
    Differs,
    Drain,
    Joined,
    Ready,
    Start,
)
from gateway.supervisor.lifeline import die_with_parent, is_child_of

_KINDS: Final = 200  # that are told apart
_UNDER_WAY: Final = 256  # calls that are judged at once; more wait at the workers, and are lost there in the end
_LONGEST: Final = 200  # characters of a cause, or a path
_MEMORY: Final = 1024**3  # bytes
_BUCKETS: Final = 20_000  # that are held of either configuration
_NICE: Final = 10
_AWAY: Final = "503 store"
_PASSES: Final = "passes, "
_POOL: Final = 2
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

log = observe.get_logger("gateway.shadow")


class Judge:
    """One configuration's decisions on calls that are over."""

    def __init__(self, settings: Settings, store: Store) -> None:
        config = settings.config
        self._dispatcher = Dispatcher(config, compile_routes(config), "")
        self._guard = Guard(store, settings, spends=False)
        self._buckets: dict[tuple[str, Limit, str | bytes], Bucket] = {}
        self._terms = {route.name: _terms_of(route) for route in config.routes}

    async def start(self) -> None:
        """Follow the change log."""
        await self._guard.start()

    async def close(self) -> None:
        """Do so no longer."""
        await self._guard.close()

    async def decide(self, head: RequestHead, told: Told) -> "Decided":
        """What becomes of a call, but for its rates."""
        dispatcher = self._dispatcher
        address = dispatcher.client(head, dispatcher.peer(told.peer))
        to = dispatcher.destination(head)
        if isinstance(to, Refused):
            return Decided(_refused(to, None))
        if to.terms.edge is not None:
            own = to.terms.edge.judge(head, address)
            if isinstance(own, Refused):
                return Decided(f"{own.status} {own.description}, {_by(to)}")  # its cause names the address
            if own is not None:
                return Decided(f"a preflight that is answered, {_by(to)}")
        judged = await settled(self._guard.check(self._dispatcher.call(head, to)))
        verdict = await judged.spend() if isinstance(judged, BodyAwaited) else judged
        if isinstance(verdict, Refused):
            return Decided(_refused(verdict, to), to, address)
        if max(head.length or 0, told.received) > to.terms.max_body:
            return Decided(f"413 body longer than {to.terms.max_body} bytes, {_by(to)}", to, address)
        return Decided(f"passes, {_by(to)}", to, address, verdict)

    def count(self, decided: "Decided", now: float) -> str:
        """What becomes of a call, its rates included, in words that are the same for calls of one kind."""
        to = decided.to
        limits = None if to is None else to.route.limits
        if to is None or limits is None:
            return decided.words
        over = self._over(limits, limits.by_address, decided, now)
        if over is None and decided.allowed is not None:
            over = self._over(limits, limits.rates, decided, now)
        return decided.words if over is None else f"429 over the rate by {over.by}, {_by(to)}"

    def _over(self, limits: Limits, rates: tuple[Limit, ...], decided: "Decided", now: float) -> Limit | None:
        """The rate that a call is over; it takes of all of them, or of none."""
        buckets = list[Bucket]()
        for limit in rates:
            who = whose(limit, decided.address, decided.allowed)
            key = (limits.route, limit, who)
            bucket = self._buckets.pop(key, None) or Bucket(who, b"", limit, 1, now)
            self._buckets[key] = bucket  # the one that was asked last stands last
            if len(self._buckets) > _BUCKETS:
                del self._buckets[next(iter(self._buckets))]
            if not bucket.has_one(now, 1):
                return limit
            buckets.append(bucket)
        for bucket in buckets:
            bucket.take(now)
        return None

    def terms(self, decided: "Decided") -> frozenset[tuple[str, str]]:
        """What else is said of the route that a call passes by: what it is about, and what is said."""
        passes = decided.to is not None and decided.allowed is not None
        return self._terms.get(decided.to.route.name, frozenset()) if passes and decided.to else frozenset()


class Decided(NamedTuple):
    """What becomes of a call, but for its rates, in words that are the same for calls of one kind; where it goes, and
    as what, as far as that was found."""

    words: str
    to: Destination | None = None
    address: str = ""
    allowed: Allowed | None = None


def _terms_of(route: Route) -> frozenset[tuple[str, str]]:
    """What is said of a route that is told and not worked out."""
    said = list[tuple[str, str]]()
    for side, headers in (("to the upstream", route.request_headers), ("to the client", route.response_headers)):
        if headers is not None:
            said += [(f"{name} {side}", f"set {value}") for name, value in headers.set.items()]
            said += [(f"{name} {side}", f"add {value}") for name, value in headers.add.items()]
            said += [(f"{name} {side}", "remove") for name in headers.remove]
    if route.identity_jwt:
        said.append(("X-Auth-Jwt to the upstream", "set"))
    if route.cors is not None:
        said.append(("the fields of CORS to the client", repr(route.cors)))
    if route.quota:
        said.append(("quota", ", ".join(sorted(str(quota.terms) for quota in route.quota))))
    if route.concurrency:
        said.append(("concurrency", str(route.concurrency)))
    return frozenset(said)


def _refused(refused: Refused, to: Destination | None) -> str:
    cause = (refused.cause or refused.description)[:_LONGEST]
    return f"{refused.status} {cause}" + ("" if to is None else f", {_by(to)}")


def _by(to: Destination) -> str:
    """Which way a call goes, as far as the configuration says it."""
    if to.own:
        return "to the gateway's own pages and endpoints"
    route = to.route
    if not route.upstreams:
        return f"by route {route.name}, which answers by itself"
    said = [f"by route {route.name} to {' or '.join(map(str, route.upstreams))}"]
    if route.rewrite_prefix:
        said.append(f"below {route.rewrite_prefix.decode()}")
    if route.strip_prefix:
        said.append(f"without {route.strip_prefix.decode()}")
    if route.upstream_host is not None:
        said.append(f"as {route.upstream_host.decode()}")
    if to.terms.forward_authorization:
        said.append("with its credential")
    return " ".join(said)


class Comparison:
    """What two judges said of calls, in bounded memory; `found` hears of each kind that is decided otherwise, once."""

    def __init__(self, before: Judge, after: Judge, channel: Channel) -> None:
        self._before, self._after, self._channel = before, after, channel
        self._kinds: dict[tuple[str, str, str], Differs] = {}
        self._counts = Counter[tuple[str, str, str]]()
        self._calls = self._different = self._missed = self._others = 0
        self._failed = False

    async def judge(self, told: Told) -> None:
        """Judge a call by both."""
        self._missed += told.lost
        try:
            reader = RequestReader()
            reader.receive(told.head)
            head = cast("RequestHead", reader.next_event())
            old, new = await asyncio.gather(self._before.decide(head, told), self._after.decide(head, told))
            if old.words.startswith(_AWAY) or new.words.startswith(_AWAY):
                self._missed += 1  # the database gave no answer, which no configuration can be blamed for
                return
            before, after = self._counted(old, new)
        except Exception as exc:  # a fault of ours is said once, and none of a configuration's
            self._missed += 1
            if not self._failed:
                self._failed = True
                log.error("calls cannot be judged, and count as missed", exc_info=exc)
            return
        self._calls += 1
        if before != after:
            self._different += 1
            self._note(head, told, before, after)

    def _counted(self, old: Decided, new: Decided) -> tuple[str, str]:
        """Both decisions with the rates, taken at one moment; and what is said otherwise of the way of the call."""
        now = time.monotonic()
        before, after = self._before.count(old, now), self._after.count(new, now)
        if before.startswith(_PASSES) and after.startswith(_PASSES):
            others = sorted({about for about, _ in self._before.terms(old) ^ self._after.terms(new)})
            after += f", with other {', '.join(others)}"[:_LONGEST] if others else ""
        return before, after

    def _note(self, head: RequestHead, told: Told, before: str, after: str) -> None:
        method = head.method.decode("latin-1")
        key = (method if method in _METHODS else "another method", before, after)
        if key not in self._kinds:
            if len(self._kinds) >= _KINDS:
                self._others += 1
                return
            path = head.target.partition(b"?")[0].decode("latin-1")[:_LONGEST]
            self._kinds[key] = Differs(
                method=key[0],
                before=before,
                after=after,
                count=1,
                path=path,
                request_id=told.request_id.decode("latin-1"),
            )
            self._channel.send(self._kinds[key])
        self._counts[key] += 1

    def report(self) -> Compared:
        """All of it, the most frequent kinds first."""
        kinds = (replace(self._kinds[key], count=count) for key, count in self._counts.most_common())
        return Compared(
            calls=self._calls,
            different=self._different,
            missed=self._missed,
            others=self._others,
            kinds=tuple(kinds),
        )


class _Worker(asyncio.Protocol):
    """The connection of one worker that tells of its calls."""

    def __init__(self, comparison: Comparison, tasks: set[asyncio.Task[None]], joined: Callable[[], None]) -> None:
        self._comparison, self._tasks, self._joined = comparison, tasks, joined
        self._telling = Telling()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._joined()

    def data_received(self, data: bytes) -> None:
        for told in self._telling.receive(data):
            task = asyncio.get_running_loop().create_task(self._comparison.judge(told))
            self._tasks.add(task)
            task.add_done_callback(self._judged)
        if len(self._tasks) > _UNDER_WAY and self._transport is not None:
            self._transport.pause_reading()

    def _judged(self, done: asyncio.Task[None]) -> None:
        self._tasks.discard(done)
        if len(self._tasks) <= _UNDER_WAY and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def main(listener: int, control: int) -> None:
    """Be the shadow that listens on the inherited socket, until the supervisor ends it."""
    die_with_parent()
    os.umask(0o077)
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    run_loop(_obey(socket.socket(fileno=listener), socket.socket(fileno=control)))


async def _obey(listener: socket.socket, control: socket.socket) -> None:
    channel = await Channel.over(control)
    start, compare = await channel.receive(), await channel.receive()
    if not isinstance(start, Start) or not isinstance(compare, Compare) or not is_child_of(start.supervisor):
        return
    observe.start(start.name, start.level)
    queries.load()
    async with AsyncExitStack() as stack:
        judges = list[Judge]()
        for settings in (start.settings, compare.settings):
            store = Store.over(start.dsn, cast("Keyring", settings.keyring), size=_POOL, name="gateway-shadow")
            stack.push_async_callback(store.close)
            judges.append(Judge(settings, store))
        give_up_root(start, later_for(start.settings.config, compare.settings.config))
        for judge in judges:
            await judge.start()
            stack.push_async_callback(judge.close)
        before, after = judges
        comparison, tasks = Comparison(before, after, channel), set[asyncio.Task[None]]()
        loop = asyncio.get_running_loop()
        worker = partial(_Worker, comparison, tasks, partial(channel.send, Joined()))
        server = await loop.create_server(worker, sock=listener)
        stack.callback(server.close)
        beating = asyncio.create_task(_beat(channel))
        stack.callback(beating.cancel)
        channel.send(Ready())
        message = await channel.receive()
        if isinstance(message, Drain):
            with suppress(TimeoutError):
                async with asyncio.timeout(message.seconds):
                    while tasks:
                        await asyncio.wait(tasks)
            channel.send(comparison.report())
            await channel.receive()  # the supervisor has read it, and ends the channel


async def _beat(channel: Channel) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT)
        channel.send(Alive())
