"""The life of every serving process: it learns its part, serves, drains and ends.

The supervisor says which part it has (`channel.Start`) and when to accept connections. A process never ends because the
database does: it answers 503 and recovers. It ends on SIGTERM or when told to drain, after what is in flight; and at
once when the supervisor is gone.
"""

import asyncio
import contextlib
import importlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, cast

from msgspec import Struct

from gateway import figures, memory, observe
from gateway.config import Config
from gateway.config.tls import Certified
from gateway.crypto import Keyring
from gateway.store import Store, queries
from gateway.supervisor.channel import (
    HEARTBEAT,
    Alive,
    Certify,
    Channel,
    Closed,
    Drain,
    Mirror,
    Ready,
    Recall,
    Recalled,
    Reopen,
    Serve,
    Start,
)
from gateway.supervisor.lifeline import become, die_with_parent, is_child_of


class Service(Struct, frozen=True):
    """A plane's listener, as its process uses it. `accept` begins to take connections, `close` takes no more, and
    `drain` lets what is in flight end; `report` says in the figures what there is, `reopen` goes on at what has the
    access log's name now, `recall` tells what is remembered of a call, as something that JSON has, and `mirror` tells
    the shadow at a path of calls, and `certify` shows other certificates."""

    accept: Callable[[], Awaitable[None]]
    close: Callable[[], None]
    drain: Callable[[Drain], Awaitable[None]]
    report: Callable[[], None]
    reopen: Callable[[], None]
    recall: Callable[[str], object]
    mirror: Callable[[str], None] = lambda _path: None
    certify: Callable[[tuple[Certified, ...]], None] = lambda _certificates: None


Serving = Callable[[Start, socket.socket], AbstractAsyncContextManager[Service]]
"""Makes a plane's service over a listening socket; it lasts as long as the context."""

_REPORT: Final = 1.0  # seconds
_DRAIN: Final = Drain(30.0)  # when ended by SIGTERM instead of the supervisor
LATER: Final = ("cryptography.hazmat.primitives.ciphers.aead", "encodings.idna", "gateway.oauth.signing")
"""Modules that the first call that needs them would import otherwise, in any plane."""

log = observe.get_logger("gateway.worker")


def run(serving: Serving, listener: int, control: int) -> None:
    """Serve a plane on the inherited sockets, until the supervisor or a signal ends it."""
    die_with_parent()
    os.umask(0o077)
    _raise_file_limit()
    try:
        run_loop(_obey(serving, socket.socket(fileno=listener), socket.socket(fileno=control)))
    except Exception as exc:  # a line of the log, as all that it says
        log.critical("the worker cannot go on and exits; another one is started", exc_info=exc)
        sys.exit(1)


def store_of(start: Start, connections: int) -> Store:
    """The store of a process, over a pool of its own of so many at most; it connects when it is asked something."""
    keyring = cast("Keyring", start.settings.keyring)  # the supervisor has made one by now
    queries.load()  # as long as the process may read them
    settings = start.settings
    return Store.over(
        start.dsn,
        keyring,
        size=connections,
        tokens=settings.config.tokens,
        replicas=settings.replicas,
        nonces=settings.nonces,
        issuer=settings.config.server.issuer,
    )


def later_for(*configs: Config) -> Sequence[str]:
    """`LATER` for a plane that judges calls: the first token of another issuer needs more."""
    return (*LATER, "gateway.guard.published") if any(config.trusted_issuers for config in configs) else LATER


def give_up_root(start: Start, later: Sequence[str] = LATER) -> None:
    """Become the user that serves, where root has started this process: all files were read, no stranger was heard.

    `later` are modules that a call may need yet, for one who could not read them any more.
    """
    if start.user is None:
        return
    if start.load_all:
        for name in later:
            importlib.import_module(name)
    become(start.user)
    if not is_child_of(start.supervisor):
        sys.exit(1)


