"""A standby that follows a Postgres of the tests by streaming replication; a test may pause, kill or promote it."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from gateway.store.pool import Connection
from gateway.supervisor.cluster import Cluster
from gateway.supervisor.programs import ENVIRONMENT, binaries_for, launcher
from tests.conftest import new_data_dir
from tests.serving import until

_ACCESS = "local replication all peer map=gateway\nlocal all all peer map=gateway\n"


class Standby:
    """A standby in a folder of its own. `dsn` leads to it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._process: subprocess.Popen[bytes] | None = None
        self.dsn = ""

    @classmethod
    @asynccontextmanager
    async def of(cls, primary: str) -> AsyncIterator["Standby"]:
        """One that follows the server at a DSN, an embedded one of this machine."""
        folder = new_data_dir()
        cluster = Cluster(folder / "data")
        standby = cls(cluster)
        try:
            await _let_replicate(primary)
            await asyncio.to_thread(standby._copy, primary)
            await standby.start()
            yield standby
        finally:
            standby.kill()
            shutil.rmtree(folder, ignore_errors=True)

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        await asyncio.to_thread(self._cluster.prepare)
        command = self._cluster.command(("fsync=off", "max_connections=400"))
        self._spawn(launcher(self._cluster.user, command, signal.SIGQUIT))
        await until(self._answers)

    def _spawn(self, argv: list[str]) -> None:
        log = self._cluster.open_log()
        try:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, cwd="/", env=ENVIRONMENT)
        finally:
            os.close(log)

    def kill(self) -> None:
        """End it at once, as a machine that is gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        """Send a signal to all its processes."""
        for pid in self._cluster.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    async def ask(self, sql: str, *args: object) -> Any:
        """The first column of the first row."""
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetchval(sql, *args)
        finally:
            await connection.close()

    async def catches_up(self, primary: str) -> None:
        """Wait until it has replayed what the primary has written by now."""
        connection: Connection = await asyncpg.connect(primary)
        try:
            written = await connection.fetchval("select pg_current_wal_lsn()::text")
        finally:
            await connection.close()

        async def has_replayed() -> bool:
            return await self.ask("select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", written) is True

        await until(has_replayed)

    async def _answers(self) -> bool:
        found = self._cluster.running()
        if found is None:
            return False
        self.dsn = self._cluster.dsn(found)
        try:
            return await self.ask("select pg_is_in_recovery()") is True
        except (OSError, asyncpg.PostgresError):
            return False

    def _copy(self, primary: str) -> None:
        cluster = self._cluster
        cluster.data_dir.mkdir()
        os.chown(cluster.data_dir, cluster.user.uid, cluster.user.gid)
        program = binaries_for(cluster.user) / "pg_basebackup"
        argv = [str(program), "--pgdata", str(cluster.folder), "--dbname", primary, "--write-recovery-conf"]
        done = subprocess.run(
            launcher(cluster.user, [*argv, "--checkpoint=fast", "--wal-method=stream", "--no-sync"], signal.SIGKILL),
            capture_output=True,
            check=False,
            text=True,
            cwd="/",
            env=ENVIRONMENT,
        )
        assert done.returncode == 0, done.stderr


async def _let_replicate(primary: str) -> None:
    """Let a server's own system user copy it and follow it. It keeps what a standby that has just begun has yet to
    fetch, which the checkpoint for the copy of the next one would remove."""
    connection = await asyncpg.connect(primary)
    try:
        await connection.execute("alter system set wal_keep_size = '256MB'")
        Path(await connection.fetchval("show hba_file")).write_text(_ACCESS)
        await connection.execute("select pg_reload_conf()")
    finally:
        await connection.close()
