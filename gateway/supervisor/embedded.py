"""The embedded Postgres: who may use it, who owns it, and what happens when one of them ends.

A server always has an *owner*, its parent process, and dies with it. Under `serve` the owner is the supervisor
(`Server`). For commands it is a keeper, a small process that stops the server when nobody uses it any more, so that
the command that started it may end before another that joined. Three lock files (flock) in `data_dir` say the rest,
and the kernel frees them however a process ends:

    turn    exclusive    held while somebody joins, starts or stops, so that these happen one after another
    users   shared       held by whoever uses the server; the keeper waits for it exclusively, then stops the server
    owner   exclusive    held by the owner; it says who that is

    no owner, no server ── join ─→ keeper starts ── last user leaves ─→ keeper stops it
                        ── Server ─→ supervisor starts, starts it again when it dies, stops it at its own end
    keeper, Server comes ─→ it takes the turn, so nobody joins; waits for the users to leave; starts its own
    no owner, a server   ─→ its owner was killed; it is shutting down: wait for its end, then start
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from gateway.faults import OperatorError
from gateway.supervisor.cluster import Cluster, Running, make_data_dir, open_owned
from gateway.supervisor.programs import ENVIRONMENT, keeper, launcher, unreachable
from gateway.supervisor.users import system_user_for

_STEP: Final = 0.01
_TURN_PATIENCE: Final = 120.0
_START_PATIENCE: Final = 300.0  # recovery after a crash reads up to max_wal_size
_LEAVE_PATIENCE: Final = 10.0  # how long the end of `serve` waits for commands in flight
_STOP_PATIENCE: Final = 20.0
_PAUSE: Final = 0.5


def is_reachable(data_dir: Path) -> bool:
    """Whether the system user that would run Postgres can reach `data_dir` or the folder it is to be made in."""
    if os.geteuid() != 0:
        return True
    standing = next(path for path in (data_dir, *data_dir.parents) if os.path.exists(path))  # noqa: PTH110  # Path raises
    return unreachable(system_user_for(data_dir), [standing]) is None


def is_there(data_dir: Path, user: str = "") -> bool:
    """Whether there is a database in `data_dir`. Raises OperatorError where it cannot be seen."""
    cluster = Cluster(data_dir, user)
    return cluster.folder.exists() or cluster.successor.exists()


class _Locks:
    """The three lock files of a data_dir, as one process holds them."""

    def __init__(self, cluster: Cluster) -> None:
        make_data_dir(cluster.data_dir, cluster.user)
        self.paths = {name: cluster.data_dir / f"postgres.{name}.lock" for name in ("turn", "users", "owner")}
        self._files = {name: open_owned(path, os.O_RDWR, cluster.user) for name, path in self.paths.items()}

    def close(self) -> None:
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def take(self, name: str, how: int = fcntl.LOCK_EX) -> bool:
        """Take a lock if it is free now."""
        try:
            fcntl.flock(self._files[name], how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self, name: str) -> None:
        fcntl.flock(self._files[name], fcntl.LOCK_UN)

    def is_held_by_others(self, name: str) -> bool:
        """Whether another process holds a lock; only for those that this process does not hold."""
        free = self.take(name)
        if free:
            self.release(name)
        return not free

    def is_last_user(self) -> bool:
        """Whether nobody but the keeper, which waits for that, has the users' lock; for one that has released it."""
        free = self.take("users") or not self.take("users", fcntl.LOCK_SH)
        self.release("users")
        return free

    def owner(self) -> str:
        """The owner's note about itself: `supervisor PID` or `keeper PID`."""
        return os.pread(self._files["owner"], 100, 0).decode(errors="replace").strip()

    def sign(self) -> None:
        os.ftruncate(self._files["owner"], 0)
        os.pwrite(self._files["owner"], f"supervisor {os.getpid()}\n".encode(), 0)

    async def take_soon(self, name: str, how: int = fcntl.LOCK_EX, patience: float = _TURN_PATIENCE) -> bool:
        """Take a lock, waiting for it in small steps; False when it did not become free in time."""
        return await _until(lambda: self.take(name, how), patience)


async def _until(condition: Callable[[], object], patience: float) -> bool:
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_STEP)
    return True


