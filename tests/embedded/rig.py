"""Processes that use an embedded database as commands and supervisors do, and what is left of them."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil

from tests.serving import ROOT, until

OWNER = """
import asyncio, sys
from pathlib import Path
from gateway.faults import OperatorError
from gateway.supervisor import embedded

async def main():
    async with embedded.{door}(Path(sys.argv[1])) as opened:
        print(opened if isinstance(opened, str) else opened.dsn, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

try:
    asyncio.run(main())
except OperatorError as exc:
    sys.exit(str(exc))
"""


class Owner:
    """A process that uses the database of a folder until its standard input ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def dsn(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    async def end(self) -> tuple[int, str]:
        """Let it end in order; its exit status and what it said on stderr."""
        _, err = await self.process.communicate(b"")
        return self.process.returncode or 0, err.decode()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it ended by itself
            self.process.kill()
        await self.process.communicate()


@asynccontextmanager
async def started(folder: Path, door: str = "running") -> AsyncIterator[Owner]:
    """`running` joins or starts like a command, `Server` owns like a supervisor."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER.format(door=door), str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    owner = Owner(process)
    try:
        yield owner
    finally:
        if process.returncode is None:
            await owner.kill()


@asynccontextmanager
async def joining(first: Owner, folder: Path) -> AsyncIterator[Owner]:
    """A second one, that comes when the first has the database."""
    await first.dsn()
    async with started(folder) as owner:
        yield owner


def left(folder: Path) -> list[str]:
    """The processes that have to do with a folder: Postgres, its backends and keepers."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            ours = str(folder) in line and process.pid != os.getpid()
            if ours or (process.name() == "postgres" and process.cwd() == str(folder / "postgres")):
                found.append(f"{process.pid} {line}")
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def nothing_left(folder: Path) -> None:
    await until(lambda: not left(folder))


async def fetch(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
