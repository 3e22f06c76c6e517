"""A worker: the composition root of both planes.

    inherited socket → Proxy ── routes ─────→ upstreams            asked: Guard → Store
                             └─ our own paths → private unix socket → aiohttp (gateway.web) → Store

The supervisor says what to be (`channel.Start`). A worker never ends because the database does: it answers 503 and
recovers. It ends on SIGTERM or when told to drain, after what is in flight; and at once when the supervisor is gone.
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web

from gateway import observe
from gateway.config import compile_routes
from gateway.crypto import Keyring
from gateway.errors import StoreUnavailable
from gateway.guard import Guard
from gateway.proxy import Proxy
from gateway.store import Store
from gateway.supervisor.channel import Channel, Drain, Ready, Start
from gateway.supervisor.lifeline import die_with_parent, is_child_of
from gateway.supervisor.listening import BACKLOG
from gateway.supervisor.workers import socket_path
from gateway.web import create_app, create_runner, refusal_page

_DRAIN: Final = 30.0  # seconds, when ended by SIGTERM instead of the supervisor
_SWEEP_EVERY: Final = 10.0
_SWEEP_BATCH: Final = 1000

log = observe.get_logger("gateway.worker")


def work(listener: int, control: int) -> None:
    """Be a worker on the inherited sockets, until it is told to end."""
    die_with_parent()
    os.umask(0o077)
    _raise_file_limit()
    try:
        _run(_work(socket.socket(fileno=listener), socket.socket(fileno=control)))
    except Exception as exc:  # a line of the log, as all that a worker says
        log.critical("the worker cannot go on", exc_info=exc)
        sys.exit(1)


def _run(main: Coroutine[Any, Any, None]) -> None:
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


async def _work(listener: socket.socket, control: socket.socket) -> None:
    channel = await Channel.over(control)
    start = await channel.receive()
    if not isinstance(start, Start) or not is_child_of(start.supervisor):
        return
    observe.start(f"worker-{start.number}", start.level)
    ending: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _end, ending, _DRAIN)
    listening = asyncio.create_task(_obey(channel, ending))
    listening.add_done_callback(lambda done: _end_deaf(done, ending))
    try:
        await _serve(start, listener, channel, ending)
    finally:
        listening.cancel()
        channel.close()


async def _serve(start: Start, listener: socket.socket, channel: Channel, ending: asyncio.Future[float]) -> None:
    settings = start.settings
    async with AsyncExitStack() as stack:
        keyring = cast("Keyring", settings.keyring)  # the supervisor has made one by now
        store = Store.over(start.dsn, keyring, tokens=settings.config.tokens)
        stack.push_async_callback(store.close)
        path = socket_path(start.folder, start.number)
        await stack.enter_async_context(_authorization_plane(create_app(settings, store), path))
        guard = Guard(store, settings)
        await guard.start()
        stack.push_async_callback(guard.close)
        proxy = Proxy(
            routes=compile_routes(settings.config),
            config=settings.config,
            guard=guard,
            authorization_socket=path,
            refusal_page=refusal_page(settings),
        )
        stack.callback(proxy.close)
        sweeping = asyncio.create_task(_sweep(store))
        stack.callback(sweeping.cancel)
        server = await asyncio.get_running_loop().create_server(proxy.front, sock=listener, backlog=BACKLOG)
        _settle()
        channel.send(Ready())
        seconds = await ending
        server.close()
        await proxy.drain(seconds)


def _settle() -> None:
    """Give back what the start took, spare the collector what lives as long as the worker, and let it look seldom:
    an exchange leaves no cycles."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # only glibc keeps what is free until it is asked
        ctypes.CDLL(None).malloc_trim(0)
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@asynccontextmanager
async def _authorization_plane(app: web.Application, path: str) -> AsyncIterator[None]:
    """aiohttp on a unix socket that only this user can open; the supervisor removes it."""
    runner = create_runner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, path).start()
        _restrict(Path(path))
        yield
    finally:
        await runner.cleanup()


def _restrict(path: Path) -> None:
    path.chmod(0o600)  # its folder is 0700, so nobody came in between


async def _obey(channel: Channel, ending: asyncio.Future[float]) -> None:
    """Follow the supervisor; when it is gone, nothing is left to do."""
    while (message := await channel.receive()) is not None:
        if isinstance(message, Drain):
            _end(ending, message.seconds)
    log.error("the supervisor is gone")
    sys.stderr.flush()
    os._exit(1)


def _end_deaf(done: "asyncio.Task[None]", ending: "asyncio.Future[float]") -> None:
    """A worker that cannot hear the supervisor any more ends, so that another takes its place."""
    if not done.cancelled() and (fault := done.exception()) is not None:
        log.error("the control channel failed", exc_info=fault)
        _end(ending, _DRAIN)


def _end(ending: "asyncio.Future[float]", seconds: float) -> None:
    if not ending.done():
        ending.set_result(seconds)


async def _sweep(store: Store) -> None:
    """Remove what expired, a bounded batch at a time, for as long as the worker lives."""
    while True:
        try:
            busy = await store.sweep(_SWEEP_BATCH) >= _SWEEP_BATCH
        except StoreUnavailable:
            busy = False
        except Exception as exc:  # what expired can wait; requests cannot
            log.error("sweeping failed", exc_info=exc)
            busy = False
        await asyncio.sleep(0.1 if busy else _SWEEP_EVERY)
