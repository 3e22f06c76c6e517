"""The parent process: it opens the listening sockets, owns the embedded Postgres, and keeps the workers alive.

At the start, in this order, so that each fault shows before anything is half done: sockets, master key, database,
schema, key against data, workers. At the end, on SIGTERM, SIGINT or SIGHUP: `/readyz` says 503, the workers finish
what is in flight (30 s), then the database stops; a second signal does not wait for them.

The workers die with this process however it ends (see `lifeline`), and so does its Postgres.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, cast

from aiohttp import web

from gateway import observe
from gateway.config import Settings
from gateway.crypto import Keyring
from gateway.errors import StoreUnavailable
from gateway.observe import Level, get_logger
from gateway.store import Store
from gateway.store.migrations import migrate
from gateway.supervisor.admin import Health, create_app
from gateway.supervisor.channel import Start
from gateway.supervisor.embedded import Server
from gateway.supervisor.folder import private_folder
from gateway.supervisor.keys import with_master_key
from gateway.supervisor.listening import listen
from gateway.supervisor.workers import Workers

DRAIN: Final = 30.0  # seconds for what is in flight
_PROBE: Final = 2.2  # so that /readyz answers within 2.5 s whatever the database does

log = get_logger("gateway.supervisor")


def serve(
    settings: Settings, *, workers: int | None = None, level: Level = "info", on_ready: Callable[[], None] | None = None
) -> None:
    """Serve until a signal ends it. `on_ready` is called once, when all workers were ready.

    To be called from the main thread. Raises OperatorError for what the operator can mend before it serves.
    """
    observe.start("supervisor", level)
    asyncio.run(_Supervisor(settings, workers or settings.config.server.workers, level).run(on_ready))


class _Supervisor:
    def __init__(self, settings: Settings, count: int, level: Level) -> None:
        self._settings, self._count, self._level = settings, count, level
        self._workers: Workers | None = None
        self._store: Store | None = None
        self._ending = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None

    async def run(self, on_ready: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        self._starting = asyncio.current_task()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signum, self._end, signum)
        try:
            await self._serve(on_ready)
        except asyncio.CancelledError:
            if not self._ending.is_set():
                raise
        log.info("stopped")

    async def _serve(self, on_ready: Callable[[], None] | None) -> None:
        config = self._settings.config
        listener, admin = listen({"server.listen": config.server.address, "admin.listen": config.admin.address})
        async with AsyncExitStack() as stack:
            stack.callback(listener.close)
            await stack.enter_async_context(_served(admin, self._health))
            self._settings = with_master_key(self._settings)
            dsn = await stack.enter_async_context(_database(self._settings))
            keyring = cast("Keyring", self._settings.keyring)
            self._store = await Store.open(dsn, keyring, size=1, name="gateway-supervisor")
            stack.push_async_callback(self._store.close)
            await self._warn_of_undefined_scopes()
            folder = stack.enter_context(private_folder())
            await self._run_workers(listener, dsn, str(folder), on_ready)

    async def _warn_of_undefined_scopes(self) -> None:
        """Tell of scopes that routes ask for and nobody defined: no token could carry them."""
        config = self._settings.config
        defined = {scope.name for scope in await cast("Store", self._store).scopes()} | config.scopes.keys()
        for route in config.routes:
            for name in sorted(route.all_scopes - defined):
                log.warning(
                    "undefined scope",
                    route=route.name,
                    scope=name,
                    mend=f"gateway scope create {name} --description …, or describe it under [scopes]",
                )

    async def _run_workers(
        self, listener: socket.socket, dsn: str, folder: str, on_ready: Callable[[], None] | None
    ) -> None:
        def start(number: int) -> Start:
            return Start(
                settings=self._settings,
                dsn=dsn,
                folder=folder,
                number=number,
                supervisor=os.getpid(),
                level=self._level,
            )

        self._workers, self._starting = Workers(self._count, listener, start), None
        for warning in self._settings.warnings:
            log.warning("configuration", advice=warning)
        running = asyncio.create_task(self._workers.run())
        others = [asyncio.create_task(self._announce(on_ready)), asyncio.create_task(self._ending.wait())]
        try:
            await asyncio.wait([running, others[1]], return_when=asyncio.FIRST_COMPLETED)
        finally:
            listener.close()
            self._workers.drain(DRAIN)
            await running
            for task in others:
                task.cancel()

    async def _announce(self, on_ready: Callable[[], None] | None) -> None:
        workers = cast("Workers", self._workers)
        await workers.wait_ready()
        config = self._settings.config
        log.info(
            "serving",
            listen=config.server.listen,
            public_url=config.server.public_url,
            admin=config.admin.listen,
            workers=workers.count,
            database="embedded" if config.database.embedded else "external",
        )
        if on_ready is not None:
            on_ready()

    def _end(self, signum: int) -> None:
        if not self._ending.is_set():
            log.info("stopping", signal=signal.Signals(signum).name, drain_seconds=DRAIN)
            self._ending.set()
            if self._starting is not None:  # a start may wait long, for a lock or a recovery
                self._starting.cancel()
        elif self._workers is not None:
            log.warning("stopping at once", signal=signal.Signals(signum).name)
            self._workers.kill()

    async def _health(self) -> Health:
        workers = self._workers
        return Health(
            workers=self._count,
            workers_ready=0 if workers is None else workers.ready,
            database=await self._database_answers(),
            draining=self._ending.is_set(),
        )

    async def _database_answers(self) -> bool:
        if self._store is None:
            return False
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(_PROBE):
                await self._store.ping()
                return True
        return False


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[str]:
    """The DSN to use: an external one as it is, or the embedded server's, started and migrated."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    server = Server(
        settings.data_dir,
        on_death=lambda status: log.error("the embedded database ended and is started again", status=status),
        on_failure=lambda exc: log.error("the embedded database cannot be started again yet", cause=str(exc)),
        on_ready=lambda pid: log.debug("the embedded database is ready", database_pid=pid),
    )
    async with server:
        await migrate(server.dsn)
        yield server.dsn


@asynccontextmanager
async def _served(sock: socket.socket, health: Callable[[], Awaitable[Health]]) -> AsyncIterator[None]:
    runner = web.AppRunner(create_app(health), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield
    finally:
        await runner.cleanup()
