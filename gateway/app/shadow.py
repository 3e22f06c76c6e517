"""The shadow: a process that judges live calls by two configurations, and says which it would decide otherwise.

    worker ── each call that has ended ──▶ shadow: route, credential, token, scope, limits, by either configuration
                                             └──▶ supervisor ──▶ `gateway reload --shadow`

Both judge a call at the same moment and by the same database, so that what differs is the configurations' doing. It is
told of calls when they are over, decides nothing, spends no nonce and writes nothing; whatever becomes of it, calls do
not notice. How a body is judged that must fit a signed hash, and what an upstream would have answered, it cannot know.
"""

import asyncio
import os
import resource
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Final, cast

from gateway import observe
from gateway.app.process import give_up_root, later_for, run_loop
from gateway.config import Settings, compile_routes
from gateway.crypto import Keyring
from gateway.guard import Guard, Refused, settled
from gateway.http1 import RequestHead, RequestReader
from gateway.proxy.dispatch import Destination, Dispatcher
from gateway.proxy.mirror import Telling, Told
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
_NICE: Final = 10
_POOL: Final = 2
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

log = observe.get_logger("gateway.shadow")


class Judge:
    """One configuration's decisions on calls that are over."""

    def __init__(self, settings: Settings, store: Store) -> None:
        config = settings.config
        self._dispatcher = Dispatcher(config, compile_routes(config), "")
        self._guard = Guard(store, settings, spends=False)

    async def start(self) -> None:
        """Follow the change log."""
        await self._guard.start()

    async def close(self) -> None:
        """Do so no longer."""
        await self._guard.close()

    async def decide(self, head: RequestHead, told: Told) -> str:
        """What becomes of a call, in words that are the same for calls of one kind."""
        to = self._dispatcher.destination(head)
        if isinstance(to, Refused):
            return _refused(to, None)
        if to.terms.edge is not None:
            own = to.terms.edge.judge(head, self._dispatcher.client(head, self._dispatcher.peer(told.peer)))
            if isinstance(own, Refused):
                return f"{own.status} {own.description}, {_by(to)}"  # its cause names the address
            if own is not None:
                return f"a preflight that is answered, {_by(to)}"
        verdict = await settled(self._guard.check(self._dispatcher.call(head, to)))
        if isinstance(verdict, Refused):
            return _refused(verdict, to)
        if max(head.length or 0, told.received) > to.terms.max_body:
            return f"413 body longer than {to.terms.max_body} bytes, {_by(to)}"
        return f"passes, {_by(to)}"


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
            before, after = await asyncio.gather(self._before.decide(head, told), self._after.decide(head, told))
        except Exception as exc:  # a fault of ours is said once, and none of a configuration's
            self._missed += 1
            if not self._failed:
                self._failed = True
                log.error("calls cannot be judged, and count as missed", exc_info=exc)
            return
        if before.startswith("503 store") or after.startswith("503 store"):
            self._missed += 1  # the database gave no answer, which no configuration can be blamed for
            return
        self._calls += 1
        if before != after:
            self._different += 1
            self._note(head, told, before, after)

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