def run_loop(main: Coroutine[Any, Any, None]) -> None:
    """Run a process's loop."""
    try:
        import uvloop
    except ImportError:  # where it has none, asyncio serves, slower
        asyncio.run(main)
    else:
        uvloop.run(main)


def _raise_file_limit() -> None:
    """Every connection is two descriptors: take all that the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _obey(serving: Serving, listener: socket.socket, control: socket.socket) -> None:
    channel = await Channel.over(control)
    start = await channel.receive()
    if not isinstance(start, Start) or not is_child_of(start.supervisor):
        return
    observe.start(start.name, start.level)
    figures.share(start.figures)
    accepting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    ending: asyncio.Future[Drain] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _end, ending, _DRAIN)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: None)  # before there is a log
    services = list[Service]()  # ours, once it is there
    missed = list[Certify]()  # before
    listening = asyncio.create_task(_listen(channel, accepting, ending, services, missed))
    listening.add_done_callback(lambda done: _end_without_channel(done, ending))
    beating = asyncio.create_task(send_heartbeats(channel))
    reporting: asyncio.Task[None] | None = None
    try:
        async with serving(start, listener) as service:
            memory.settle()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, service.reopen)
            services.append(service)
            for message in missed:
                service.certify(message.certificates)
            channel.send(Ready())
            reporting = asyncio.create_task(_report(service))
            await asyncio.wait((accepting, ending), return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                await service.accept()
            drain = await ending
            service.close()
            channel.send(Closed())
            await service.drain(drain)
    finally:
        for task in (beating, listening, reporting):
            if task is not None:
                task.cancel()
        channel.close()


async def send_heartbeats(channel: Channel) -> None:
    """Let the supervisor know that this loop turns."""
    while True:
        await asyncio.sleep(HEARTBEAT)
        channel.send(Alive())


async def _report(service: Service) -> None:
    """Say in the figures, time and again, what there is."""
    while True:
        service.report()
        await asyncio.sleep(_REPORT)


async def _listen(
    channel: Channel,
    accepting: asyncio.Future[None],
    ending: asyncio.Future[Drain],
    services: Sequence[Service],
    missed: list[Certify],
) -> None:
    """Follow the supervisor; when it is gone, nothing is left to do."""
    hastened = list[asyncio.Future[None]]()  # when what drains already is given less time
    while (message := await channel.receive()) is not None:
        if isinstance(message, Drain):
            hastened += [asyncio.ensure_future(service.drain(message)) for service in services if ending.done()]
            _end(ending, message)
        elif isinstance(message, Reopen):
            for service in services:
                service.reopen()
        elif isinstance(message, Certify):
            missed[:] = [] if services else [message]
            for service in services:
                service.certify(message.certificates)
        elif isinstance(message, Mirror):
            for service in services:
                service.mirror(message.path)
        elif isinstance(message, Serve) and not accepting.done():
            accepting.set_result(None)
        elif isinstance(message, Recall):
            for service in services:
                channel.send(Recalled(message.number, _recalled(service.recall, message.request_id)))
    log.error("the supervisor is gone, so this worker ends")
    sys.stderr.flush()
    os._exit(1)


def _recalled(recall: Callable[[str], object], request_id: str) -> object:
    """What is remembered of a call; a fault in telling of it ends nothing but that."""
    try:
        return recall(request_id)
    except Exception as exc:
        log.error("what is remembered of a call could not be told", request_id=request_id, exc_info=exc)
        return None


def _end_without_channel(done: "asyncio.Task[None]", ending: "asyncio.Future[Drain]") -> None:
    """A process that cannot hear the supervisor any more ends, so that another takes its place."""
    if not done.cancelled() and (fault := done.exception()) is not None:
        log.error("the control channel failed, so this worker ends and is replaced", exc_info=fault)
        _end(ending, _DRAIN)


def _end(ending: "asyncio.Future[Drain]", drain: Drain) -> None:
    if not ending.done():
        ending.set_result(drain)
