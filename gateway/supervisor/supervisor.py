"""The parent process: it opens the listening sockets, owns the embedded Postgres, and keeps the workers alive.

At the start, in this order, so that each fault shows before anything is half done: sockets, master key, database,
schema, key against data, workers. On SIGHUP the configuration is read again, and new workers take over with it once all
of them are ready. At the end, on SIGTERM or SIGINT: `/readyz` says 503, the workers finish what is in flight (30 s),
then the database stops; a second signal does not wait for them.

The workers die with this process however it ends (see `lifeline`), and so does its Postgres.
"""

import asyncio
import contextlib
import itertools
import signal
import socket
import time
from asyncio import FIRST_COMPLETED
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, cast

from aiohttp import web
from msgspec import to_builtins

from gateway import memory, observe
from gateway.config import Settings
from gateway.config.tls import Certified
from gateway.crypto import Keyring
from gateway.errors import StoreUnavailable
from gateway.faults import OperatorError
from gateway.figures import CONFIGURED_AT, RELOAD_REFUSED, RELOADS, WORKERS
from gateway.observe import Level, get_logger
from gateway.store import Store, spreading
from gateway.store.migrations import migrate
from gateway.store.privileges import require_privileges
from gateway.supervisor.admin import Health, create_app
from gateway.supervisor.certificates import keep_certificates
from gateway.supervisor.connections import GENERATIONS, max_connections, needed, require_room, room_in
from gateway.supervisor.control import Outcome, Teller, controlled
from gateway.supervisor.embedded import Server
from gateway.supervisor.folder import private_folder
from gateway.supervisor.generation import Generation, first_of
from gateway.supervisor.keys import with_master_key
from gateway.supervisor.listening import leave, listen
from gateway.supervisor.metrics import Counts
from gateway.supervisor.reload import changes, require_reloadable
from gateway.supervisor.shadow import Found, Shadow, ShadowOutcome
from gateway.supervisor.systemd import Manager, handed_over, place_of
from gateway.supervisor.telling import make_log, require_traces
from gateway.supervisor.users import SystemUser, worker_user

DRAIN: Final = 30.0  # seconds for what is in flight
_REFUSED: Final = "reload refused, the previous configuration stays in force"
_CLIENTS_NAMED: Final = 10
_ENDED: Final = Outcome(faults=["the gateway is stopping"])
_PROBE: Final = 2.2  # so that /readyz answers within 2.5 s whatever the database does

log = get_logger("gateway.supervisor")


def serve(
    settings: Settings,
    *,
    workers: int | None = None,
    level: Level = "info",
    on_ready: Callable[[], None] | None = None,
    reload: Callable[[], Settings] | None = None,
    listeners: tuple[socket.socket, socket.socket] | None = None,
) -> None:
    """Serve until a signal ends it. `on_ready` is called once, when all workers were ready; `reload` reads the
    configuration anew on SIGHUP, which is one more signal to end where nothing is to be read. `listeners` are the
    public and the admin socket where they are open already.

    To be called from the main thread. Raises OperatorError for what the operator can mend before it serves.
    """
    observe.start("supervisor", level)
    asyncio.run(_Supervisor(settings, workers, level, reload, listeners).run(on_ready))


