"""A real gateway for a test: `gateway serve` as a process with its own configuration, ports and database."""

import asyncio
import base64
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = (sys.executable, "-m", "gateway")
RUN = "GATEWAY_TEST_DATABASE"  # names the folder of a run of the tests, with its server in it
PATIENCE = 120.0
_OWN_LOAD = 3.0  # tasks for each CPU that the tests make by themselves
MASTER_KEY = base64.b64encode(b"obviously-a-fake-key-for-tests!!").decode()  # that of the fixture `keyring` too


class NotServing(AssertionError):
    """The gateway ended, or was not ready in time; the message holds what it said."""


async def until(
    condition: Callable[[], object | Awaitable[object]], patience: float = PATIENCE, *, pause: float = 0.02
) -> None:
    """Wait until `condition` holds; it fails with TimeoutError after `patience` seconds.

    What is dear to ask, as which processes there are, is asked more seldom: what is waited for needs the CPU. With a
    `pause` of 0 it is asked again at once, as what does something itself.
    """
    async with asyncio.timeout(patience):
        while True:
            asked = time.thread_time()
            held = condition()
            if isinstance(held, Awaitable):
                held = await held
            if held:
                return
            await asyncio.sleep(pause and min(max(pause, 10 * (time.thread_time() - asked)), 0.2))


def crowding() -> float:
    """How many times longer whatever a test bounds by the clock may take for all else that the machine does: from 1.

    What may never happen, as that a revoked token passes, is bounded without it.
    """
    return max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)) / _OWN_LOAD)


def is_past(moment: float) -> bool:
    """Whether that moment of the monotonic clock is over."""
    return time.monotonic() > moment


async def holds_within(seconds: float, condition: Callable[[], Awaitable[object]]) -> None:
    """Ask until `condition` holds. It must where it is asked after so many seconds, however long the answer takes.

    So it is bounded what may still happen then, and not how soon a busy machine lets the test hear of it.
    """
    ends = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if await condition():
            return
        assert asked < ends, f"not even after {asked - ends + seconds:.2f} s"
        await asyncio.sleep(0.002)