class Use:
    """One use of the database in `data_dir`: `join` it, `leave` it. For commands and tests; see `running`.

    `options` are NAME=VALUE settings of Postgres; they count for the one that starts it. `user` is `server.user`.
    """

    def __init__(self, data_dir: Path, *, user: str = "", options: Sequence[str] = ()) -> None:
        self._cluster = Cluster(data_dir, user)
        self._options = tuple(options)
        self._locks: _Locks | None = None

    async def join(self) -> str:
        """The DSN of the running server, started if none runs. Raises OperatorError."""
        locks = self._locks = _Locks(self._cluster)
        try:
            if not await locks.take_soon("turn"):
                raise self._cluster.fault(
                    f"another process has been starting or stopping it for {_TURN_PATIENCE:.0f} s"
                )
            if not await locks.take_soon("users", fcntl.LOCK_SH):
                raise self._cluster.fault(f"it has been shutting down for {_TURN_PATIENCE:.0f} s")
            server = await self._ready(locks)
            locks.release("turn")
        except BaseException:
            self._locks = None
            locks.close()
            raise
        return self._cluster.dsn(server)

    async def leave(self) -> None:
        """End the use; the last one waits until the server has stopped."""
        locks, self._locks = self._locks, None
        if locks is None:
            return
        try:
            locks.release("users")
            # Whoever has the turn now joins or stops it anyway; and the keeper watches by itself.
            if locks.take("turn") and locks.is_last_user():
                await _until(lambda: not locks.is_held_by_others("owner"), _STOP_PATIENCE)
        finally:
            locks.close()

    async def _ready(self, locks: _Locks) -> Running:
        """The server when it is ready; an owner that died is replaced, but a start that fails is not repeated."""
        deadline = time.monotonic() + _START_PATIENCE
        offset, started = 0, False
        while time.monotonic() < deadline:
            if locks.is_held_by_others("owner"):
                server = self._cluster.running()
                if server is not None and server.ready:
                    return server
            elif started:
                raise self._cluster.fault(
                    f"Postgres did not start: {self._cluster.last_words(offset)}; see {self._cluster.log}"
                )
            else:
                await asyncio.to_thread(self._cluster.await_end_of_strays)
                await asyncio.to_thread(self._cluster.prepare)
                offset, started = self._cluster.log.stat().st_size, True
                await asyncio.to_thread(self._start_keeper, locks)
            await asyncio.sleep(_STEP)
        raise self._cluster.fault(f"Postgres is not ready after {_START_PATIENCE:.0f} s; see {self._cluster.log}")

    def _start_keeper(self, locks: _Locks) -> None:
        cluster = self._cluster
        argv = keeper(
            cluster.user, locks.paths["owner"], locks.paths["users"], cluster.log, cluster.command(self._options)
        )
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT,
            cwd="/", check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise self._cluster.fault(f"Postgres did not start: {done.stderr.decode(errors='replace').strip()[-200:]}")