class _Supervisor:
    def __init__(
        self,
        settings: Settings,
        count: int | None,
        level: Level,
        reload: Callable[[], Settings] | None,
        listeners: tuple[socket.socket, socket.socket] | None,
    ) -> None:
        self._settings, self._count, self._level, self._reload = settings, count, level, reload
        self._listeners = listeners
        self._handover: tuple[socket.socket, socket.socket] | None = None
        self._generation: Generation | None = None
        self._lives: dict[Generation, asyncio.Task[None]] = {}  # also of those that drain
        self._store: Store | None = None
        self._user: SystemUser | None = None  # of the workers, where that is not ours
        self._counts = Counts()
        self._ending, self._reload_asked = asyncio.Event(), asyncio.Event()
        self._askers = list[asyncio.Future[Outcome]]()  # who wait to hear how the reload went
        self._starting: asyncio.Task[None] | None = None
        self._shadowed = False
        self._started_for = 0  # connections of the embedded database
        self._manager = Manager.found()

    async def run(self, on_ready: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        self._counts.begin()
        self._starting = asyncio.current_task()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(signum, self._end, signum)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen)
        if self._reload is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload_asked.set)
        try:
            await self._serve(on_ready)
        except asyncio.CancelledError:
            if not self._ending.is_set():
                raise
        log.info("stopped")

    async def _serve(self, on_ready: Callable[[], None] | None) -> None:
        config = self._settings.config
        listener, admin = self._listeners or _listen(self._settings)
        async with AsyncExitStack() as stack:
            stack.callback(leave, config.server.address)
            stack.callback(listener.close)
            self._handover = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            for end in self._handover:
                stack.callback(end.close)
            operators = create_app(lambda: self._settings.config.admin, self._health, self._metrics, self._recall)
            await stack.enter_async_context(_served(operators, admin))
            self._user = worker_user(self._settings.data_dir, config.server.user)
            self._settings = with_master_key(self._settings)
            self._started_for = max_connections(self._settings, self._workers_of(self._settings))
            dsn = await stack.enter_async_context(_database(self._settings, self._started_for))
            stack.push_async_callback(self._close_store)
            await self._open_store(dsn, self._settings)
            await _require_spreading(self._settings, dsn)
            await self._warn(self._settings)
            make_log(self._settings, self._user)
            require_traces(self._settings)
            folder = stack.enter_context(private_folder(self._user))
            answerers: dict[str, Callable[[str], Awaitable[object]]] = {"explain": self._recall}
            tellers = dict[str, Teller]()
            if self._reload is not None:
                answerers["reload"] = self._reload_for
                tellers["shadow"] = partial(self._shadow_for, dsn, folder)
            await stack.enter_async_context(controlled(self._settings.path, answerers, tellers))
            await self._run_generations(listener, dsn, folder, on_ready)

    async def _open_store(self, dsn: str, settings: Settings) -> None:
        """Ask the database with the keys of these settings. Raises OperatorError when they do not fit the data."""
        fresh = await Store.open(dsn, cast("Keyring", settings.keyring), size=1, name="gateway-supervisor")
        await self._close_store()
        self._store = fresh

    async def _close_store(self) -> None:
        if self._store is not None:
            await self._store.close()

    async def _warn(self, settings: Settings) -> None:
        """Tell of what can be meant but seldom is; among it scopes that routes ask for and nobody defined."""
        for warning in settings.warnings:
            log.warning("configuration", advice=warning)
        with contextlib.suppress(StoreUnavailable):
            defined = await cast("Store", self._store).scopes.defined(settings.config.scopes)
            for route in settings.config.routes:
                for name in sorted(route.all_scopes - defined.keys()):
                    log.warning(
                        "undefined scope",
                        route=route.name,
                        scope=name,
                        mend=f"gateway scope create {name} --description …, or describe it under [scopes]",
                    )
            holders: dict[str, list[str]] = {}
            for client in await cast("Store", self._store).clients.all():
                for name in client.scopes - defined.keys():
                    holders.setdefault(name, []).append(client.client_id)
            for name in sorted(holders):
                log.warning(
                    "undefined scope that clients may ask for",
                    scope=name,
                    clients=holders[name][:_CLIENTS_NAMED],
                    count=len(holders[name]),
                    mend="define it again, or take it from each with gateway client update ID --scope …",
                )

    # -- generations of workers ---------------------------------------------------------------------------------

    async def _run_generations(
        self, listener: socket.socket, dsn: str, folder: Path, on_ready: Callable[[], None] | None
    ) -> None:
        """Serve with one generation after another, until it is to end; then let the last ones finish."""
        numbers = itertools.count(1)

        async with asyncio.TaskGroup() as lives:

            def begin(settings: Settings) -> Generation:
                generation = Generation(
                    settings,
                    workers=self._workers_of(settings),
                    listener=listener,
                    path=folder / f"authorization-{next(numbers)}.sock",
                    dsn=dsn,
                    level=self._level,
                    counts=self._counts,
                    user=self._user,
                    handover=self._handover,
                )
                self._lives[generation] = life = lives.create_task(generation.run())
                life.add_done_callback(lambda _: self._lives.pop(generation))
                return generation

            self._generation, self._starting = begin(self._settings), None
            self._generation.serve()
            announcing = lives.create_task(self._announce(self._generation, listener, on_ready))
            showing_life = lives.create_task(self._manager.show_life())
            keeping = lives.create_task(keep_certificates(lambda: self._settings, self._certify))
            while not self._ending.is_set():
                await first_of(self._ending.wait(), self._reload_asked.wait())
                if len(self._lives) >= GENERATIONS:  # each takes memory and connections
                    await first_of(self._ending.wait(), asyncio.wait(self._lives.values(), return_when=FIRST_COMPLETED))
                if self._reload_asked.is_set() and not self._ending.is_set():
                    self._reload_asked.clear()
                    askers, self._askers = self._askers, []
                    if was_ready := announcing.done():
                        self._manager.reloading()
                    outcome = await self._renew(begin, dsn)
                    if was_ready and not self._ending.is_set():
                        self._manager.ready("The last reload was refused" if outcome.faults else self._status())
                    if outcome is not _ENDED:
                        _count_reload(outcome)
                    for asker in askers:
                        asker.set_result(outcome)
                    if not announcing.done():  # what has taken over was ready before the first
                        announcing.cancel()
                        announcing = lives.create_task(self._announce(self._generation, listener, on_ready))
            announcing.cancel()
            showing_life.cancel()
            keeping.cancel()
            listener.close()
            for generation in self._lives:
                generation.drain(DRAIN)

    async def _recall(self, request_id: str) -> list[tuple[str, object]]:
        """What each worker remembers of a call, by its name; also those that drain."""
        answers = await asyncio.gather(*(generation.recall(request_id) for generation in self._lives))
        return [each for generation in answers for each in generation]

    async def _reload_for(self, _all: str) -> dict[str, object]:
        """Reload, and what became of it, for a command that waits."""
        asker: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._askers.append(asker)
        self._reload_asked.set()
        await first_of(asyncio.wait([asker]), self._ending.wait())
        outcome: dict[str, object] = to_builtins(asker.result() if asker.done() else _ENDED)
        return outcome

    async def _shadow_for(
        self, dsn: str, folder: Path, seconds: str, tell: Callable[[object], None], enough: asyncio.Event
    ) -> object:
        """Have live calls judged by the configuration as it is written now, too, for so long; nothing changes."""
        try:
            if self._shadowed:
                raise OperatorError("another `gateway reload --shadow` is under way; wait for its end")
            self._shadowed = True
            try:
                outcome = await self._shadow(dsn, folder, float(seconds), lambda kind: tell(to_builtins(kind)), enough)
            finally:
                self._shadowed = False
        except OperatorError as exc:
            log.error("shadow ended", faults=str(exc).splitlines())
            outcome = ShadowOutcome(faults=str(exc).splitlines())
        except Exception as exc:  # a fault of ours ends the shadow, not what serves
            log.error("shadow ended", exc_info=exc)
            outcome = ShadowOutcome(faults=[f"a fault of the gateway's own, {type(exc).__name__}; its log says more"])
        return to_builtins(outcome)

    async def _shadow(
        self, dsn: str, folder: Path, seconds: float, found: Found, enough: asyncio.Event
    ) -> ShadowOutcome:
        settings = cast("Callable[[], Settings]", self._reload)()
        now, generation = self._settings, self._generation
        require_reloadable(now, settings)
        if generation is None or not generation.was_ready:
            raise OperatorError("the gateway is starting; try again when it serves")
        keyring = cast("Keyring", settings.keyring)
        if keyring.key_ids != cast("Keyring", now.keyring).key_ids:  # they must fit the data
            await (await Store.open(dsn, keyring, size=1, name="gateway-supervisor")).close()
        path = folder / "shadow.sock"
        async with Shadow.running(now, settings, path=path, dsn=dsn, level=self._level, user=self._user) as shadow:
            generation.mirror(str(path))
            await shadow.wait_joined(generation.access.count, found)
            log.info("shadow", config=str(settings.path), seconds=seconds)
            ends, stopped = asyncio.create_task(self._ending.wait()), asyncio.create_task(enough.wait())
            following = asyncio.create_task(shadow.follow(found))
            drains = asyncio.create_task(generation.wait_drained())
            try:
                await asyncio.wait((ends, stopped, following, drains), timeout=seconds, return_when=FIRST_COMPLETED)
            finally:
                generation.mirror("")
                for task in (ends, stopped, drains, following):
                    task.cancel()
                outcomes = await asyncio.gather(ends, stopped, drains, following, return_exceptions=True)
            if isinstance(fault := outcomes[3], OperatorError):
                raise fault
            early = "by Ctrl-C" if enough.is_set() else ""
            if self._ending.is_set():
                early = "the gateway is stopping"
            if generation is not self._generation:
                early = "another configuration was taken over"
            compared = await shadow.report(found)
        log.info("shadow ended", calls=compared.calls, different=compared.different, missed=compared.missed)
        return ShadowOutcome(changed=changes(now, settings), early=early, compared=compared)

    async def _renew(self, begin: Callable[[Settings], Generation], dsn: str) -> Outcome:
        """Go over to the configuration as it is written now, or stay with the one before and say why."""
        try:
            settings = cast("Callable[[], Settings]", self._reload)()
            require_reloadable(self._settings, settings)
            make_log(settings, self._user)
            require_traces(settings)
            if settings.config.database.embedded:
                await self._make_room(settings)
            if not await self._database_answers():
                raise OperatorError(
                    "database.url: does not answer, and new workers know no token yet; reload when it does"
                )
            if cast("Keyring", settings.keyring).key_ids != cast("Keyring", self._settings.keyring).key_ids:
                await self._open_store(dsn, settings)
            if settings.nonces != self._settings.nonces:
                await _require_spreading(settings, dsn)
            fresh = begin(settings)
        except OperatorError as exc:
            log.error(_REFUSED, faults=str(exc).splitlines())
            return Outcome(faults=str(exc).splitlines())
        except Exception as exc:  # a fault of ours ends the reload, not what serves
            log.error(_REFUSED, exc_info=exc)
            return Outcome(faults=[f"a fault of the gateway's own, {type(exc).__name__}; its log says more"])
        await first_of(fresh.wait_ready(), fresh.wait_stumbled(), self._ending.wait())
        if not fresh.was_ready:
            fresh.kill()
            if self._ending.is_set():
                return _ENDED
            said = fresh.late or "a worker ended before it was ready; the lines of the log before this one say why"
            log.error(_REFUSED, faults=[said])
            return Outcome(faults=[fresh.late or "a worker ended before it was ready; the gateway's log says why"])
        changed = changes(self._settings, settings)
        before, self._generation, self._settings = cast("Generation", self._generation), fresh, settings
        fresh.serve()  # not before all of them can: one that is refused must have taken no connection
        longest = max((route.drain for route in before.settings.config.routes), default=0.0)
        before.drain(max(DRAIN, longest), successors=True)
        await first_of(before.wait_closed(), self._ending.wait())
        if not self._ending.is_set():
            log.info("reloaded", config=str(settings.path), workers=fresh.access.count, changed=changed)
            await self._warn(settings)
        keyring = cast("Keyring", settings.keyring)
        return Outcome(changed, keys=[key.hex() for key in (keyring.key_id, *(keyring.key_ids - {keyring.key_id}))])

    def _workers_of(self, settings: Settings) -> int:
        """How many workers of the access plane these settings ask for, unless the command line did."""
        return self._count or settings.config.server.workers

    async def _make_room(self, settings: Settings) -> None:
        """Wait until the embedded database has connections for workers of these settings beside those that are there.

        Raises OperatorError if it never will.
        """
        workers = self._workers_of(settings)
        require_room(settings, workers, self._started_for)
        room = room_in(self._started_for) - needed(settings, workers)
        while (
            len(self._lives) > 1 and not self._ending.is_set() and sum(each.connections for each in self._lives) > room
        ):
            await first_of(self._ending.wait(), asyncio.wait(self._lives.values(), return_when=FIRST_COMPLETED))

    def _status(self) -> str:
        return f"Serving {self._settings.config.server.public_url}"

    async def _announce(
        self, generation: Generation, listener: socket.socket, on_ready: Callable[[], None] | None
    ) -> None:
        await generation.wait_ready()
        config = self._settings.config
        log.info(
            "serving",
            listen=place_of(listener),
            public_url=config.server.public_url,
            admin=config.admin.listen,
            workers=generation.access.count,
            user=self._user.name if self._user else None,
            database="embedded" if config.database.embedded else "external",
        )
        memory.settle()
        self._manager.ready(self._status())
        if on_ready is not None:
            on_ready()

    def _end(self, signum: int) -> None:
        if not self._ending.is_set():
            log.info("stopping", signal=signal.Signals(signum).name, drain_seconds=DRAIN)
            self._manager.stopping()
            self._ending.set()
            if self._starting is not None:  # a start may wait long, for a lock or a recovery
                self._starting.cancel()
        elif self._lives:
            log.warning("stopping at once", signal=signal.Signals(signum).name)
            for generation in self._lives:
                generation.kill()

    def _certify(self, certificates: tuple[Certified, ...]) -> None:
        """Show these certificates from now on."""
        self._settings = replace(self._settings, certificates=certificates)
        if self._generation is not None:
            self._generation.certify(certificates)

    def _reopen(self) -> None:
        """Begin the access log's file anew, after it was moved away."""
        try:
            make_log(self._settings, self._user)
        except OperatorError as exc:
            log.error("the access log cannot be opened again; it goes on where it is", cause=str(exc))
        for generation in self._lives:
            generation.reopen()

    async def _health(self) -> Health:
        serving = self._generation
        return Health(
            workers=serving.access.count if serving else 0,
            workers_ready=serving.access.ready if serving else 0,
            authorization_workers=serving.authorization.count if serving else 0,
            authorization_workers_ready=serving.authorization.ready if serving else 0,
            database=await self._database_answers(),
            draining=self._ending.is_set(),
        )

    def _metrics(self, accept: str) -> tuple[bytes, str]:
        if self._generation is not None:
            for plane, workers in (
                ("access", self._generation.access),
                ("authorization", self._generation.authorization),
            ):
                WORKERS.set(workers.count, plane, "wanted")
                WORKERS.set(workers.ready, plane, "ready")
        return self._counts.exposed(accept)

    async def _database_answers(self) -> bool:
        if self._store is None:
            return False
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(_PROBE):
                await self._store.ping()
                return True
        return False


