"""The authorization plane as a process: sign-in, consent and tokens on a private socket, which the access plane asks.

What must be done now and then for all, whoever does it, is done here too, where no call waits for it.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, cast

from aiohttp.web import Server

from gateway import observe
from gateway.app.process import LATER, Service, give_up_root, store_of
from gateway.errors import StoreUnavailable
from gateway.store import Store
from gateway.supervisor.channel import Drain, Start
from gateway.supervisor.connections import AUTHORIZATION_POOL
from gateway.supervisor.listening import BACKLOG
from gateway.web import back_channel
from gateway.web.app import create_app, create_runner, load
from gateway.web.plane import PLANE

_SWEEP_EVERY: Final = 10.0
_SWEEP_BATCH: Final = 1000
_CHAIN_EVERY: Final = 10.0
_CHAIN_PAUSE: Final = 0.5
_CHAIN_AT_ONCE: Final = 500  # events: calls wait for no more, and each further transaction costs more than it spares
_CHAIN_BREATH: Final = 0.02  # before more of them
_TELL_EVERY: Final = 3600.0
_CHAIN_MEND: Final = (
    "`gateway events verify` says what is wrong with it; `gateway events begin-anew` begins another one when you know"
)

log = observe.get_logger("gateway.worker")


@asynccontextmanager
async def serving(start: Start, listener: socket.socket) -> AsyncIterator[Service]:
    """Serve the pages and endpoints. The supervisor drains the access plane first, which then asks no more."""
    async with AsyncExitStack() as stack:
        store = store_of(start, AUTHORIZATION_POOL)
        stack.push_async_callback(store.close)
        with suppress(StoreUnavailable):  # the sweep looks again when the database is back
            await store.upkeep.compare_clocks()
        app = create_app(start.settings, store)
        load(app)
        give_up_root(start, (*LATER, "argon2", "gateway.most_used_passwords"))
        runner = create_runner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        # As any socket: what is made for unix sockets would remove the path, which others listen on too.
        server = await asyncio.get_running_loop().create_server(
            cast("Server", runner.server), sock=listener, backlog=BACKLOG, start_serving=False
        )
        stack.callback(server.close)
        for upkeep in (_sweep(store), _chain(store), back_channel.run(app[PLANE]), app[PLANE].announced.follow()):
            stack.callback(asyncio.create_task(upkeep).cancel)

        def report() -> None:
            app[PLANE].passwords.report()
            store.report()

        yield Service(server.start_serving, server.close, _nothing_to_drain, report, lambda: None, app[PLANE].recall)


async def _nothing_to_drain(_drain: Drain) -> None:
    """Whoever asked has had its answer, and closing the runner waits for a handler that still runs."""


async def _chain(store: Store) -> None:
    """Give events their places in the chain soon after they were written, for as long as the process lives.

    A pause in between lets one transaction do for many, but for no more than callers do not notice; what others wrote
    is looked for now and then.
    """
    logged_at, anchor, fault, pause = -_TELL_EVERY, "", "", _CHAIN_PAUSE
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CHAIN_EVERY):
                await store.recorder.wrote.wait()
        store.recorder.wrote.clear()
        await asyncio.sleep(pause)
        pause = _CHAIN_PAUSE
        try:
            waited = await store.chain.extend(_CHAIN_AT_ONCE)
            if waited is None or waited > 0:
                store.recorder.wrote.set()
            if waited == _CHAIN_AT_ONCE:  # more may wait
                pause = _CHAIN_BREATH
            fault = ""
        except StoreUnavailable:  # it is looked again when the database is back
            continue
        except Exception as exc:
            if str(exc) != fault:
                log.error("the record of events cannot be continued", exc_info=exc, mend=_CHAIN_MEND)
                fault = str(exc)
        now = asyncio.get_running_loop().time()
        if store.chain.anchor != anchor and now - logged_at >= _TELL_EVERY:
            logged_at, anchor = now, store.chain.anchor
            log.info("the record of events is proven this far", anchor=anchor)


async def _sweep(store: Store) -> None:
    """Remove what expired, a bounded batch at a time, for as long as the process lives."""
    while True:
        try:
            busy = await store.upkeep.sweep(_SWEEP_BATCH) >= _SWEEP_BATCH
        except StoreUnavailable:
            busy = False
        except Exception as exc:  # what expired can wait; requests cannot
            log.error("expired data could not be removed; this is tried again", exc_info=exc)
            busy = False
        await asyncio.sleep(0.1 if busy else _SWEEP_EVERY)