@asynccontextmanager
async def running(data_dir: Path, *, user: str = "", options: Sequence[str] = ()) -> AsyncIterator[str]:
    """The DSN of the database in `data_dir` for as long as a command needs it. Raises OperatorError.

    It joins the server that runs there or starts one; the last user stops it, unless `serve` owns it.
    """
    use = Use(data_dir, user=user, options=options)
    dsn = await use.join()
    try:
        yield dsn
    finally:
        await use.leave()


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a child when it has one; whatever loop runs, and without a thread that waits."""
    try:
        watch = os.pidfd_open(process.pid)
    except OSError:  # an old kernel
        await _until(lambda: process.poll() is not None, float("inf"))
        return process.wait()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(watch, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(watch)
        os.close(watch)
    return process.wait()


def _nothing(_: object) -> None:
    return None


class Server:
    """The supervisor's own server: a direct child that is started again whenever it dies.

    An async context manager, to be entered from the main thread's loop (the child dies with its spawning thread).
    `on_death` gets the exit status (negative: the signal), `on_ready` the pid, at the first start
    too, `on_failure` the reason why it could not be started again; that is tried until it succeeds.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        user: str = "",
        options: Sequence[str] = (),
        on_death: Callable[[int], object] = _nothing,
        on_ready: Callable[[int], object] = _nothing,
        on_failure: Callable[[Exception], object] = _nothing,
        cluster: Cluster | None = None,
    ) -> None:
        self._cluster = cluster or Cluster(data_dir, user)
        self._options = tuple(options)
        self._on_death, self._on_ready, self._on_failure = on_death, on_ready, on_failure
        self._locks: _Locks | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._respawning: asyncio.Task[None] | None = None
        self.dsn = ""

    @property
    def pid(self) -> int | None:
        """The postmaster, or None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    async def __aenter__(self) -> Self:
        """Own the data_dir and start. Raises OperatorError, also when another supervisor owns it."""
        locks = self._locks = _Locks(self._cluster)
        try:
            await self.own(locks)
            await self.start()
            locks.release("turn")
        except BaseException:
            await self.kill()
            locks.close()
            raise
        self._respawning = asyncio.create_task(self._respawn(), name="embedded-postgres")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait a while for commands in flight, then shut down; ends with no process left."""
        locks, task = self._locks, self._respawning
        if locks is None or task is None:
            return
        try:
            locks.release("users")
            if await locks.take_soon("turn", patience=_LEAVE_PATIENCE):
                await locks.take_soon("users", patience=_LEAVE_PATIENCE)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await self.kill()
            locks.close()
            self._locks = None

    async def own(self, locks: _Locks) -> None:
        """Take turn, owner and users. Commands under way may finish; another supervisor is an error."""
        if not await locks.take_soon("turn"):
            raise self._cluster.fault(f"other processes have been starting or stopping it for {_TURN_PATIENCE:.0f} s")
        if not locks.take("owner") and locks.owner().startswith("supervisor"):
            raise self._cluster.fault(
                f"another gateway (pid {locks.owner().split()[-1]}) serves from it; "
                "stop that one or choose another data_dir"
            )
        if not await locks.take_soon("owner"):
            raise self._cluster.fault(
                f"commands have been using it for {_TURN_PATIENCE:.0f} s; end them and start again"
            )
        locks.sign()
        locks.take("users", fcntl.LOCK_SH)

    async def start(self) -> None:
        """Start the server once, and wait until it is ready. Raises OperatorError."""
        cluster = self._cluster
        await asyncio.to_thread(cluster.await_end_of_strays)
        await asyncio.to_thread(cluster.prepare)
        offset = cluster.log.stat().st_size
        self._process = process = self._spawn()
        deadline = time.monotonic() + _START_PATIENCE
        while True:
            server = cluster.running()
            if server is not None and server.ready and server.pid == process.pid:
                break
            if process.poll() is not None:
                raise self._cluster.fault(f"Postgres did not start: {cluster.last_words(offset)}; see {cluster.log}")
            if time.monotonic() > deadline:
                raise self._cluster.fault(f"Postgres is not ready after {_START_PATIENCE:.0f} s; see {cluster.log}")
            await asyncio.sleep(_STEP)
        self.dsn = cluster.dsn(server)
        self._on_ready(process.pid)

    def _spawn(self) -> subprocess.Popen[bytes]:
        """The child, in one step without an await, so that no cancellation loses it."""
        log = self._cluster.open_log()
        try:
            return subprocess.Popen(
                launcher(self._cluster.user, self._cluster.command(self._options)),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT, cwd="/",
            )  # fmt: skip
        finally:
            os.close(log)

    async def _respawn(self) -> None:
        """Start it again whenever it dies, at once, however often; pause only when a start itself fails."""
        while self._process is not None:
            self._on_death(await _ended(self._process))
            while True:
                try:
                    await self.start()
                    break
                except (OperatorError, OSError) as exc:  # an OSError: no memory or process to be had
                    self._on_failure(exc)
                    await asyncio.sleep(_PAUSE)

    async def kill(self) -> None:
        """Fast shutdown, immediate shutdown when that takes too long."""
        process = self._process
        if process is None:
            return
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(how)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_ended(process), _STOP_PATIENCE)
                return


@asynccontextmanager
async def alone(cluster: Cluster) -> AsyncIterator[None]:
    """A time in which no other process starts, joins or stops a server of that data_dir. Raises OperatorError."""
    owner = Server(cluster.data_dir, cluster=cluster)
    locks = _Locks(cluster)
    try:
        await owner.own(locks)
        await asyncio.to_thread(cluster.await_end_of_strays)
        yield
    finally:
        locks.close()


@asynccontextmanager
async def started(cluster: Cluster) -> AsyncIterator[str]:
    """The DSN of a server on a cluster, for who is alone with it. Raises OperatorError."""
    server = Server(cluster.data_dir, cluster=cluster)
    try:
        await server.start()
        yield server.dsn
    finally:
        await server.kill()