def _listen(settings: Settings) -> tuple[socket.socket, socket.socket]:
    """The public and the admin listener; the public one may have been opened before us. Raises OperatorError."""
    public, config = handed_over(), settings.config
    server = config.server
    if public is None:
        owner = worker_user(settings.data_dir, server.user) if isinstance(server.address, str) else None
        addresses = {"server.listen": server.address, "admin.listen": config.admin.address}
        listener, admin = listen(addresses, server.mode, owner)
        return listener, admin
    if not _is_at(public, server.address):
        log.warning(
            "the service manager's socket counts, not server.listen",
            listen=place_of(public),
            configured=config.server.listen,
            mend="write the same port or path in the socket unit and under [server]",
        )
    (admin,) = listen({"admin.listen": config.admin.address})
    return public, admin


def _is_at(sock: socket.socket, address: tuple[str, int] | str) -> bool:
    """Whether a socket listens at the port, or the path, of an address."""
    if sock.family == socket.AF_UNIX or isinstance(address, str):
        return bool(sock.getsockname() == address)
    return bool(sock.getsockname()[1] == address[1])


async def _require_spreading(settings: Settings, dsn: str) -> None:
    """Pass if the further databases of nonces are those that nonces are put into; some may be away. Raises
    OperatorError."""
    found = await spreading.look(dsn, settings.nonces)
    if found.faults:
        statements = tuple(statement for fault in found.faults for statement in fault.statements)
        raise OperatorError("\n".join(map(str, found.faults)), statements=statements)
    for advice in found.advice:
        log.warning("configuration", advice=advice)
    for away in found.away:
        log.warning("a database of nonces is away; calls whose nonces belong there get 503", cause=str(away))


@asynccontextmanager
async def _database(settings: Settings, connections: int) -> AsyncIterator[str]:
    """The DSN to use: an external one as it is, or the embedded server's, started and migrated."""
    if settings.database_url is not None:
        await require_privileges(settings.database_url)
        yield settings.database_url
        return
    server = Server(
        settings.data_dir,
        user=settings.config.server.user,
        options=(f"max_connections={connections}",),
        on_death=lambda status: log.error("the embedded database ended and is started again", status=status),
        on_failure=lambda exc: log.error("the embedded database cannot be started again yet", cause=str(exc)),
        on_ready=lambda pid: log.debug("the embedded database is ready", database_pid=pid),
    )
    async with server:
        await migrate(server.dsn)
        yield server.dsn


def _count_reload(outcome: Outcome) -> None:
    refused = bool(outcome.faults)
    RELOADS.add(1.0, "refused" if refused else "done")
    RELOAD_REFUSED.set(refused)
    if not refused:
        CONFIGURED_AT.set(time.time())


@asynccontextmanager
async def _served(app: web.Application, sock: socket.socket) -> AsyncIterator[None]:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.SockSite(runner, sock).start()
        yield
    finally:
        await runner.cleanup()
