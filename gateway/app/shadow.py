"""The shadow: a process that judges live calls by two configurations, and says which it would decide otherwise.

    worker ── each call that has ended ──▶ shadow: route, credential, token, scope, limits, by either configuration
                                             └──▶ supervisor ──▶ `gateway reload --shadow`

Both judge a call at the same moment and by the same database, so that what differs is the configurations' doing. It is
told of calls when they are over, decides nothing, spends no nonce and writes nothing; whatever becomes of it, calls do
not notice. How a body is judged that must fit a signed hash, and what an upstream would have answered, it cannot know.

Limits are counted here too, for either configuration, by what passes by it here (`gateway.app.tally`): rates from full
buckets on, quotas from what the database has of today, and calls under way by when each began and ended, since all
calls of this gateway come by. What began before a call may end after it, or not at all; so a call on a route with a
concurrency or a quota is judged some seconds after it began, when every other is known that was under way then, or that
the database had counted when it was asked: workers tell of those that last. Header fields are not worked out, but named
where the configurations say otherwise of a route.
"""

import asyncio
import heapq
import itertools
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from math import inf
from typing import Final, NamedTuple, cast, final

from msgspec.structs import replace

from gateway import memory, observe
from gateway.app.process import give_up_root, later_for, run_loop, send_heartbeats
from gateway.app.tally import CONCURRENCY, Passing, Spent, Tally
from gateway.config import Settings, compile_routes
from gateway.config.tables import Route
from gateway.crypto import Keyring
from gateway.errors import Refused, StoreUnavailable
from gateway.guard import BodyAwaited, Guard, settled
from gateway.http1 import RequestHead, RequestReader
from gateway.proxy.dispatch import Destination, Dispatcher
from gateway.proxy.mirror import EVERY, CallCopy, Telling
from gateway.store import Store, queries
from gateway.supervisor.channel import (
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
# Seconds after a call's begin, when all is known that was under way then or that the database had counted of its quota:
# each call is told of 2 * EVERY after its begin at the latest, and the database is asked when this one is told of.
_LATER: Final = 4 * EVERY + 1.0
_WAITING: Final = 20_000  # calls that wait for that
_LOOK: Final = 0.5  # seconds from one look at them to the next
_NICE: Final = 10
_AWAY: Final = "503 store"
_PASSES: Final = "passes, "
_POOL: Final = 2
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

log = observe.get_logger("gateway.shadow")


class Judge:
    """One configuration's decisions on calls that are over."""

    def __init__(self, settings: Settings, store: Store, spent: Spent, side: int) -> None:
        config = settings.config
        self._dispatcher = Dispatcher(config, compile_routes(config), "")
        self._guard = Guard(store, settings, spends=False)
        self._spent, self._tally = spent, Tally(spent, side)
        self._in_force = side == 0
        self._terms = {route.name: _terms_of(route) for route in config.routes}

    async def start(self) -> None:
        """Follow the change log."""
        await self._guard.start()

    async def close(self) -> None:
        """Do so no longer."""
        await self._guard.close()

    async def decide(self, head: RequestHead, copy: CallCopy) -> "Decided":
        """What becomes of a call, but for its limits, and for the length of its body."""
        dispatcher = self._dispatcher
        address = dispatcher.client(head, dispatcher.peer(copy.peer))
        to = dispatcher.destination(head)
        if isinstance(to, Refused):
            return Decided(_refused(to, None))
        if to.terms.edge is not None:
            own = to.terms.edge.own_answer(head, address)
            if isinstance(own, Refused):
                return Decided(f"{own.status} {own.description}, {_by(to)}")  # its cause names the address
            if own is not None:
                return Decided(f"a preflight that is answered, {_by(to)}")
        judged = await settled(self._guard.check(self._dispatcher.call(head, to)))
        verdict = await judged.spend() if isinstance(judged, BodyAwaited) else judged
        if isinstance(verdict, Refused):
            return Decided(_refused(verdict, to), to, Passing(address, None, copy.began, copy.ended or inf))
        passing = Passing(address, verdict, copy.began, copy.ended or inf)
        if to.route.limits is not None and to.route.limits.quotas:
            try:
                await self._spent.know(to.route.limits, passing, counted=self._in_force and copy.passed)
            except StoreUnavailable:
                return Decided(f"{_AWAY} of quotas", to, passing)
        return Decided(f"{_PASSES}{_by(to)}", to, passing)

    def count(self, decided: "Decided", now: float) -> str:
        """What becomes of a call, its limits included, in words that are the same for calls of one kind."""
        to, passing = decided.to, decided.passing
        limits = None if to is None else to.route.limits
        over = None if limits is None or passing is None else self._tally.over(limits, passing, now)
        if to is None or over is None:
            return decided.words
        return f"{503 if over.what == CONCURRENCY else 429} {over}, {_by(to)}"

    def terms(self, decided: "Decided") -> frozenset[tuple[str, str]]:
        """What else is said of the route that a call passes by: what it is about, and what is said."""
        to, passing = decided.to, decided.passing
        if to is None or passing is None or passing.allowed is None:
            return frozenset()
        return self._terms.get(to.route.name, frozenset())


def judges_of(in_force: Settings, other: Settings, store: Store, others: Store) -> tuple[Judge, Judge]:
    """Those of a configuration that is in force and of another one, each with its store."""
    spent = Spent(store)
    return Judge(in_force, store, spent, 0), Judge(other, others, spent, 1)


class Decided(NamedTuple):
    """What becomes of a call, but for its limits and the length of its body, in words that are the same for calls of
    one kind; where it goes, and as what it counts, as far as that was found."""

    words: str
    to: Destination | None = None
    passing: Passing | None = None

    @property
    def waits(self) -> bool:
        """Whether it hangs on calls that began before it and may be told of after it."""
        limits = None if self.to is None else self.to.route.limits
        return limits is not None and (limits.concurrency > 0 or bool(limits.quotas))

    def with_body(self, words: str, length: int) -> str:
        """The words for a call whose body is of that length, which is looked at last."""
        if self.to is None or length <= self.to.terms.max_body or not words.startswith(_PASSES):
            return words
        return f"413 body longer than {self.to.terms.max_body} bytes, {_by(self.to)}"

    def ends(self, at: float) -> None:
        """The call, which was under way, has ended."""
        if self.passing is not None:
            self.passing.end(at)


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
    return frozenset(said)


def _refused(refused: Refused, to: Destination | None) -> str:
    cause = refused.why[:_LONGEST]
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


@final
class _Call:
    """A call that is compared: what was decided of it, its limits apart, once that is known; and in words, once those
    were counted too."""

    __slots__ = ("copy", "head", "new", "old", "words")

    def __init__(self, copy: CallCopy) -> None:
        self.copy = copy  # as of its end, when that has come
        self.head: RequestHead | None = None
        self.old = self.new = Decided("")
        self.words: tuple[str, str] | None = None

    def decide(self, head: RequestHead, old: Decided, new: Decided) -> None:
        """So much was decided of it, its limits apart."""
        self.head, self.old, self.new = head, old, new

    def count(self, old: str, new: str) -> None:
        """Its words, its limits included, are these."""
        self.words = old, new

    def ends(self, copy: CallCopy) -> None:
        """It was under way, and has ended."""
        self.copy = copy
        self.old.ends(copy.ended)
        self.new.ends(copy.ended)


class Comparison:
    """What two judges said of calls, in bounded memory; `found` hears of each kind that is decided otherwise, once."""

    def __init__(self, before: Judge, after: Judge, channel: Channel) -> None:
        self._before, self._after, self._channel = before, after, channel
        self._kinds: dict[tuple[str, str, str], Differs] = {}
        self._counts = Counter[tuple[str, str, str]]()
        self._calls = self._different = self._missed = self._others = 0
        self._failed = False
        self._long: dict[tuple[object, int], _Call] = {}  # those that are under way, by their worker and its key
        self._waiting: list[tuple[float, int, _Call]] = []  # those to be counted, by when they began
        self._numbers = itertools.count()
        self._clock = 0.0

    async def judge(self, copy: CallCopy, worker: object = None) -> None:
        """Judge a call by both, that has ended or has been under way for a while."""
        self._missed += copy.lost
        key = (worker, copy.key)
        if copy.ended and (known := self._long.pop(key, None)) is not None:
            known.ends(copy)
            if known.words is not None:
                self._compare(known)
            return
        if copy.key and not copy.head:  # the end of a call that could not be judged
            return
        call = _Call(copy)
        if not copy.ended:
            self._long[key] = call
        try:
            away = not await self._decided(call)
        except Exception as exc:  # noqa: BLE001  # a fault of ours is said once, and none of a configuration's
            away = True
            self._fail(exc)
        if not away and (call.old.waits or call.new.waits):
            heapq.heappush(self._waiting, (copy.began, next(self._numbers), call))
            if len(self._waiting) > _WAITING:
                self._count_next()
        elif not call.copy.ended:
            self._long.pop(key, None)  # it is judged when it ends
        elif away:
            self._missed += 1  # the database gave no answer, which no configuration can be blamed for
        else:
            self._count(call, time.monotonic())

    async def _decided(self, call: _Call) -> bool:
        """Have both decide on a call, its limits apart; whether both could."""
        copy, reader = call.copy, RequestReader()
        reader.receive(copy.head)
        head = cast("RequestHead", reader.next_event())
        call.decide(head, *await asyncio.gather(self._before.decide(head, copy), self._after.decide(head, copy)))
        if call.copy is not copy:
            call.ends(call.copy)  # meanwhile
        return not call.old.words.startswith(_AWAY) and not call.new.words.startswith(_AWAY)

    def left(self, worker: object) -> None:
        """A worker tells of nothing more."""
        for key in [key for key in self._long if key[0] is worker]:
            call = self._long.pop(key)
            call.ends(call.copy._replace(ended=time.monotonic()))
            self._missed += 1

    def advance(self, now: float) -> None:
        """Count calls that began long enough ago for all others to be known that were under way then."""
        while self._waiting and self._waiting[0][0] + _LATER <= now:
            self._count_next()

    def _count_next(self) -> None:
        began, _, call = heapq.heappop(self._waiting)
        self._count(call, began)

    def _count(self, call: _Call, at: float) -> None:
        """Both decisions with the limits, taken at one moment, which never goes back."""
        self._clock = max(self._clock, at)
        try:
            call.count(self._before.count(call.old, self._clock), self._after.count(call.new, self._clock))
        except Exception as exc:  # noqa: BLE001  # as above
            self._missed += 1
            self._fail(exc)
            return
        if call.copy.ended:
            self._compare(call)

    def _fail(self, exc: Exception) -> None:
        if not self._failed:
            self._failed = True
            log.error("calls cannot be judged, and count as missed", exc_info=exc)

    def _compare(self, call: _Call) -> None:
        """Note what becomes of a call that has ended, where that is not the same by both."""
        if call.words is None or call.head is None:
            raise TypeError("a call is counted before it is compared")
        length = max(call.head.length or 0, call.copy.received)
        before, after = call.old.with_body(call.words[0], length), call.new.with_body(call.words[1], length)
        if before.startswith(_PASSES) and after.startswith(_PASSES):
            others = sorted({about for about, _ in self._before.terms(call.old) ^ self._after.terms(call.new)})
            after += f", with other {', '.join(others)}"[:_LONGEST] if others else ""
        self._calls += 1
        if before != after:
            self._different += 1
            self._note(call.head, call.copy, before, after)

    def _note(self, head: RequestHead, copy: CallCopy, before: str, after: str) -> None:
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
                request_id=copy.request_id.decode("latin-1"),
            )
            self._channel.send(self._kinds[key])
        self._counts[key] += 1

    def report(self) -> Compared:
        """All of it, the most frequent kinds first; of calls that go on still, nothing."""
        self.advance(inf)
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
        for copy in self._telling.receive(data):
            task = asyncio.get_running_loop().create_task(self._comparison.judge(copy, self))
            self._tasks.add(task)
            task.add_done_callback(self._judged)
        if len(self._tasks) > _UNDER_WAY and self._transport is not None:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # the protocol's signature
        self._comparison.left(self)

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
        stores = list[Store]()
        for settings in (start.settings, compare.settings):
            store = Store.over(start.dsn, cast("Keyring", settings.keyring), size=_POOL, name="gateway-shadow")
            stack.push_async_callback(store.close)
            stores.append(store)
        judges = judges_of(start.settings, compare.settings, *stores)
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
        for task in (asyncio.create_task(send_heartbeats(channel)), asyncio.create_task(_look(comparison))):
            stack.callback(task.cancel)
        memory.settle()
        channel.send(Ready())
        message = await channel.receive()
        if isinstance(message, Drain):
            with suppress(TimeoutError):
                async with asyncio.timeout(message.seconds):
                    while tasks:
                        await asyncio.wait(tasks)
            channel.send(comparison.report())
            await channel.receive()  # the supervisor has read it, and ends the channel


async def _look(comparison: Comparison) -> None:
    while True:
        await asyncio.sleep(_LOOK)
        comparison.advance(time.monotonic())