_MOST_HELD = 200
_held: deque[socket.socket] = deque()  # the latest of the ports that were given out


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens, for programs that are told where to.

    A socket that is bound and does not listen keeps the system from giving them to anybody else until they are used:
    Linux lets others who set SO_REUSEADDR, as servers do, listen there all the same.
    """
    socks = [socket.socket() for _ in range(count)]
    for sock in socks:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
    _held.extend(socks)
    while len(_held) > _MOST_HELD:
        _held.popleft().close()
    return [sock.getsockname()[1] for sock in socks]


@contextlib.contextmanager
def hung(postmaster: psutil.Process) -> Iterator[None]:
    """A database that hangs: its processes live, hold their connections, and answer nothing."""
    postmaster.suspend()  # first: from then on there are no new ones
    processes = [postmaster]
    for backend in postmaster.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            backend.suspend()
            processes.append(backend)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


def toml(tables: Mapping[str, object]) -> str:
    """A configuration file of these tables; JSON's strings and arrays are TOML's."""

    def value(of: object) -> str:
        if isinstance(of, Mapping):
            return "{ " + ", ".join(f"{json.dumps(key)} = {value(item)}" for key, item in of.items()) + " }"
        if isinstance(of, list | tuple):
            return "[" + ", ".join(map(value, of)) + "]"
        return json.dumps(of)

    return "".join(f"{json.dumps(key)} = {value(of)}\n" for key, of in tables.items())


@dataclass
class Gateway:
    """A gateway that serves, and what a test wants of it."""

    url: str
    admin_url: str
    config: Path
    data_dir: Path
    process: asyncio.subprocess.Process
    stderr: Path
    count: int  # of workers
    program: Sequence[str] = PROGRAM
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def log_text(self) -> str:
        """All that it wrote on stderr so far."""
        return self.stderr.read_text()

    @property
    def logs(self) -> list[dict[str, Any]]:
        """The lines on stderr; it fails when one is not JSON."""
        text = self.log_text
        if self.process.returncode is None:  # the last one may be on its way
            text = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in text.splitlines()]

    @property
    def children(self) -> list[psutil.Process]:
        """Every process below the supervisor."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    @property
    def workers(self) -> list[psutil.Process]:
        """The workers of the access plane that live now."""
        return self._workers("access")

    @property
    def authorization_workers(self) -> list[psutil.Process]:
        """The workers of the authorization plane that live now."""
        return self._workers("authorization")

    def _workers(self, plane: str) -> list[psutil.Process]:
        return [child for child in self.children if {"worker", plane} <= {*command_line(child)}]

    @property
    def postgres(self) -> psutil.Process:
        """The embedded server."""
        [server] = self.postgres_if_any
        return server

    @property
    def postgres_if_any(self) -> list[psutil.Process]:
        """The same; nothing while there is none."""
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children()
            return [child for child in children if _name(child) == "postgres" and "-D" in command_line(child)]
        return []

    async def run(self, *arguments: str, text: str | None = None) -> Any:
        """What a command answers with --json; it fails unless the command succeeds."""
        process = await asyncio.create_subprocess_exec(
            *(*self.program, *arguments, "--json"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self.environment, "GATEWAY_CONFIG": str(self.config)},
            cwd=ROOT,
        )
        out, err = await process.communicate((text or "").encode())
        assert process.returncode == 0, f"gateway {' '.join(arguments)}: {err.decode()}"
        return json.loads(out)

    async def status(self, path: str, *, admin: bool = False) -> int:
        """The status that a fresh connection gets for a GET; 0 when there is no answer."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
                session.get((self.admin_url if admin else self.url) + path, allow_redirects=False) as answer,
            ):
                return answer.status
        return 0

    async def is_ready(self) -> bool:
        return await self.status("/readyz", admin=True) == 200

    async def replaced(self, *dead: psutil.Process) -> None:
        """Wait until others stand in the place of workers that were ended, and all are ready."""
        gone = {process.pid for process in dead}

        def complete() -> bool:
            alive = {worker.pid for worker in self.workers}
            others = {worker.pid for worker in self.authorization_workers}
            return len(alive) == self.count and bool(others) and not (alive | others) & gone

        await until(complete)
        await until(self.is_ready)

    async def stop(self, patience: float = PATIENCE) -> int:
        """SIGTERM, and the exit code; what has not ended in time is killed with all below it."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.process.wait(), patience)
        except TimeoutError:
            for child in [*self.children, psutil.Process(self.process.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            await self.process.wait()
            raise


def command_line(process: psutil.Process) -> list[str]:
    """Its arguments; none of one that has ended."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.cmdline()
    return []


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return process.name()
    return ""


@contextlib.contextmanager
def data_folder(folder: Path) -> Iterator[Path]:
    """A data_dir that an embedded database can use: root's must be where an unprivileged Postgres can go."""
    if os.geteuid() != 0:
        yield folder / "gateway-data"
        return
    reachable = Path(tempfile.mkdtemp(prefix="gateway-test-"))
    reachable.chmod(0o711)
    try:
        yield reachable / "data"
    finally:
        shutil.rmtree(reachable, ignore_errors=True)


def fill(data_dir: Path) -> None:
    """Make a data_dir that is not there yet as a first start leaves one: with its key and a migrated database.

    To copy one takes a tenth of the CPU of making one, which was a third of a gateway's start.
    """
    data_dir.mkdir()
    subprocess.run(["cp", "-a", f"{_filled()}/.", str(data_dir)], check=True)


def _filled() -> Path:
    """The folder that is copied, which whoever comes first has a command make."""
    run = Path(os.environ[RUN])
    with (run / "filled.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run / "filled").exists():
            config, _, _ = write_config(run, run / "filled.new")
            subprocess.run([*PROGRAM, "migrate", "--config", str(config)], check=True, capture_output=True, cwd=ROOT)
            for left in ("postgres.log", "socket"):
                subprocess.run(["rm", "-r", str(run / "filled.new" / left)], check=True)
            (run / "filled.new").rename(run / "filled")
    return run / "filled"


def write_key(path: Path, text: str = MASTER_KEY) -> Path:
    """A master key in a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    return path


def write_config(
    folder: Path,
    data_dir: Path,
    *,
    routes: Sequence[Mapping[str, object]] = (),
    dsn: str | None = None,
    workers: int = 2,
    issuers: Sequence[Mapping[str, object]] = (),
    **tables: Mapping[str, object],
) -> tuple[Path, str, str]:
    """A configuration file with free ports; gives it with the public and the admin URL.

    `tables` are merged over the file's own, by table: `tokens={"refresh_grace": "5s"}`.
    """
    public, admin = free_ports(2)
    url, admin_url = f"http://127.0.0.1:{public}", f"http://127.0.0.1:{admin}"
    content: dict[str, dict[str, object]] = {
        "server": {"listen": f"127.0.0.1:{public}", "public_url": url, "workers": workers},
        "admin": {"listen": f"127.0.0.1:{admin}"},
        "database": {"data_dir": str(data_dir), "url": dsn or "embedded"},
        "keys": {"master": {"file": str(data_dir / "master.key")}},
    }
    if dsn is not None:
        key = write_key(folder / "master.key")
        content["keys"] = {"master": {"file": str(key)}}
    for name, table in tables.items():
        content[name] = {**content.get(name, {}), **table}
    config = folder / "config.toml"
    text = "".join(f"[{name}]\n{toml(table)}\n" for name, table in content.items())
    text += "".join(f"[[issuers]]\n{toml(issuer)}\n" for issuer in issuers)
    config.write_text(text + "".join(f"[[routes]]\n{toml(route)}\n" for route in routes))
    config.chmod(0o600)
    return config, url, admin_url


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    routes: Sequence[Mapping[str, object]] = (),
    dsn: str | None = None,
    workers: int = 2,
    program: Sequence[str] = PROGRAM,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    issuers: Sequence[Mapping[str, object]] = (),
    **tables: Mapping[str, object],
) -> AsyncIterator[Gateway]:
    """A gateway that is ready, on an embedded database or on a migrated one at `dsn`; it ends with the context.

    Its first start is over, unless the test has a `data_dir` or a program of its own.
    """
    with data_folder(folder) as data_dir:
        if dsn is None and program == PROGRAM and "data_dir" not in tables.get("database", {}):
            await asyncio.to_thread(fill, data_dir)
        config, url, admin_url = write_config(
            folder, data_dir, routes=routes, dsn=dsn, workers=workers, issuers=issuers, **tables
        )
        env = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        env |= environment or {}
        stderr = folder / "stderr.log"
        with stderr.open("wb") as log, _told() as told:
            process = await asyncio.create_subprocess_exec(
                *(*program, "serve", "--config", str(config), *arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=log,
                env={"NOTIFY_SOCKET": f"@{told.getsockname()[1:].decode()}", **env},
                cwd=cwd,
            )
            gateway = Gateway(url, admin_url, config, data_dir, process, stderr, workers, program, env)
            try:
                await _await_ready(gateway, told)
            except BaseException:
                await gateway.stop()
                raise
        try:
            yield gateway
        finally:
            await gateway.stop()


@asynccontextmanager
async def on_every_worker(gateway: Gateway, each: int) -> AsyncIterator[list[aiohttp.ClientSession]]:
    """Clients of one connection each, which they keep: so many of them to each worker of the access plane.

    Which worker takes a new connection is chance, and on a busy machine one may take a hundred in a row.
    """
    async with contextlib.AsyncExitStack() as stack:
        found: dict[str, list[aiohttp.ClientSession]] = {}

        async def connect() -> bool:
            connector = aiohttp.TCPConnector(limit=1)
            session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
            await stack.enter_async_context(session)
            async with session.get(gateway.url, allow_redirects=False) as answer:
                await answer.read()
                found.setdefault(worker_of(answer), []).append(session)
            return len(found) == gateway.count and min(map(len, found.values())) >= each

        await until(connect, pause=0.0)
        yield [session for sessions in found.values() for session in sessions[:each]]


def worker_of(answer: aiohttp.ClientResponse) -> str:
    """The worker of the access plane that gave an answer, by the beginning of its X-Request-Id."""
    return answer.headers["X-Request-Id"][:16]


@contextlib.contextmanager
def _told() -> Iterator[socket.socket]:
    """What a gateway tells that it serves, as it tells a service manager. To ask it time and again takes CPU."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind("")  # a name of Linux's choice (unix(7), autobind)
        told.setblocking(False)
        yield told


async def _await_ready(gateway: Gateway, told: socket.socket) -> None:
    async def told_or_ended() -> None:
        words = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(told, 4096))
        ended = asyncio.ensure_future(gateway.process.wait())
        try:
            await asyncio.wait((words, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            words.cancel()
            ended.cancel()

    async def ready_or_ended() -> bool:
        return gateway.process.returncode is not None or await gateway.is_ready()

    try:
        async with asyncio.timeout(PATIENCE):
            await told_or_ended()
            await until(ready_or_ended)
    except TimeoutError:
        raise NotServing(f"not ready after {PATIENCE:.0f} s: {gateway.log_text}") from None
    if gateway.process.returncode is not None:
        raise NotServing(f"exit {gateway.process.returncode}: {gateway.log_text}")
